"""Where links and searches lead: a citation to its entry, a term of the glossary to the chapter that explains it.

And the records that pages link to are beside the pages.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

ENTRY = re.compile(
    r"^(\S.*)\n((?:(?:  .*)?\n)+)", re.M
)  # of the glossary: a term, then indented lines
CHAPTER = re.compile(r"[Ss]ee \[[^\]]*\]\((\w+)\)")


def explained(glossary: str) -> dict[str, str]:
    """{term in lower case: the chapter that its entry says to see}"""
    body = glossary.partition("```{glossary}\n")[2].partition("```")[0]
    return {
        term.lower(): found[-1]
        for term, text in ENTRY.findall(body)
        if (found := CHAPTER.findall(text))
    }


def entries_are_known(app: Sphinx, env: BuildEnvironment) -> None:
    """To MyST, whose links lead to headings alone: bibliography.md#key is the entry of that key."""
    if "cite" in env.domaindata and "book/bibliography" in env.found_docs:
        slugs = env.metadata["book/bibliography"].setdefault("myst_slugs", {})
        slugs |= {key: (0, key, "") for key in env.get_domain("cite").bibdata.data.entries}


def terms_for_search(app: Sphinx, page: str, template: str, context: Any, doctree: Any) -> None:
    """Scorer.js, which orders what a search finds, asks for them."""
    glossary = Path(app.srcdir, "book", "glossary.md")
    if page == "search" and glossary.is_file():
        terms = explained(glossary.read_text(encoding="utf-8"))
        app.add_js_file(None, body=f"const EXPLAINED = {json.dumps(terms, ensure_ascii=False)};")


def copy_records(app: Sphinx, error: Exception | None) -> None:
    """To where they are in a checkout, so that one link is right in both."""
    if error is None and app.builder.name == "html":
        for record in Path(app.srcdir, "book", "results").glob("*.json"):
            folder = Path(app.outdir, "book", "results")
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(record, folder)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("env-updated", lambda app, env: entries_are_known(app, env) or [])
    app.connect("html-page-context", terms_for_search)
    app.connect("build-finished", copy_records)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
