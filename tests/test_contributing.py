"""CONTRIBUTING.md says what is true: its examples run, its files are there, its commands work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", GUIDE, re.M | re.S)
TOPICS = ("group", "action", "weighting", "experiment", "chapter", "checker")


def test_the_examples_run_one_after_the_other():
    assert len(EXAMPLES) == 3
    names = {}
    for example in EXAMPLES:
        exec(example, names)
    assert len(names["group"]) == 8 and len(names["shift"].group) == 5


@pytest.mark.parametrize(
    ("example", "right", "wrong"),
    [
        (0, "bits[:, None] ^ bits", "bits[:, None] | bits"),
        (1, "x.roll(g, -1)", "x.roll(g * g, -1)"),
        (2, ".softmax(0)", ".cumsum(0).softmax(0)"),
    ],
)
def test_the_checks_in_the_examples_notice_a_mistake(example, right, wrong):
    names = {}
    for text in EXAMPLES[:example]:
        exec(text, names)
    assert right in EXAMPLES[example]
    with pytest.raises((ValueError, AssertionError)):
        exec(EXAMPLES[example].replace(right, wrong), names)


def test_every_topic_has_a_section_that_names_its_files():
    for topic in TOPICS:
        section = re.search(rf"^### An? {topic}\n(.*?)(?=^##|\Z)", GUIDE, re.M | re.S)[1]
        files = re.findall(r"`((?:equitutor|tests|book)/[\w./]+|_toc\.yml)`", section)
        assert files and all((ROOT / file).exists() for file in files), (topic, files)


def test_the_commands_name_what_there_is():
    for file in re.findall(r"(?<![\w/])(?:tests|book)/[\w/]+(?:\.\w+)?", GUIDE):
        assert (ROOT / file).exists(), file
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "tests/test_groups.py",
            "-k",
            "associative",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "passed" in done.stdout


def test_the_hooks_find_what_they_run():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = {hook["id"]: hook["entry"] for repo in config["repos"] for hook in repo["hooks"]}
    assert set(hooks) == {"ruff", "ruff-format", "notebooks-without-outputs"}
    # the test that the last one selects is there
    text = (ROOT / "tests" / "test_project.py").read_text(encoding="utf-8")
    assert "without_outputs" in hooks["notebooks-without-outputs"]
    assert "def test_is_committed_without_outputs" in text


def run_chapter(chapter, folder):
    """The guide's command, for a chapter of ours in a folder of the test."""
    (command,) = re.findall(r"`(jupyter execute) book/[\w.]+`", GUIDE)
    scripts = Path(sys.executable).parent
    words = [str(scripts / "jupyter"), *command.split()[1:], str(chapter)]
    env = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)


def test_the_command_runs_a_chapter_and_leaves_it_as_it_was(tmp_path):
    chapter = ROOT / "book" / "14_trust.ipynb"
    before = chapter.read_bytes()
    done = run_chapter(chapter, tmp_path)
    assert done.returncode == 0, done.stderr
    assert chapter.read_bytes() == before


def test_the_command_fails_where_a_cell_does(tmp_path):
    wrong = tmp_path / "wrong.ipynb"
    text = (ROOT / "book" / "14_trust.ipynb").read_text(encoding="utf-8")
    wrong.write_text(text.replace("import json", "1 / 0", 1))
    done = run_chapter(wrong, tmp_path)
    assert done.returncode != 0 and "ZeroDivisionError" in done.stderr
