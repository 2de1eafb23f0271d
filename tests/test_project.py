"""The project's files agree with each other."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import equitutor

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
URL, TAG = PROJECT["urls"]["Repository"], f"v{PROJECT['version']}"
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
ASSIGNMENTS = sorted((ROOT / "book" / "assignments").glob("*.ipynb"))
SOURCES = sorted((ROOT / "book" / "assignments" / "source").glob("*.ipynb"))
COMMANDS = [
    "pip install -r requirements.txt && jupyter-book build .",
    "pip install -r requirements.txt && pytest",
]
FIRST_CELL = f"""preset = "quick"  # @param ["quick", "paper"]
try:
    import equitutor as eq
except ImportError:  # in Colab: install the release this page was made with
    %pip install -q "git+{URL}@{TAG}"
    import equitutor as eq

env = eq.setup(preset, seed=0)  # "paper": the papers' own sizes, for a GPU"""

#: How every chapter begins: its title, the question, what it gives, what it takes.
OPENING = re.compile(
    r"# [^\n]+\n\n(?!\*\*).+?\n\n"
    r"\*\*You will learn\*\*\n(?:- [^\n]+(?:\n  [^\n]+)*\n){3,5}\n"
    r"\*\*Time:\*\* about \d+ minutes; all cells together run in [^\n]+ on a laptop\.\n\n"
    r"\*\*You need\*\* [^\n]+\.",
    re.S,
)


def texts():
    """The project's own text files."""
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    kinds = (".py", ".md", ".ipynb", ".yml", ".toml", ".txt", ".cff", ".bib", "run")
    return {n: (ROOT / n).read_text(encoding="utf-8") for n in names if n.endswith(kinds)}


def floors(lines):
    """{name: requirement}"""
    return {r.name: r for r in map(Requirement, lines)}


def cells(chapter):
    return json.loads(chapter.read_text(encoding="utf-8"))["cells"]


def source(cell):
    return "".join(cell["source"])


def test_the_version_stands_in_one_place():
    assert equitutor.__version__ == PROJECT["version"]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_every_link_to_the_repository_is_the_same():
    for name, text in texts().items():
        for url in re.findall(r"https://github\.com/[\w.-]*equitutor[\w.-]*/[\w.-]+", text):
            assert url.removesuffix(".git") == URL, f"{name}: {url}"
        for tag in re.findall(
            rf"{re.escape(URL.removeprefix('https://'))}(?:@|/blob/|/tree/)([\w.]+)", text
        ):
            assert tag == TAG, f"{name}: {tag}"


def test_the_site_opens_colab_at_the_release():
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    assert f"url: {URL}\n" in config
    assert re.search(rf"branch: {re.escape(TAG)}\b", config)


@pytest.mark.parametrize(
    "chapter",
    [*CHAPTERS, *ASSIGNMENTS, *SOURCES],
    ids=lambda path: path.relative_to(ROOT / "book").with_suffix("").as_posix(),
)
class TestNotebook:
    def test_first_cell(self, chapter):
        title, *others = cells(chapter)
        assert title["cell_type"] == "markdown"
        assert source(title).startswith("# ")
        first = next(c for c in others if c["cell_type"] == "code")
        assert source(first) == FIRST_CELL

    def test_says_what_it_gives_and_takes(self, chapter):
        assert OPENING.fullmatch(source(cells(chapter)[0])), source(cells(chapter)[0])

    def test_is_committed_without_outputs(self, chapter):
        for cell in cells(chapter):
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None

    def test_cells_have_ids(self, chapter):
        ids = [cell["id"] for cell in cells(chapter)]
        assert len(set(ids)) == len(ids)

    def test_is_in_the_table_of_contents(self, chapter):
        page = chapter.relative_to(ROOT).with_suffix("").as_posix()
        listed = f"- file: {page}\n" in (ROOT / "_toc.yml").read_text(encoding="utf-8")
        assert listed is (chapter not in SOURCES)  # solutions are no pages of the site


@pytest.mark.parametrize(
    "left_out",
    ["**You will learn**\n", "- to undo;\n", "**Time:** ", "12 ", "**You need** nothing."],
)
def test_an_opening_that_lacks_something_is_noticed(left_out):
    opening = (
        "# A title\n\nA question, in\ntwo lines?\n\n**You will learn**\n- to do;\n- to undo;\n- why\n"
        "  and how.\n\n**Time:** about 12 minutes; all cells together run in a minute on a laptop.\n\n"
        "**You need** nothing."
    )
    assert OPENING.fullmatch(opening)
    assert left_out in opening and not OPENING.fullmatch(opening.replace(left_out, ""))


def test_there_are_chapters_and_assignments():
    assert len(CHAPTERS) >= 6
    assert len(ASSIGNMENTS) == len(SOURCES) >= 1


def test_the_readme_gives_the_commands_that_ci_runs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert command in readme
    assert "-r requirements.txt\npytest\n" in ci
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_pins_are_within_the_floors():
    extras = PROJECT["optional-dependencies"].values()
    needed = floors([*PROJECT["dependencies"], *(line for extra in extras for line in extra)])
    assert not any("==" in str(r.specifier) for r in needed.values())
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(x.split("#")[0]) for x in lines if re.match(r"\w", x)]
    assert set(needed) <= {r.name for r in pins}
    for pin in pins:
        (version,) = (s.version for s in pin.specifier)
        assert needed[pin.name].specifier.contains(version), pin


def oldest(pyproject=None):
    """What .ci/floors.py prints, for a pyproject.toml of its own."""
    script = ROOT / ".ci" / "floors.py"
    if pyproject is not None:
        (pyproject.parent / ".ci").mkdir()
        script = shutil.copy(script, pyproject.parent / ".ci")
    return subprocess.run([sys.executable, script], capture_output=True, text=True)


def test_the_oldest_versions_are_the_floors():
    """CI runs the tests on them too."""
    extras = PROJECT["optional-dependencies"].values()
    needed = floors([*PROJECT["dependencies"], *(line for extra in extras for line in extra)])
    lines = oldest().stdout.splitlines()
    assert {line.split("==")[0] for line in lines} == set(needed)
    for line in lines:
        name, version = line.split("==")
        assert f">={version}" in str(needed[name].specifier)
        assert needed[name].specifier.contains(version)
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert "python .ci/floors.py > floors.txt && pip install -c floors.txt" in workflow


def test_a_requirement_without_a_floor_is_refused(tmp_path):
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text('[project]\ndependencies = ["numpy"]\noptional-dependencies = {}\n')
    done = oldest(pyproject)
    assert done.returncode != 0 and "'numpy' has no floor" in done.stderr


def test_ruff_is_content():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "."], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def mypy(*words):
    return subprocess.run(
        [sys.executable, "-m", "mypy", *words], cwd=ROOT, capture_output=True, text=True
    )


def test_mypy_is_content(tmp_path):
    done = mypy("--cache-dir", str(tmp_path))
    assert done.returncode == 0, done.stdout


def test_mypy_is_not_content_with_wrong_types(tmp_path):
    """Under the project's own settings: a wrong argument, a wrong result, a function without types."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import equitutor as eq\n"
        "def size(group: eq.FiniteGroup) -> str:\n    return len(group)\n"
        "def turns() -> eq.FiniteGroup:\n    return eq.cyclic('four')\n"
        "def bare(x):\n    return x\n"
    )
    pyproject = str(ROOT / "pyproject.toml")
    done = mypy("--config-file", pyproject, "--cache-dir", str(tmp_path), str(wrong))
    for line, kind in ((3, "return-value"), (5, "arg-type"), (6, "no-untyped-def")):
        assert re.search(rf"wrong\.py:{line}: .*\[{kind}\]", done.stdout), done.stdout
