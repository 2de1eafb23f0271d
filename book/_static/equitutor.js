/* A number stays with its spread where the table has the room. One that scrolls in its own box can be reached, and
   so scrolled, by the keyboard. */
function fitTables() {
  for (const table of document.querySelectorAll(".bd-article table")) {
    const wide = () => table.scrollWidth > table.clientWidth + 1; // half a pixel is rounded up
    table.classList.add("equitutor-roomy");
    if (wide()) table.classList.remove("equitutor-roomy");
    if (wide()) table.tabIndex = 0;
    else table.removeAttribute("tabindex");
  }
}
window.addEventListener("load", fitTables);
window.addEventListener("resize", fitTables);

/* The bibliography is a list of which the entries' own role, doc-biblioentry, makes no items. */
window.addEventListener("load", () => {
  for (const entry of document.querySelectorAll(".citation-list > .citation"))
    entry.setAttribute("role", "listitem");
});

/* A formula stays with the bracket before it and the point after it: a line does not break there. */
window.addEventListener("DOMContentLoaded", () => {
  for (const formula of document.querySelectorAll(".bd-article span.math")) {
    const { previousSibling: before, nextSibling: after } = formula;
    const found = (node, marks) => (node?.nodeType === Node.TEXT_NODE && marks.exec(node.data)?.[0]) || "";
    const start = found(before, /[(\[“]+$/), end = found(after, /^[.,;:!?)\]’”-]+/);
    if (!start && !end) continue;
    const kept = document.createElement("span");
    kept.className = "equitutor-kept";
    formula.replaceWith(kept);
    kept.append(start, formula, end);
    if (start) before.data = before.data.slice(0, -start.length);
    if (end) after.data = after.data.slice(end.length);
  }
});

/* Nor does it break within an option of a command, after its dashes. */
window.addEventListener("DOMContentLoaded", () => {
  const codes = document.querySelectorAll(
    ".bd-article :is(:not(pre) > code, .highlight-default pre, th:has(> [id^='run-']) + th)"
  );
  for (const code of codes)
    code.innerHTML = code.innerHTML.replace(/--[a-z][\w-]*/g, '<span class="equitutor-kept">$&</span>');
});

/* Nor after the one letter of λ-equitune, R-EquiLM or G-LSTM: a word joiner follows the hyphen. */
window.addEventListener("DOMContentLoaded", () => {
  const texts = document.createTreeWalker(document.querySelector(".bd-article") ?? document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode())
    if (!texts.currentNode.parentElement.closest("pre, code, script, style, .math"))
      texts.currentNode.data = texts.currentNode.data.replace(/(?<!\S)([A-Zλ]-)(?=[A-Za-z])/g, "$1\u2060");
});

/* Figures are drawn to be read at a little more than half their size, or larger: a page of narrow columns.
   Most then fit a phone. */
function readableFigures() {
  for (const image of document.querySelectorAll(".bd-article .cell_output img")) {
    const least = 0.55 * image.naturalWidth;
    let box = image.closest(".equitutor-wide");
    if (!box) {
      box = document.createElement("div");
      box.className = "equitutor-wide";
      image.replaceWith(box);
      box.append(image);
    }
    const wide = least > box.clientWidth;
    image.style.minWidth = wide ? `${least}px` : "";
    if (wide) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
window.addEventListener("load", readableFigures);
window.addEventListener("resize", readableFigures);

/* The theme's scripts know the first button of each kind alone, and that one is in a header that is not shown. */
window.addEventListener("load", () => {
  for (const kind of ["primary", "secondary"]) {
    const [first, ...shown] = document.querySelectorAll(`.${kind}-toggle`);
    const bar = document.getElementById(`pst-${kind}-sidebar`);
    for (const button of shown) {
      button.setAttribute("aria-label", first.getAttribute("aria-label"));
      button.addEventListener("click", () => {
        first.click();
        if (!document.querySelector("dialog[open]"))
          button.setAttribute("aria-expanded", !bar.classList.contains("pst-sidebar-hidden"));
      });
    }
  }
});

/* A button is called by what it does. */
window.addEventListener("load", () => {
  for (const button of document.querySelectorAll("button.copybtn"))
    button.setAttribute("aria-label", "Copy this code");
});

/* The arrows lead to the previous and the next page, unless something has the focus that they move. */
document.addEventListener("keydown", (event) => {
  const way = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  if (!way || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (document.activeElement !== document.body) return;
  const link = document.querySelector(`link[rel="${way}"]`);
  if (link) window.location.href = link.href;
});
