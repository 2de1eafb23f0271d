"""Read, and so execute, the book in two processes: each chapter takes one thread, and none waits long."""

from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

#: They do not say whether pages may be read in parallel. They act before any is read, or after all are.
SILENT = ("sphinx-mathjax-offline", "sphinx_multitoc_numbering", "sphinx_jupyterbook_latex")


def deal(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Every other page to either process: Sphinx cuts the list into runs of neighbours."""
    docnames[:] = docnames[::2] + docnames[1::2]
    for name in app.extensions.keys() & set(SILENT):
        app.extensions[name].parallel_read_safe = True


def setup(app: Sphinx) -> dict[str, Any]:
    # Jupyter Book has no option for it; where it cannot fork, Sphinx reads one by one.
    app.parallel = 2
    app.connect("env-before-read-docs", deal)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
