"""Every checker against mutants of its model answer: none that differs passes, most are named."""

import re
from pathlib import Path

import mutants
import pytest

PAGE = Path(__file__).parents[2] / "book" / "assignments" / "teaching.md"


@pytest.fixture(scope="module")
def everything():
    return mutants.everything()


def test_the_model_answers_themselves_pass():
    for part in mutants.parts():
        verdict = mutants.judged(part, mutants.Mutant("none", "", part.text))
        assert verdict.accepted, verdict.said


def test_there_are_mutants_of_every_part_and_family(everything):
    assert len(everything) >= 300
    per_part = {part.name: 0 for part in mutants.parts()}
    for found in everything:
        per_part[found.part.name] += 1
    assert len(per_part) == 22 and min(per_part.values()) >= 15, per_part
    assert {found.mutant.family for found in everything} >= {
        "a term dropped",
        "another index",
        "another axis",
        "another sign",
        "g for g^-1",
        "detached",
        "in place",
        "int",
        "abs",
        "swapped arguments",
        "constant",
        "memorised",
        "input changed",
        "float32 inside",
        "first element only",
    }


def test_no_mutant_passes_that_gives_another_answer(everything):
    passed = [f for f in everything if f.verdict.accepted]
    assert not [str(f) for f in passed if mutants.reason(f.part, f.mutant) is None]


def test_every_reason_is_of_use(everything):
    passed = [f for f in everything if f.verdict.accepted]
    for patterns in mutants.EQUIVALENT.values():
        for names, change in patterns:
            assert any(
                re.fullmatch(names, f.part.name)
                and re.search(change, f"{f.mutant.family}: {f.mutant.change}")
                for f in passed
            ), (names, change)


def test_most_refusals_say_what_was_probably_done(everything):
    refused = [f for f in everything if not f.verdict.accepted]
    unnamed = [str(f) for f in refused if not f.verdict.named]
    assert len(unnamed) <= 0.2 * len(refused), unnamed


def test_every_exception_points_to_the_line(everything):
    for found in everything:
        if found.verdict.stopped and not found.mutant.around:
            assert "your line: " in found.verdict.said, f"{found}\n{found.verdict.said}"


def test_the_instructors_page_has_the_tables(everything):
    page = PAGE.read_text(encoding="utf-8")
    assert mutants.table() in page and mutants.families() in page
