/* A table that scrolls in its own box can be reached, and so scrolled, by the keyboard. */
function reachWideTables() {
  for (const table of document.querySelectorAll(".bd-article table"))
    if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
    else table.removeAttribute("tabindex");
}
window.addEventListener("load", reachWideTables);
window.addEventListener("resize", reachWideTables);
