"""The book as one page, at the root of its folder, where its styles, pictures and scripts are."""

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def to_the_root(app: Sphinx, error: Exception | None) -> None:
    """Sphinx writes the page beside the first chapter, and all addresses in it as from the root."""
    if error is None and app.builder.name == "singlehtml":
        page = Path(app.outdir, f"{app.config.root_doc}.html")
        elsewhere = f'href="{app.config.root_doc}.html#'
        text = page.read_text(encoding="utf-8").replace(elsewhere, 'href="#')
        Path(app.outdir, "index.html").write_text(text, encoding="utf-8")
        page.unlink()


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", to_the_root, priority=900)  # after index.html was made a redirect
    return {"parallel_read_safe": True, "parallel_write_safe": True}
