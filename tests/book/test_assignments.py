"""The assignments: made from one source each; stubs raise NotImplementedError, solutions pass."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from IPython.core.inputtransformer2 import TransformerManager

import equitutor as eq
from equitutor.__main__ import main
from equitutor.book import assignments
from equitutor.book.assignments import CHECK, SOLUTION, otter_version, student_version

ROOT = Path(__file__).parents[2]
SHELF = ROOT / "book" / "assignments"
SOURCES = sorted((SHELF / "source").glob("*.ipynb"))
NAMES = [path.stem for path in SOURCES]
EFFORT = r"(?m)^\*Difficulty ([1-5]) of 5, about (\d+) minutes\.\*$"
NUMBER = r"-?\d+\.?\d*(?:e[-+]?\d+)?"
TIMED = {("02_reynolds", "use2")}  # prints milliseconds


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def text(cell):
    return "".join(cell["source"])


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(notebook):
    """What each code cell printed, and the error it ended with, by the cell's id."""
    space, found = {"__name__": "__main__"}, {}
    for cell in code(notebook):
        error, out = None, io.StringIO()
        program = compile(TransformerManager().transform_cell(text(cell)), cell["id"], "exec")
        with contextlib.redirect_stdout(out):
            try:
                exec(program, space)
            except Exception as raised:
                error = raised
        found[cell["id"]] = (out.getvalue(), error)
    return found


def printed(cell):
    """What a code cell of an executed notebook printed."""
    outputs = (out for out in cell["outputs"] if out["output_type"] == "stream")
    return "".join("".join(out["text"]) for out in outputs if out["name"] == "stdout")


def checks(notebook):
    return [cell["id"] for cell in code(notebook) if CHECK.match(text(cell))]


def alike(shown, printed):
    """Whether two outputs have the same words, and numbers that differ a little at most."""
    if re.sub(NUMBER, "#", shown).split() != re.sub(NUMBER, "#", printed).split():
        return False
    pairs = zip(re.findall(NUMBER, shown), re.findall(NUMBER, printed), strict=True)
    return all(abs(float(a) - float(b)) <= 0.1 + 0.15 * abs(float(a)) for a, b in pairs)


def test_outputs_that_are_alike():
    assert alike("accuracy 51.0%\nerror 3e-08", "accuracy 49.2%\nerror 0e+00")
    assert not alike("accuracy 51.0%", "accuracy 31.0%")
    assert not alike("accuracy 51.0%", "error 51.0%")


@pytest.mark.parametrize("name", NAMES)
class TestAssignment:
    def test_students_get_what_the_command_makes(self, name, tmp_path):
        made = student_version(load(SHELF / "source" / f"{name}.ipynb"))
        assert load(SHELF / f"{name}.ipynb") == made
        assert not SOLUTION.search(json.dumps(made)) and "hidden-test" not in json.dumps(made)

    def test_a_fresh_notebook_raises_only_that_it_is_not_done(self, name):
        notebook = load(SHELF / f"{name}.ipynb")
        found = run(notebook)
        errors = {i: e for i, (_, e) in found.items() if e is not None}
        assert errors, "no cell uses what students write"
        assert {type(e) for e in errors.values()} == {NotImplementedError}, errors
        stubs = sum(text(cell).count("    raise NotImplementedError") for cell in code(notebook))
        solutions = [m for c in code(self.source(name)) for m in SOLUTION.findall(text(c))]
        assert stubs == sum(bool(indent) for indent, *_ in solutions) >= 2
        for i in checks(notebook):
            assert found[i][0].startswith("Not done yet")

    def test_solutions_pass_everything(self, name, executed):
        done, notebook = executed(SHELF / "source" / f"{name}.ipynb")
        assert done.returncode == 0, done.stdout[-6000:]
        found = {cell["id"]: printed(cell) for cell in code(load(notebook))}
        for i in checks(self.source(name)):
            assert found[i].startswith("Right")
        for shown, came in self.expected(name, found):
            assert alike(shown, came), f"the page shows\n{shown}\nbut this came:\n{came}"

    def test_the_marks_add_up(self, name):
        cells = self.source(name)["cells"]
        points = [
            int(n) for c in cells for n in re.findall(r"^##.*\((\d+) points?\)", text(c), re.M)
        ]
        (marks,) = re.findall(r"\*\*Marks:\*\* (\d+)", "".join(map(text, cells)))
        assert int(marks) == sum(points)

    def test_every_part_helps_in_steps(self, name):
        """Difficulty and minutes; two hints and the idea, folded; a question with its answer."""
        parts = self.parts(name)
        minutes = {n: int(re.search(EFFORT, "".join(parts[n][0]["source"]))[2]) for n in parts}
        (time,) = re.findall(
            r"\*\*Time:\*\* about (\d+) minutes", "".join(map(text, self.cells(name)))
        )
        assert 0.7 * int(time) <= sum(minutes.values()) <= int(time)
        page = (SHELF / "teaching.md").read_text(encoding="utf-8")
        for n, cells in parts.items():
            (help_,) = (text(c) for c in cells if c["id"] == f"help{n}")
            (ask,) = (text(c) for c in cells if c["id"] == f"ask{n}")
            folded = re.findall(r"<details><summary>(.*?)</summary>", help_)
            assert folded == ["Hint 1", "Hint 2", "The idea of the solution"]
            assert ask.startswith("**Understood?**") and ask.count("<details>") == 1
            order = [c["id"] for c in cells]
            answers = [
                c["id"] for c in cells if c["cell_type"] == "code" and SOLUTION.search(text(c))
            ]
            assert all(
                order.index(help_id) < order.index(a) for help_id in [f"help{n}"] for a in answers
            )
            if name != "06_project":
                assert re.search(rf"^\| {int(name[:2])}\.{n} `\w+` \| {minutes[n]} \|", page, re.M)

    def cells(self, name):
        return self.source(name)["cells"]

    def parts(self, name):
        """The cells of each part, by its number: from its heading to the next."""
        parts, n = {}, None
        for c in self.cells(name):
            heading = re.match(r"## (?:Part|Milestone) (\d)|## ", text(c))
            if heading:
                n = heading[1] and int(heading[1])
            if n is not None:
                parts.setdefault(n, []).append(c)
        return parts

    def expected(self, name, found):
        """What the page says that a part prints, and what it printed."""
        for n, cells in self.parts(name).items():
            (help_,) = (text(c) for c in cells if c["id"] == f"help{n}")
            shown = re.match(
                r"\*\*(?:What you should see|For comparison)\*\*.*?```text\n(.*?)\n```", help_, re.S
            )
            if shown:
                left_out = checks(self.source(name)) + [i for n, i in TIMED if n == name]
                ids = [c["id"] for c in cells if c["id"] in found and c["id"] not in left_out]
                yield shown[1], "\n".join(found[i].rstrip() for i in ids if found[i])

    def source(self, name):
        return load(SHELF / "source" / f"{name}.ipynb")


def test_the_command_writes_every_notebook(tmp_path, capsys):
    assert main(["assignments", "--out", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "new" / p.name) for p in SOURCES]
    for path in SOURCES:
        made = (tmp_path / "new" / path.name).read_bytes()
        assert made == (SHELF / path.name).read_bytes()


def test_a_folder_without_sources_is_told(tmp_path, capsys):
    assert main(["assignments", "--source", str(tmp_path)]) == 1
    assert "no notebooks in" in capsys.readouterr().err


def test_sources_of_ones_own_leave_the_books_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(SHELF / "source", "mine")
    assert main(["assignments", "--source", "mine"]) == 0
    made = [f"assignments/{path.name}" for path in SOURCES]
    assert capsys.readouterr().out.split() == made


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with one source of one's own, which is the current one's."""
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/one.ipynb").write_text(json.dumps(small(HEADING, TWICE, TEST)))
    return tmp_path / "mine"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("more", [[], ["--otter"], ["--replace"]])
def test_sources_are_never_overwritten(mine, more, capsys):
    shutil.copytree(mine, "assignments")  # where the notebooks of one's own sources go
    Path("linked").symlink_to("mine")
    Path("linked_one").mkdir()
    Path("linked_one/one.ipynb").symlink_to(mine / "one.ipynb")
    before = contents(mine.parent)
    for source, out in [
        ("assignments", "assignments"),
        ("mine", str(mine)),
        ("mine", "linked"),
        ("mine", "linked_one"),
    ]:
        assert main(["assignments", "--source", source, "--out", out, *more]) == 1
        assert "one.ipynb is itself a source" in capsys.readouterr().err
    if "--otter" not in more:
        assert main(["assignments", "--source", "assignments", *more]) == 1
    assert contents(mine.parent) == before


def test_somebodys_answers_are_overwritten_only_if_that_is_asked_for(mine, capsys):
    words = ["assignments", "--source", "mine"]
    assert main(words) == main(words) == 0  # what is the same may be written again
    made = Path("assignments/one.ipynb")
    fresh = made.read_bytes()
    made.write_text("my answers")
    (mine / "another.ipynb").write_bytes((mine / "one.ipynb").read_bytes())
    assert main(words) == 1
    assert f"{made} exists and differs" in capsys.readouterr().err
    assert [*contents(made.parent).values()] == [b"my answers"]  # no half of a set
    assert main([*words, "--replace"]) == 0
    assert set(contents(made.parent).values()) == {fresh}


def test_the_books_own_notebooks_need_no_permission(mine, monkeypatch, capsys):
    """They are made anew after each change of their sources; Otter's are no notebooks for students."""
    shelf = mine.parent / "shelf"
    shutil.copytree(mine, shelf / "source")
    monkeypatch.setattr(assignments, "SHELF", shelf)
    (shelf / "one.ipynb").write_text("of an older source")
    assert main(["assignments", "--otter", "--out", str(shelf)]) == 1
    assert (shelf / "one.ipynb").read_text() == "of an older source"
    assert main(["assignments"]) == 0
    assert load(shelf / "one.ipynb") == student_version(load(mine / "one.ipynb"))


@pytest.mark.parametrize("more", [[], ["--otter"]])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe", "decode"),
        (b"[]", "is no notebook of format 4"),
        (b"{}", "is no notebook of format 4 (KeyError('cells'))"),
        (b'{"cells": [{"cell_type": "code", "source": ["x"]}]}', "is no notebook of format 4"),
        (b'{"cells": 7}', "is no notebook of format 4"),
        (b"[" * 100_000, "is no notebook of format 4"),
        (b'{"cells": [], "metadata": {"a": "\\ud800"}}', "surrogates not allowed"),
    ],
)
def test_a_broken_source_is_named_and_nothing_written(mine, content, says, more, capsys):
    (mine / "two.ipynb").write_bytes(content)
    assert main(["assignments", "--source", "mine", "--out", "new", *more]) == 1
    told = capsys.readouterr().err
    assert f"error: {Path('mine/two.ipynb')}" in told and says in told
    assert not Path("new").exists()


def test_the_recipe_splits_by_orbits():
    """Of the project: no view of a test example is among the training examples."""
    (recipe,) = (c for c in load(SHELF / "06_project.ipynb")["cells"] if c["id"] == "m3")
    (code_,) = re.findall(r"```python\n(.*?)```", text(recipe), re.S)
    turn = eq.Permutation(eq.dihedral(4))
    x = torch.cartesian_prod(*[torch.arange(3.0)] * 4)
    space = {"torch": torch, "x": x, "views": torch.stack([turn(g, x) for g in turn.group])}
    exec(code_, space)
    parts = [set(map(tuple, space[name].tolist())) for name in ("test", "training")]
    assert parts[0] and len(parts[0]) + len(parts[1]) == len(x)
    for g in turn.group:
        assert not set(map(tuple, turn(g, space["test"]).tolist())) & parts[1]


# -- the two versions, on a small source ------------------------------------------------------


def cell(source, *tags, kind="code", **more):
    lines = source.splitlines(keepends=True)
    return {
        "cell_type": kind,
        "id": str(abs(hash(source))),
        "metadata": {"tags": list(tags)},
        "source": lines,
    } | more


def small(*cells):
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


HEADING = cell("## Part 1: twice (3 points)", kind="markdown")
TWICE = cell(
    'def twice(x):\n    """2 x."""\n    # BEGIN SOLUTION\n    return x + x\n    # END SOLUTION',
    outputs=[1],
    execution_count=7,
)
TEST = cell("eq.checks.check_twice(twice)")
HIDDEN = cell("for x in (1, 2):\n    assert twice(x) == 2 * x", "hidden-test")
ANSWER = cell("**Answer.** Four.", "solution", kind="markdown")


def test_the_students_version():
    made = student_version(small(HEADING, TWICE, TEST, HIDDEN, ANSWER))
    assert [text(c) for c in made["cells"]] == [
        text(HEADING),
        'def twice(x):\n    """2 x."""\n    raise NotImplementedError',
        text(TEST),
    ]
    assert made["cells"][1]["outputs"] == [] and made["cells"][1]["execution_count"] is None
    assert TWICE["outputs"] == [1]  # the source stays as it is


def test_helpers_of_a_solution_are_left_out():
    helper = "# BEGIN SOLUTION\ntwo = 2\n\n\ndef aid():\n    pass\n\n\n# END SOLUTION\n"
    made = student_version(small(HEADING, cell(helper + text(TWICE)), TEST))
    assert text(made["cells"][1]) == text(student_version(small(TWICE))["cells"][0])
    cells = otter_version(small(HEADING, cell(helper + text(TWICE)), TEST))["cells"]
    assert "name: twice\n" in text(cells[2])  # what students write, not the first thing in it
    question = text(cells[4])
    assert question.startswith("# BEGIN SOLUTION NO PROMPT\ntwo = 2\n")
    assert question.count("BEGIN PROMPT") == 1


@pytest.mark.parametrize("line", ["# BEGIN SOLUTION", "# END SOLUTION"])
def test_half_a_solution_is_an_error(line):
    broken = cell(text(TWICE).replace(f"    {line}\n" if "BEGIN" in line else f"    {line}", ""))
    for version in (student_version, otter_version):
        with pytest.raises(ValueError, match="needs both"):
            version(small(HEADING, broken, TEST))


def test_otters_version():
    made = otter_version(small(HEADING, TWICE, TEST, HIDDEN, ANSWER), "equitutor==1")
    config, *rest = [text(c) for c in made["cells"]]
    assert config.startswith("# ASSIGNMENT CONFIG") and "requirements: ['equitutor==1']" in config
    assert rest[0] == text(HEADING)
    assert rest[1] == "# BEGIN QUESTION\nname: twice\npoints: 3\nall_or_nothing: true"
    assert rest[2] == "# BEGIN SOLUTION" and rest[4:6] == ["# END SOLUTION", "# BEGIN TESTS"]
    assert '""" # BEGIN PROMPT\n    raise NotImplementedError\n    """; # END PROMPT' in rest[3]
    assert rest[8:] == ["# END TESTS", "# END QUESTION"]
    ids = [c["id"] for c in made["cells"]]
    assert len(set(ids)) == len(ids)

    class Checks:
        check_twice = staticmethod(lambda f: f(3) == 6)

    for test, hidden in ((rest[6], False), (rest[7], True)):
        assert ("hidden: true" in test) is hidden
        space = {}
        exec(test, space)
        (function,) = (f for name, f in space.items() if name.startswith("test_twice"))
        eq = type("eq", (), {"checks": Checks})
        function({"eq": eq, "twice": lambda x: 2 * x})
        with pytest.raises(AssertionError):
            function({"eq": eq, "twice": lambda x: x})


def test_a_part_without_a_check_is_graded_by_hand():
    made = otter_version(small(HEADING, TWICE))
    assert any("manual: true" in text(c) for c in made["cells"])
    assert not any("BEGIN TESTS" in text(c) for c in made["cells"])


def test_a_part_without_a_name_is_an_error():
    with pytest.raises(ValueError, match="takes the name of its function or class"):
        otter_version(small(HEADING, cell("# BEGIN SOLUTION\ntwo = 2\n# END SOLUTION\n")))


def test_a_part_without_points_is_an_error():
    with pytest.raises(ValueError, match="points"):
        otter_version(small(TWICE, TEST))
