"""Notebooks run by nbval from the built wheel, in an environment that mimics Colab, outside the checkout."""

import os
import subprocess
import sys

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
ALONE = ["--no-deps", "--no-index"]
# Runs when Python starts. Colab imports its own module before the first cell; and until the first
# cell has installed the package into PIP_TARGET there is none, whatever else is installed here.
STARTUP = """\
import os, sys
import google.colab

class Absent:
    def find_spec(self, name, path=None, target=None):
        folder = os.path.join(os.environ["PIP_TARGET"], "equitutor")
        if name == "equitutor" and not os.path.isdir(folder):
            raise ModuleNotFoundError(name)

if "PIP_TARGET" in os.environ:
    sys.meta_path.insert(0, Absent())
"""


def run(installed, folder, *words, colab=None, **variables):
    """Run python in a folder where equitutor comes from the wheel."""
    paths = [str(path) for path in (colab, installed) if path]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "EQUITUTOR_CACHE": str(folder / "cache"),
        **variables,
    }
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True
    )


#: A plugin for nbval's run: when it is over, the notebook in the folder holds what its cells put out.
KEEP = """\
import nbformat

def pytest_sessionfinish(session):
    for item in session.items:
        item.cell.outputs = item.test_outputs or []
    nbformat.write(session.items[0].parent.nb, "executed.ipynb")
"""


def nbval(installed, notebook, folder, keep=False, **options):
    """Run a copy of a notebook in a folder; with ``keep``, its outputs go into ``executed.ipynb``."""
    copy = folder / notebook.name
    copy.write_bytes(notebook.read_bytes())
    if keep:
        (folder / "conftest.py").write_text(KEEP)
    words = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--nbval-lax",
        "--nbval-cell-timeout=600",
    ]
    return run(installed, folder, *words, copy.name, **options)
