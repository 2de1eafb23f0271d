"""SCAN (Lake and Baroni, 2018): commands such as "jump around left twice", and the actions they mean.

A grammar defines the data set, so all 20,910 commands are generated here, and split by the definitions
of the splits:

    C -> S | S and S | S after S        S -> V | V twice | V thrice
    V -> D | U | D opposite or around   D -> U left | U right | turn left | turn right
    U -> walk | look | run | jump       ("U opposite left" is the verb of D, then its direction)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from ..store.files import read_text
from .vocabulary import Vocabulary

__all__ = [
    "ACTIONS",
    "COMMANDS",
    "DIRECTIONS",
    "TASKS",
    "VERBS",
    "Pairs",
    "commands",
    "load",
    "read",
]


# -- the grammar ----------------------------------------------------------------------------------

VERBS = ("walk", "look", "run", "jump")
DIRECTIONS = ("left", "right")

_MODIFIERS = ("opposite", "around", "twice", "thrice", "and", "after")
COMMANDS = Vocabulary(("SOS", "EOS", *VERBS, "turn", *DIRECTIONS, *_MODIFIERS))
ACTIONS = Vocabulary(("SOS", "EOS", "WALK", "LOOK", "RUN", "JUMP", "TURN_LEFT", "TURN_RIGHT"))


def _phrases() -> dict[str, list[str]]:
    """Every V of the grammar with its actions."""
    phrases = {verb: [verb.upper()] for verb in VERBS}
    for verb in (*VERBS, "turn"):
        act = phrases.get(verb, [])  # "turn" itself has no action: the directions do it
        for direction in DIRECTIONS:
            turn = f"TURN_{direction.upper()}"
            phrases[f"{verb} {direction}"] = [turn, *act]
            phrases[f"{verb} opposite {direction}"] = [turn, turn, *act]
            phrases[f"{verb} around {direction}"] = [turn, *act] * 4
    return phrases


@lru_cache
def commands() -> dict[str, str]:
    """All 20,910 commands of the grammar with their actions."""
    single = {}
    for phrase, actions in _phrases().items():
        for word, times in (("", 1), (" twice", 2), (" thrice", 3)):
            single[phrase + word] = actions * times
    whole = dict(single)
    for first, does in single.items():
        for second, then in single.items():
            whole[f"{first} and {second}"] = does + then
            whole[f"{first} after {second}"] = then + does
    return {command: " ".join(actions) for command, actions in whole.items()}


# -- the splits -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairs:
    """Commands, and the actions of each."""

    commands: tuple[str, ...]
    actions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.commands)

    def encode(self) -> tuple[Tensor, Tensor]:
        """(N, T) ids of the commands and (N, S) ids of the actions."""
        return COMMANDS.encode(self.commands), ACTIONS.encode(self.actions)

    def sha256(self) -> str:
        """Hash of the sorted lines "command -> actions": the same for any order of the pairs."""
        lines = sorted(f"{c} -> {a}\n" for c, a in zip(self.commands, self.actions, strict=True))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class _Task:
    train: Callable[[str], int]  # how often a command is in the training set
    test: Callable[[str], bool]  # whether it is in the test set
    sha256: tuple[str, str]


def _mixes(command: str) -> bool:
    """Whether two different verbs go around left."""
    verbs = re.findall(r"(\w+) around left", command)
    return len(verbs) == 2 and verbs[0] != verbs[1] and "turn" not in verbs


def _actions(command: str) -> int:
    return len(commands()[command].split())


TASKS = {
    # All that training shows of jump is "jump" by itself, 1,467 times.
    "add_jump": _Task(
        lambda c: 1467 if c == "jump" else int("jump" not in c.split()),
        lambda c: "jump" in c.split() and c != "jump",
        (
            "d1c861bbef9827a5b948fd4efb27f69e3d44320a9213fab09e4836c0016fdf86",
            "71ba5f1aa46cafd2c8b776415382df645c5b931f5b65116ab17616cac0dc0e00",
        ),
    ),
    # Training has no "around right". The test set leaves out "turn around right".
    "around_right": _Task(
        lambda c: int("around right" not in c),
        lambda c: "around right" in c and "turn around right" not in c,
        (
            "a7433fa6b036cfdae8531138f6599cedaf96c73c06f560687607278f56e78536",
            "59e3c75a1a8df1d92eb42a47ba60f91a6236b4d288a34baac3ffaeb298d1e97f",
        ),
    ),
    # All that training shows of "turn left" is that command by itself, 2,189 times.
    "turn_left": _Task(
        lambda c: 2189 if c == "turn left" else int("turn left" not in c),
        lambda c: "turn left" in c and c != "turn left",
        (
            "76aacfc68cfa0fb79cc9f25efe8934de70b5d27b7973ca9a77a7f1600b7a571d",
            "8130b68996c199c9a35169ce638e479bbcfe605b0aab0a89995015fedc068ed6",
        ),
    ),
    # Training has "around right" with every verb but jump. "turn around right" is left out of both.
    "jump_around_right": _Task(
        lambda c: int("jump around right" not in c and "turn around right" not in c),
        lambda c: "jump around right" in c and "turn around right" not in c,
        (
            "476f6cb7f604b9af28ad07521d2e6f280987ab439a887e739654c4a2f09733e2",
            "d637c562d8c6f9e7d6a17b3b5da72d4714f41f13de44a9bc45f06fe26bd948fd",
        ),
    ),
    # Training has the commands of up to 22 actions; the longer ones have 24 to 48.
    "length": _Task(
        lambda c: int(_actions(c) <= 22),
        lambda c: _actions(c) > 22,
        (
            "7f4895e310cf22d6a0440cb1c4bd179d63134dd1001b382bdd625760b5b56220",
            "cb357d7f5be93bd1b2a93a6adb5343ba2bd5e918cc29da59226293438f5eff21",
        ),
    ),
    # Not one of SCAN's: around_right's training set without the commands in which two different verbs
    # go "around left". As in that task, the test combines two long phrases that training never does,
    # so settings can be chosen by it without a look at the real test set.
    "mixed_verbs": _Task(
        lambda c: int("around right" not in c and not _mixes(c)),
        lambda c: "around right" not in c and _mixes(c),
        (
            "c35e721289b4d9fb5335ee131a8482bbd36e1118a3f9311977fcac9283b9cdb4",
            "c6217acaa9d98815cc597679e4e54673c33d893109b2c8023d9d9e252c9f7cfc",
        ),
    ),
}


@lru_cache
def load(task: str) -> dict[str, Pairs]:
    """{"train": Pairs, "test": Pairs} of a split, checked by hash.

    Those of SCAN were compared with the official files: add_jump, around_right and jump_around_right
    are equal to them, turn_left and length have as many pairs and bytes.

    Parameters
    ----------
    task : str
        "add_jump", "turn_left" or "length" of Lake and Baroni (2018), with 14,670 and 7,706 pairs,
        21,890 and 1,208, and 16,990 and 3,920; "around_right" or "jump_around_right" of Loula et al.
        (2018), with 15,225 and 4,476, and 18,528 and 1,173; or, for choosing settings, "mixed_verbs"
        with 15,009 and 216 of around_right's training pairs.

    Raises
    ------
    ValueError
        If there is no such task.
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}; got {task!r}")
    rule = TASKS[task]
    chosen = {
        "train": [c for c in commands() for _ in range(rule.train(c))],
        "test": [c for c in commands() if rule.test(c)],
    }
    split = {
        part: Pairs(tuple(names), tuple(commands()[c] for c in names))
        for part, names in chosen.items()
    }
    for part, expected in zip(split, rule.sha256, strict=True):
        if split[part].sha256() != expected:
            raise RuntimeError(
                f"the {part} set of {task} is not what it should be (SHA-256 {split[part].sha256()}, "
                f"expected {expected}): the grammar in scan_data.py was changed"
            )
    return split


def read(path: str | Path) -> Pairs:
    """The pairs of an official SCAN file, with lines "IN: jump twice OUT: I_JUMP I_JUMP"."""
    pairs = []
    for number, line in enumerate(read_text(Path(path)).splitlines(), 1):
        start, mark, actions = line.partition(" OUT: ")
        if not start.startswith("IN: ") or not mark:
            raise ValueError(
                f'line {number} of {path} is not of the form "IN: ... OUT: ...": {line!r}'
            )
        plain = " ".join(action.removeprefix("I_") for action in actions.split())
        pairs.append((start.removeprefix("IN: "), plain))
    if not pairs:
        raise ValueError(f'{path} is empty: it should have lines "IN: ... OUT: ..."')
    return Pairs(*zip(*pairs, strict=True))
