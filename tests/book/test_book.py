"""Every chapter, and every assignment as solved, runs from top to bottom as in Colab: outside the
checkout, from the built wheel. (What students get raises NotImplementedError: test_assignments.)"""

import json
import re
from pathlib import Path

import pytest
from nbruns import nbval, run
from packaging.specifiers import SpecifierSet
from test_project import FIRST_CELL, PROJECT, TAG, URL, floors

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
SAMPLES = sorted((ROOT / "book" / "samples").glob("*.ipynb"))
SOLVED = sorted((ROOT / "book" / "assignments" / "source").glob("*.ipynb"))
# What Colab's published list of its GPU runtime had in February 2026, with Python 3.12.
COLAB = {
    "accelerate": "1.12.0",
    "filelock": "3.24.3",
    "gymnasium": "1.2.3",
    "ipywidgets": "7.7.1",
    "joblib": "1.5.3",
    "matplotlib": "3.10.0",
    "numpy": "2.0.2",
    "pandas": "2.2.2",
    "pillow": "11.3.0",
    "safetensors": "0.7.0",
    "scikit-learn": "1.6.1",
    "scipy": "1.16.3",
    "torch": "2.10.0",
    "torchvision": "0.25.0",
    "tqdm": "4.67.3",
    "transformers": "5.0.0",
}


def test_the_package_is_the_wheel(installed, tmp_path):
    done = run(installed, tmp_path, "-c", "import equitutor; print(equitutor.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(installed)


def test_the_wheel_is_whole(installed):
    """All modules, and the recorded results, are in the wheel."""
    for path in [*ROOT.glob("equitutor/**/*.py")]:
        assert (installed / path.relative_to(ROOT)).is_file(), path
    for path in ROOT.glob("book/results/*.json"):
        assert (installed / "equitutor" / "recorded" / path.name).read_bytes() == path.read_bytes()


def passes(done):
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"\d+ passed", done.stdout)


@pytest.mark.parametrize("chapter", [*CHAPTERS, *SAMPLES], ids=lambda c: c.stem)
def test_chapter_runs(chapter, executed):
    done, notebook = executed(chapter)
    passes(done)
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert any(cell.get("outputs") for cell in cells)  # kept for the site


@pytest.mark.parametrize("solved", SOLVED, ids=[s.stem for s in SOLVED])
def test_assignment_runs(solved, executed):
    passes(executed(solved)[0])


def test_a_failing_chapter_is_noticed(installed, tmp_path):
    text = CHAPTERS[0].read_text(encoding="utf-8")
    broken = tmp_path / "broken.ipynb"
    broken.write_text(re.sub(r'"import equitutor as eq\\n"', '"1 / 0\\\\n"', text, count=1))
    if broken.read_text() == text:
        broken.write_text(text.replace("import equitutor as eq", "1 / 0", 1))
    (tmp_path / "run").mkdir()
    done = nbval(installed, broken, tmp_path / "run")
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stdout


def test_colab_keeps_what_it_has_installed():
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.12")
    needed = floors(PROJECT["dependencies"])
    assert set(needed) == set(COLAB)
    for name, requirement in needed.items():
        assert requirement.specifier.contains(COLAB[name]), f"{name}: Colab has {COLAB[name]}"


def test_the_first_cell_installs_the_package(wheel, colab, tmp_path):
    """The cell as it stands, in a Colab that has no equitutor yet; only the address is replaced."""
    cell = FIRST_CELL.replace(f"git+{URL}@{TAG}", str(wheel))
    site = tmp_path / "site"
    site.mkdir()
    check = f"assert eq.__file__.startswith({str(site)!r}) and env.preset == 'quick'"
    common = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [{**common, "id": str(i), "source": text} for i, text in enumerate([cell, check])]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = tmp_path / "first.ipynb"
    notebook.write_text(
        json.dumps(
            {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        )
    )
    (tmp_path / "run").mkdir()
    options = {"PIP_TARGET": str(site), "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}
    done = nbval(site, notebook, tmp_path / "run", colab=colab, **options)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "2 passed" in done.stdout


def test_colab_is_noticed(installed, colab, tmp_path):
    words = ["-c", "import equitutor as eq; eq.setup(device='cpu')"]
    assert "Runtime > Change runtime type" in run(installed, tmp_path, *words, colab=colab).stdout
    assert "Runtime > " not in run(installed, tmp_path, *words).stdout
