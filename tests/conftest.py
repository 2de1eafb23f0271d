import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock
from nbruns import ALONE, PIP, STARTUP, nbval

# Two workers share the machine: one thread each is faster than two that wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
# An old ipykernel's debugger would warn of Python's frozen modules, in the midst of a build.
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder that all workers see."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def wheel(shared):
    """Built once, from a copy: building leaves its folders beside the sources."""
    folder = shared / "wheels"
    with FileLock(shared / "wheels.lock"):
        if not list(folder.glob("equitutor-*.whl")):
            copy = shared / "checkout"
            left = shutil.ignore_patterns(".*", "_build", "build", "*.egg-info", "__pycache__")
            shutil.copytree(ROOT, copy, ignore=left)
            command = [*PIP, "wheel", *ALONE, "--no-build-isolation"]
            subprocess.run([*command, "--wheel-dir", str(folder), str(copy)], check=True)
    (found,) = folder.glob("equitutor-*.whl")
    return found


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """A folder with the package as a wheel brings it, and nothing of the checkout."""
    site = tmp_path_factory.mktemp("site")
    subprocess.run([*PIP, "install", *ALONE, "--target", str(site), str(wheel)], check=True)
    return site


@pytest.fixture(scope="session")
def colab(tmp_path_factory):
    """A folder with what Colab has of its own."""
    folder = tmp_path_factory.mktemp("colab")
    (folder / "google" / "colab").mkdir(parents=True)
    (folder / "google" / "colab" / "__init__.py").touch()
    (folder / "sitecustomize.py").write_text(STARTUP)
    return folder


@pytest.fixture(scope="session")
def executed(installed, colab, shared):
    """notebook -> nbval's run of it and the notebook with its outputs. Each runs once, in whichever
    worker wants it first: the tests of the chapters start from one end, the site's from the other."""

    def once(chapter):
        folder = shared / "chapters" / chapter.stem
        folder.mkdir(parents=True, exist_ok=True)
        said = folder / "said.json"
        with FileLock(folder / ".lock"):
            if not said.exists():
                done = nbval(installed, chapter, folder, keep=True, colab=colab)
                said.write_text(json.dumps([done.args, done.returncode, done.stdout]))
        return subprocess.CompletedProcess(*json.loads(said.read_text())), folder / "executed.ipynb"

    return once
