import hashlib
import lzma
import os
from pathlib import Path

import pytest
import torch

from equitutor.sequences import scan_data
from equitutor.sequences.scan_data import ACTIONS, COMMANDS, Pairs
from equitutor.sequences.scan_models import GROUPS, OWN
from equitutor.sequences.vocabulary import EOS, Vocabulary, lengths
from equitutor.sequences.wordgroups import word_symmetry

# The official files, in canonical form; those of the splits stand in scan_data.
ALL = "b6ce7c6f6ab7fc10d3a403db096e7608b6e66a378721b7548ae912f4b4e45978"
SIZES = {
    "add_jump": (14670, 7706),
    "around_right": (15225, 4476),
    "turn_left": (21890, 1208),
    "jump_around_right": (18528, 1173),
    "length": (16990, 3920),
    "mixed_verbs": (15009, 216),
}
# The bytes of the official files, of which two are not at hand.
BYTES = {
    "add_jump": (2579619, 1531555),
    "around_right": (2558693, 1243177),
    "turn_left": (3974537, 173679),
    "jump_around_right": (3468272, 333598),
    "length": (2723418, 1356970),
}
FILES = {"add_jump": "addprim_jump", "around_right": "template_around_right"}
# Of official files that have the order of the file with all commands.
SHA256 = {
    "train": "f63ba9149feeb021fbb44132265d7b15e6a07e6b12c9d3220418d97d97d71735",
    "test": "a3a27e06adece97da26ae506de08c4b6848035970c561691edbf4dcb1e45f9af",
}


def line(command, actions):
    """As in the official files."""
    return f"IN: {command} OUT: {' '.join(f'I_{action}' for action in actions.split())}\n"


@pytest.mark.parametrize(
    ("command", "actions"),
    [
        ("jump", "JUMP"),
        ("turn left", "TURN_LEFT"),
        ("run right", "TURN_RIGHT RUN"),
        ("turn opposite left", "TURN_LEFT TURN_LEFT"),
        ("walk opposite right", "TURN_RIGHT TURN_RIGHT WALK"),
        ("turn around right", "TURN_RIGHT TURN_RIGHT TURN_RIGHT TURN_RIGHT"),
        ("look around left", " ".join(["TURN_LEFT LOOK"] * 4)),
        ("jump twice", "JUMP JUMP"),
        ("run left thrice", " ".join(["TURN_LEFT RUN"] * 3)),
        ("walk and jump twice", "WALK JUMP JUMP"),
        ("walk twice after turn left", "TURN_LEFT WALK WALK"),  # what comes after "after" is first
    ],
)
def test_commands_mean_what_the_grammar_says(command, actions):
    assert scan_data.commands()[command] == actions


def test_all_commands():
    found = scan_data.commands()
    assert len(found) == 20910
    assert Pairs(tuple(found), tuple(found.values())).sha256() == ALL
    assert max(len(a.split()) for a in found.values()) == 48
    assert "turn" not in found


@pytest.mark.parametrize("task", scan_data.TASKS)
def test_the_splits_have_their_sizes_and_hashes(task):
    split = scan_data.load(task)
    assert (len(split["train"]), len(split["test"])) == SIZES[task]
    assert not set(split["train"].commands) & set(split["test"].commands)


@pytest.mark.parametrize("task", BYTES)
def test_the_official_files_are_as_long(task):
    """Of no other rule: one command more, less or in place of another of another length."""
    for expected, pairs in zip(BYTES[task], scan_data.load(task).values(), strict=True):
        lines = map(line, pairs.commands, pairs.actions)
        assert sum(len(each.encode()) for each in lines) == expected


def test_what_the_splits_leave_out():
    jump = scan_data.load("add_jump")
    assert jump["train"].commands.count("jump") == 1467
    assert {c for c in jump["train"].commands if "jump" in c} == {"jump"}
    right = scan_data.load("around_right")
    assert not any("around right" in c for c in right["train"].commands)
    assert all("around right" in c for c in right["test"].commands)
    left = scan_data.load("turn_left")
    assert left["train"].commands.count("turn left") == 2189
    assert {c for c in left["train"].commands if "turn left" in c} == {"turn left"}
    assert all("turn left" in c for c in left["test"].commands)
    assert set(left["train"].commands) | set(left["test"].commands) == set(scan_data.commands())
    jumps = scan_data.load("jump_around_right")
    assert {c for c in jumps["train"].commands if "jump" in c and "around right" in c} >= {
        "jump and walk around right",
        "jump around left after run around right",
    }
    assert not any("jump around right" in c for c in jumps["train"].commands)
    assert all("jump around right" in c for c in jumps["test"].commands)
    long = {
        part: {len(a.split()) for a in p.actions} for part, p in scan_data.load("length").items()
    }
    assert max(long["train"]) == 22 and min(long["test"]) == 24 and max(long["test"]) == 48
    held_out = scan_data.load("mixed_verbs")
    rest = set(right["train"].commands)
    assert set(held_out["train"].commands) < rest and set(held_out["test"].commands) < rest
    assert len(held_out["train"]) + len(held_out["test"]) == len(rest)
    assert all(c.count("around left") == 2 for c in held_out["test"].commands)
    assert "walk around left and walk around left" in held_out["train"].commands
    assert "walk around left and run around left" in held_out["test"].commands
    with pytest.raises(ValueError, match=r"add_jump, around_right, .*mixed_verbs; got 'simple'"):
        scan_data.load("simple")


def test_a_changed_grammar_is_noticed(monkeypatch):
    broken = {**scan_data.commands(), "walk twice": "WALK"}
    monkeypatch.setattr(scan_data, "commands", lambda: broken)
    with pytest.raises(RuntimeError, match="train set of add_jump is not what it should be"):
        scan_data.load.__wrapped__("add_jump")


@pytest.mark.skipif(
    not Path(os.environ.get("EQUITUTOR_TEST_DATA", ""), "scan").is_dir(), reason="no real data"
)
def test_equal_to_the_official_files(tmp_path):
    def official(name):
        path = tmp_path / f"{name}.txt"
        packed = Path(os.environ["EQUITUTOR_TEST_DATA"], "scan", f"{name}.txt.xz")
        path.write_bytes(lzma.decompress(packed.read_bytes()))
        found = scan_data.read(path)
        return sorted(zip(found.commands, found.actions, strict=True))

    assert official("tasks") == sorted(scan_data.commands().items())
    for task, name in FILES.items():
        for part, pairs in scan_data.load(task).items():
            ours = sorted(zip(pairs.commands, pairs.actions, strict=True))
            assert ours == official(f"tasks_{part}_{name}")
    jumps = {
        part: set(pairs.commands) for part, pairs in scan_data.load("jump_around_right").items()
    }
    every = scan_data.read(tmp_path / "tasks.txt")
    for part, chosen in jumps.items():
        lines = [
            line(c, a) for c, a in zip(every.commands, every.actions, strict=True) if c in chosen
        ]
        assert hashlib.sha256("".join(lines).encode()).hexdigest() == SHA256[part]


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "scan.txt"
    path.write_text("IN: jump OUT: I_JUMP\njump twice\tJUMP JUMP\n")
    with pytest.raises(ValueError, match=r"line 2 of .*scan\.txt is not of the form"):
        scan_data.read(path)
    for text, message in (("\n", "line 1"), ("", r"scan\.txt is empty")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            scan_data.read(path)


def test_vocabularies_are_those_of_the_paper():
    assert (len(COMMANDS), len(ACTIONS)) == (15, 8)


def test_encode_by_hand_and_back():
    sentences = ["jump twice", "walk", "run and look"]
    ids = COMMANDS.encode(sentences)
    jump, twice, walk = (COMMANDS.index(w) for w in ("jump", "twice", "walk"))
    assert ids[0].tolist() == [jump, twice, EOS, EOS]
    assert ids[1].tolist() == [walk, EOS, EOS, EOS]
    assert lengths(ids).tolist() == [3, 2, 4]
    assert COMMANDS.decode(ids) == sentences
    assert lengths(torch.tensor([[4, 5, 6]])).tolist() == [3]  # cut off before its end


def test_bad_sentences_are_refused():
    with pytest.raises(
        ValueError, match="'hop' of 'hop twice' is not in the vocabulary; it has walk"
    ):
        COMMANDS.encode(["jump", "hop twice"])
    with pytest.raises(ValueError, match="sentence 1 is empty"):
        COMMANDS.encode(["jump", "  "])
    with pytest.raises(ValueError, match="no sentence"):
        COMMANDS.encode([])
    with pytest.raises(TypeError, match=r"write \['jump twice'\]"):
        COMMANDS.encode("jump twice")
    with pytest.raises(ValueError, match="SOS, EOS and distinct words"):
        Vocabulary(("SOS", "EOS", "walk", "walk"))
    with pytest.raises(ValueError, match="'SOS' of 'SOS' is not in the vocabulary"):
        COMMANDS.encode(["SOS"])


# -- the symmetry -----------------------------------------------------------------------------------

VERB = (("jump", "run"), ("JUMP", "RUN"))
DIRECTION = (("left", "right"), ("TURN_LEFT", "TURN_RIGHT"))
VERBS = (("walk", "look", "run", "jump"), ("WALK", "LOOK", "RUN", "JUMP"))


@pytest.mark.parametrize(
    ("cycles", "order"),
    [
        ((VERB,), 2),
        ((DIRECTION,), 2),
        ((VERBS,), 4),
        ((VERB, DIRECTION), 4),
        ((DIRECTION, VERBS), 8),
    ],
)
def test_scan_has_this_symmetry(cycles, order):
    """The actions of g x are g applied to the actions of x, for all commands x."""
    symmetry = word_symmetry(COMMANDS, ACTIONS, *cycles)
    assert len(symmetry.group) == order
    found = scan_data.commands()
    ids, actions = COMMANDS.encode(list(found)), ACTIONS.encode(list(found.values()))
    for g in range(order):
        moved = COMMANDS.decode(symmetry.read.act(g, ids))
        expected = ACTIONS.decode(symmetry.write.act(g, actions))
        assert [found[c] for c in moved] == expected


REACHED = {  # The rest joins, by "and" or "after", in either order,
    "add_jump": ("verb", 7706 - 4 * 21 * 21),  # any phrase with jump and any with run;
    "turn_left": ("dir", 1208 - 4 * 3 * 3),  # turn left (twice, thrice) and turn right;
    "jump_around_right": ("verb", 1173 - 4 * 3 * 3),  # jump and run, both around right.
    "length": ("dir", 0),
}


def reached(task, symmetry):
    split = scan_data.load(task)
    seen, ids = set(split["train"].commands), COMMANDS.encode(split["test"].commands)
    views = (COMMANDS.decode(symmetry.read.act(g, ids)) for g in range(len(symmetry.group)))
    return sum(any(view in seen for view in orbit) for orbit in zip(*views, strict=True))


@pytest.mark.parametrize("task", REACHED)
def test_how_far_the_group_of_a_task_reaches(task):
    """How many test commands some element moves into the training set."""
    group, number = REACHED[task]
    assert OWN[task] == group and reached(task, GROUPS[group]) == number


@pytest.mark.parametrize("group", GROUPS)
def test_no_symmetry_reaches_a_longer_command(group):
    assert reached("length", GROUPS[group]) == 0


def test_words_that_belong_together_must_be_paired():
    """The check above can fail: C4 on the verbs, with their actions in another order."""
    wrong = word_symmetry(COMMANDS, ACTIONS, (VERBS[0], ("LOOK", "WALK", "RUN", "JUMP")))
    assert COMMANDS.decode(wrong.read.act(1, COMMANDS.encode(["walk"]))) == ["look"]
    assert ACTIONS.decode(wrong.write.act(1, ACTIONS.encode(["WALK"]))) == ["RUN"]


def test_a_swap_by_hand():
    verb = word_symmetry(COMMANDS, ACTIONS, VERB)
    ids = COMMANDS.encode(["jump twice and run left"])
    assert COMMANDS.decode(verb.read("r", ids)) == ["run twice and jump left"]
    scores = torch.arange(8.0)
    moved = verb.score("r", scores)
    assert moved[ACTIONS.index("JUMP")] == scores[ACTIONS.index("RUN")]


@pytest.mark.parametrize(
    ("cycles", "message"),
    [
        ((), "at least one pair of word lists"),
        (((("jump", "hop"), ("JUMP", "RUN")),), "'hop' is not in the vocabulary"),
        (((("jump", "run"), ("JUMP", "HOP")),), "'HOP' is not in the vocabulary"),
        (((("jump", "run"), ("jump", "run")),), "'jump' is not in the vocabulary"),
        (((("jump", "run"), ("JUMP",)),), "each paired with one"),
        (((("jump",), ("JUMP",)),), "each paired with one"),
        ((("jump", "run"),), "two lists of words"),
        (((("jump", "jump"), ("JUMP", "RUN")),), "'jump' appears twice"),
        ((VERB, (("run", "walk"), ("RUN", "WALK"))), "'run' appears twice"),
        (((("jump", "EOS"), ("JUMP", "EOS")),), "'EOS' is not in the vocabulary"),
    ],
)
def test_bad_swaps_are_refused(cycles, message):
    with pytest.raises(ValueError, match=message):
        word_symmetry(COMMANDS, ACTIONS, *cycles)
