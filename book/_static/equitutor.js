/* A table that scrolls in its own box can be reached, and so scrolled, by the keyboard. */
function reachWideTables() {
  for (const table of document.querySelectorAll(".bd-article table"))
    if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
    else table.removeAttribute("tabindex");
}
window.addEventListener("load", reachWideTables);
window.addEventListener("resize", reachWideTables);

/* The bibliography is a list of which the entries' own role, doc-biblioentry, makes no items. */
window.addEventListener("load", () => {
  for (const entry of document.querySelectorAll(".citation-list > .citation"))
    entry.setAttribute("role", "listitem");
});
