"""Assignments: every version is made from one source notebook, which holds the solutions.

    python -m equitutor assignments            # the students' notebooks, into book/assignments
    python -m equitutor assignments --otter    # sources for `otter assign`, into otter/

In a source notebook

- what students are to write stands between the lines ``# BEGIN SOLUTION`` and ``# END SOLUTION``;
  inside a function they get ``raise NotImplementedError`` instead, at the margin nothing;
- a cell of the form ``eq.checks.check_NAME(NAME)`` right after it is its check (without one, the
  part is graded by hand), and the heading above says what it is worth: ``## ... (4 points)``;
- a cell tagged ``hidden-test`` is code with asserts that students do not get;
- a cell tagged ``solution`` is for instructors only, such as the answer to a question.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from textwrap import indent
from typing import Any

from ..store.files import whole

__all__ = ["otter_version", "student_version", "write_assignments"]

Notebook = dict[str, Any]

SHELF = Path(__file__).parents[2] / "book" / "assignments"
SOLUTION = re.compile(r"^( *)# BEGIN SOLUTION\n(.*?)^ *# END SOLUTION(\n|\Z)", re.M | re.S)
STUB = "raise NotImplementedError"
CHECK = re.compile(r"^eq\.checks\.check_\w+\((\w+)(?:, .*)?\)$")
CONFIG = ("# ASSIGNMENT CONFIG", "export_cell:", "  pdf: false", "tests:", "  ok_format: false")
NAMED = re.compile(r"^(?:def|class) (\w+)", re.M)
POINTS = re.compile(r"^##+ .*\((\d+) points?\)$", re.M)


def student_version(notebook: Notebook) -> Notebook:
    """The notebook as students get it: without solutions, hidden tests and outputs.

    Parameters
    ----------
    notebook : dict
        A source notebook, as ``json.load`` returns it.

    Raises
    ------
    ValueError
        If a solution has a beginning but no end, or an end but no beginning.
    """
    made = copy.deepcopy(notebook)
    made["cells"] = [c for c in made["cells"] if not {"solution", "hidden-test"} & _tags(c)]
    for cell in made["cells"]:
        _write(cell, SOLUTION.sub(lambda m: m[1] and f"{m[1]}{STUB}{m[3]}", _whole(cell)))
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return made


def otter_version(notebook: Notebook, requirement: str = "equitutor") -> Notebook:
    """The source as `otter assign` expects it: each part a question, each check a test.

    Parameters
    ----------
    notebook : dict
        A source notebook, as ``json.load`` returns it.
    requirement : str
        What pip installs on the grading machine.

    Raises
    ------
    ValueError
        If a solution is cut off, defines no function or class, or has no heading with points above.
    """
    made, points = [_raw(*CONFIG, f"requirements: ['{requirement}']")], None
    rest = copy.deepcopy(notebook["cells"])
    while rest:
        cell = rest.pop(0)
        text = _whole(cell)
        if cell["cell_type"] == "markdown":
            points = (POINTS.findall(text) or [points])[-1]
        if SOLUTION.search(text):
            tests = []
            while rest and (CHECK.match(_whole(rest[0])) or "hidden-test" in _tags(rest[0])):
                tests.append(rest.pop(0))
            made += _question(cell, tests, points)
        elif "solution" not in _tags(cell):
            made.append(cell)
    for i, cell in enumerate(made):
        if cell["cell_type"] == "raw":
            cell["id"] = f"otter-{i}"
    return notebook | {"cells": made}


def write_assignments(
    out: Path | None = None,
    otter: bool = False,
    source: Path | None = None,
    replace: bool = False,
) -> list[Path]:
    """Make the students' (or Otter's) notebooks from all sources, and return the files written.

    All are made before the first is written.

    Parameters
    ----------
    out : path, optional
        The folder to write to. Default: book/assignments of the checkout; with `source`, the folder
        "assignments"; for Otter, "otter".
    otter : bool
        Whether to write sources for `otter assign` instead of students' notebooks.
    source : path, optional
        The folder of the sources. Default: book/assignments/source of the checkout.
    replace : bool
        Whether files that differ are overwritten. Those of book/assignments always are: nobody works
        in them.

    Raises
    ------
    FileNotFoundError
        If there is no source notebook.
    FileExistsError
        If a file would take the place of a source, or of one that differs and that ``replace`` does not
        give up. Nothing is written.
    ValueError
        If a source is no notebook, or :func:`student_version` or :func:`otter_version` refuses it.
    """
    replace = replace or (out is None and source is None and not otter)
    default = SHELF if source is None else Path("assignments")
    source = SHELF / "source" if source is None else Path(source)
    sources = sorted(source.glob("*.ipynb"))
    if not sources:
        raise FileNotFoundError(
            f"no notebooks in {source}: the assignments' sources are in the checkout, not in the "
            "installed package; name their folder with --source"
        )
    out = Path(out or ("otter" if otter else default))
    made = {out / path.name: _made(path, otter) for path in sources}
    for path, (file, content) in zip(sources, made.items(), strict=True):
        if file.exists() and file.samefile(path):
            raise FileExistsError(
                f"{file} is itself a source, whose solutions would be lost: give another folder, --out FOLDER"
            )
        if not replace and file.exists() and file.read_bytes() != content:
            raise FileExistsError(
                f"{file} exists and differs from what would be written, perhaps by somebody's answers: give "
                "another folder, --out FOLDER, or overwrite all that differ with --replace"
            )
    for file, content in made.items():
        with whole(file) as part:
            part.write_bytes(content)
    return list(made)


def _made(path: Path, otter: bool) -> bytes:
    """The content of the file that is made from a source."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        made = otter_version(notebook) if otter else student_version(notebook)
        return (json.dumps(made, indent=1, ensure_ascii=False) + "\n").encode()
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no notebook of format 4 ({error!r})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


# -- cells ------------------------------------------------------------------------------------


def _tags(cell: dict) -> set[str]:
    return set(cell["metadata"].get("tags", ()))


def _whole(cell: dict) -> str:
    """The text of a cell; raise if a solution in it lacks its beginning or its end."""
    text = "".join(cell["source"])
    rest = SOLUTION.sub("", text)
    if "# BEGIN SOLUTION" in rest or "# END SOLUTION" in rest:
        raise ValueError(
            f"a solution needs both # BEGIN SOLUTION and # END SOLUTION; see the cell\n{text}"
        )
    return text


def _write(cell: dict, text: str) -> None:
    cell["source"] = text.splitlines(keepends=True)


def _raw(*lines: str) -> dict:
    source = "\n".join(lines).splitlines(keepends=True)
    return {"cell_type": "raw", "id": "", "metadata": {}, "source": source}


def _question(cell: dict, tests: list[dict], points: str | None) -> list[dict]:
    """A solution and its tests between Otter's marks; graded by hand if there is no test."""
    text = _whole(cell)
    if points is None:
        raise ValueError(
            f'no heading such as "## Part 1: ... (4 points)" above the solution\n{text}'
        )
    # The function that students write, not a helper of the solution.
    named = NAMED.search(SOLUTION.sub("", text)) or NAMED.search(text)
    if named is None:
        raise ValueError(
            f"a question takes the name of its function or class, but has none\n{text}"
        )
    name = named[1]
    _write(cell, SOLUTION.sub(_with_prompt, text))
    # No points for single tests: a wrong answer may well pass one of them.
    how = "all_or_nothing: true" if tests else "manual: true"
    made = [_raw("# BEGIN QUESTION", f"name: {name}", f"points: {points}", how)]
    made += [_raw("# BEGIN SOLUTION"), cell, _raw("# END SOLUTION")]
    for number, test in enumerate(tests):
        _write(test, _as_test(f"test_{name}_{number}", _whole(test), "hidden-test" in _tags(test)))
    if tests:
        made += [_raw("# BEGIN TESTS"), *tests, _raw("# END TESTS")]
    return [*made, _raw("# END QUESTION")]


def _with_prompt(match: re.Match) -> str:
    """The same solution in Otter's markup: students get the line in quotes."""
    start, body, end = match.groups()
    prompt = (
        f'{start}""" # BEGIN PROMPT\n{start}{STUB}\n{start}"""; # END PROMPT\n' if start else ""
    )
    return f"{prompt}{start}# BEGIN SOLUTION NO PROMPT\n{body}{start}# END SOLUTION{end}"


def _as_test(name: str, text: str, hidden: bool) -> str:
    """A function that Otter calls with all names of the notebook."""
    config = '""" # BEGIN TEST CONFIG\nhidden: true\n""" # END TEST CONFIG\n' if hidden else ""
    body = indent(text if hidden else f"assert {text}", "    ")
    return f"{config}def {name}(env):\n    globals().update(env)\n{body}"
