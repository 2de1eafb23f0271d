/* A chapter as slides, made from its own page: headings, formulas, figures, code and outputs stay, a paragraph is cut
   to what it prints in bold or to its first sentence. The address ends in #slides; the arrows turn, Escape leaves. */
(() => {
  const SMALLEST = 0.5; // to which what is too large for a slide is scaled; then it scrolls
  const SENTENCE = /(?<!\b(?:eqs?|Figs?|Secs?|al|vs|e\.g|i\.e))[.?!](?=\s+[A-Z(“"]|\s*$)/;
  const LEFT_OUT = ".tag_hide-cell, .toctree-wrapper, table.longtable";
  let slides = [], at = 0, before = "";

  const article = () => document.querySelector(".bd-article");
  const on = () => document.body.classList.contains("slides");

  /* Hide what comes after the first sentence of an element, or beside its sentences in bold. */
  function shorten(element) {
    if (element.querySelector(".slides-rest")) return;
    const hide = (nodes) => {
      const rest = document.createElement("span");
      rest.className = "slides-rest";
      nodes[0].before(rest);
      rest.append(...nodes);
    };
    const bold = [...element.children].filter((e) => e.matches("strong") && /[.?!:]$/.test(e.textContent));
    if (bold.length) {
      for (const node of [...element.childNodes]) if (!bold.includes(node)) hide([node]);
      return;
    }
    const nodes = [...element.childNodes];
    for (const [k, node] of nodes.entries()) {
      if (node.nodeType !== Node.TEXT_NODE) continue;
      const end = SENTENCE.exec(node.data);
      if (!end) continue;
      const rest = node.splitText(end.index + 1);
      const others = [rest, ...nodes.slice(k + 1)].filter((n) => n.nodeType !== Node.TEXT_NODE || n.data.trim());
      if (others.length) hide([rest, ...nodes.slice(k + 1)]);
      return;
    }
  }

  const isSetup = (block) => /^\s*preset = /.test(block.textContent) && block.matches(".cell");
  const isNote = (block) => /^(Time:|You need|Next:)/.test(block.textContent) && block.matches("p");

  /* A block, or the code and the output of a cell that is too high for both. */
  const parts = (block, room) =>
    block.offsetHeight > room && block.matches(".cell:has(> .cell_input):has(> .cell_output)")
      ? [[block, "cell_input"], [block, "cell_output"]]
      : [[block, ""]];

  /* [[[heading, ""], [block, part], ...], ...], each as high as the screen allows. */
  function divide() {
    slides = [];
    const room = window.innerHeight * 0.8;
    for (const section of article().querySelectorAll("section")) {
      const [heading, ...others] = section.children;
      if (!heading || !/^H\d$/.test(heading.tagName)) continue;
      const blocks = others.filter((b) => !b.matches(`section, ${LEFT_OUT}`) && !isSetup(b) && !isNote(b));
      let slide = null, height = 0;
      for (const block of blocks) {
        for (const text of block.matches("p") ? [block] : block.querySelectorAll("li > p, blockquote > div > p"))
          shorten(text);
        if (!block.offsetHeight) continue;
        for (const [element, part] of parts(block, room)) {
          const high = (part ? element.querySelector(`:scope > .${part}`) : element).offsetHeight;
          if (!slide || height + high > room) {
            slides.push((slide = [[heading, ""]]));
            height = heading.offsetHeight;
          }
          slide.push([element, part]);
          height += high;
        }
      }
    }
  }

  function show(k) {
    at = Math.max(0, Math.min(k, slides.length - 1));
    for (const shown of article().querySelectorAll(".slides-now")) shown.classList.remove("slides-now");
    for (const [element, part] of slides[at]) {
      element.classList.add("slides-now");
      if (part) element.dataset.slides = part;
      else delete element.dataset.slides;
    }
    const page = article();
    page.style.zoom = 1;
    page.style.zoom = Math.max(SMALLEST, Math.min(1, (0.92 * window.innerHeight) / page.scrollHeight));
    document.querySelector(".slides-count").textContent = `${at + 1} / ${slides.length}`;
    window.scrollTo(0, 0);
  }

  function begin() {
    if (on()) return;
    before = document.title;
    document.body.classList.add("slides", "slides-measured");
    divide();
    document.body.classList.remove("slides-measured");
    const count = document.createElement("div");
    count.className = "slides-count";
    count.setAttribute("role", "status");
    document.body.append(count);
    show(0);
  }

  function end() {
    if (!on()) return;
    const [[heading]] = slides[at];
    document.body.classList.remove("slides");
    document.querySelector(".slides-count").remove();
    for (const shown of article().querySelectorAll(".slides-now")) shown.classList.remove("slides-now");
    for (const rest of article().querySelectorAll(".slides-rest")) rest.replaceWith(...rest.childNodes);
    article().normalize();
    article().style.zoom = "";
    history.replaceState(null, "", window.location.pathname);
    heading.scrollIntoView();
  }

  const STEPS = { ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1, Home: -Infinity, End: Infinity };
  document.addEventListener(
    "keydown",
    (event) => {
      if (!on() || event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.target.matches?.("input, button, summary") && event.key !== "Escape") return;
      if (event.key === "Escape") end();
      else if (event.key in STEPS) show(at + STEPS[event.key]);
      else return;
      event.preventDefault();
      event.stopPropagation(); // the page's own arrows turn whole pages
    },
    true,
  );
  window.addEventListener("resize", () => on() && show(at));
  window.addEventListener("hashchange", () => (window.location.hash === "#slides" ? begin() : end()));

  window.addEventListener("load", () => {
    const buttons = document.querySelector(".article-header-buttons");
    if (!/\/book\/\d\d_\w+\.html$/.test(window.location.pathname) || !buttons) return;
    const link = document.createElement("a");
    link.className = "btn btn-sm";
    link.href = "#slides";
    link.title = link.ariaLabel = "Show this chapter as slides: arrows turn, Escape leaves";
    link.innerHTML = '<i class="fas fa-chalkboard" aria-hidden="true"></i>';
    buttons.prepend(link);
    const ready = window.MathJax?.startup?.promise ?? Promise.resolve();
    if (window.location.hash === "#slides") ready.then(begin);
  });
})();
