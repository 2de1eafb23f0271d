/* Chapters before the library's pages; and first the chapter that explains the term that is sought. */
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  score: ([page, title, anchor, description, score]) => {
    const plain = (text) => text.toLowerCase().replaceAll("λ", "lambda").replace(/[^a-z0-9]+/g, " ").trim();
    const sought = plain(new URLSearchParams(window.location.search).get("q") ?? "");
    const chapter = page.replace(/^book\//, "");
    if (description !== null) return score - 40; // a name in the library
    if (/^(book\/(api|changelog)$|_modules\/)/.test(page)) return score - 30;
    if (/^\d\d_/.test(chapter)) score += 20;
    if (typeof EXPLAINED === "undefined") return score;
    for (const [term, where] of Object.entries(EXPLAINED)) {
      if (where !== chapter) continue;
      if (plain(term) === sought || plain(term) + "s" === sought) return score + 200;
      if (plain(term).split(" ").includes(sought)) score += 30;
    }
    return score;
  },
};
