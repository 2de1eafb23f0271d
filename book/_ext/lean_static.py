"""MathJax beside the pages, so that formulas need no network; and no file that no page asks for."""

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def drop_other_bundles(app: Sphinx, error: Exception | None) -> None:
    """Keep the one script that pages load, and the folders of parts that it loads by itself.

    The other scripts beside it are the same parts bundled in other ways, 14 MB of them.
    """
    if error is None:
        script = Path(app.outdir, "_static", app.config.mathjax_path)
        for other in script.parent.glob("*.js"):
            if other.name != script.name:
                other.unlink()


def drop_source_maps(app: Sphinx, error: Exception | None) -> None:
    """Without the maps that a theme's developers debug its scripts and styles by: 3 MB."""
    if error is None:
        for source_map in Path(app.outdir, "_static").rglob("*.map"):
            source_map.unlink()


def drop_others_sources(app: Sphinx) -> list:
    """Source pages are of this package: viewcode also makes them of modules that it imports, and links to none."""
    modules = getattr(app.env, "_viewcode_modules", {})
    for module in [name for name in modules if name.partition(".")[0] != "equitutor"]:
        del modules[module]
    return []


def setup(app: Sphinx) -> dict[str, Any]:
    app.setup_extension("sphinx-mathjax-offline")
    app.connect("build-finished", drop_other_bundles, priority=900)  # after they were copied
    app.connect("build-finished", drop_source_maps, priority=900)
    app.connect("html-collect-pages", drop_others_sources, priority=400)  # before viewcode's own
    return {"parallel_read_safe": True, "parallel_write_safe": True}
