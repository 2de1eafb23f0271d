"""The models of the SCAN experiment, and the groups that act on its words."""

from __future__ import annotations

from ..weights import LambdaNet, LearnedWeights, LeastLoss, entropy
from . import scan_data
from .scan_data import ACTIONS, COMMANDS
from .seq2seq import CELLS, EquiSeq2Seq, Seq2Seq
from .wordgroups import word_symmetry

__all__ = ["GROUPS", "KINDS", "MODELS", "OWN", "plain", "shared", "tuned"]

_VERB = (("jump", "run"), ("JUMP", "RUN"))
_VERBS = (scan_data.VERBS, tuple(v.upper() for v in scan_data.VERBS))
_DIRECTION = (("left", "right"), ("TURN_LEFT", "TURN_RIGHT"))

#: The groups: a swap of two verbs or of the directions (as in the paper), the four verbs in a cycle
#: (as in the published G- networks), and both swaps at once.
GROUPS = {
    "verb": word_symmetry(COMMANDS, ACTIONS, _VERB),
    "dir": word_symmetry(COMMANDS, ACTIONS, _DIRECTION),
    "verbs": word_symmetry(COMMANDS, ACTIONS, _VERBS),
    "verb x dir": word_symmetry(COMMANDS, ACTIONS, _VERB, _DIRECTION),
}

#: The group that each task calls for: "own". For length it is one of many: none can help there.
OWN = {
    "add_jump": "verb",
    "around_right": "dir",
    "turn_left": "dir",
    "jump_around_right": "verb",
    "length": "dir",
    "mixed_verbs": "dir",
}

#: The prefix of a cell's name: how the model gets its symmetry.
KINDS = ("", "G-", "Equi", "Zero", "Lambda")
MODELS = {f"{kind}{cell}": (kind, cell) for cell in CELLS for kind in KINDS}


def plain(cell: str, hidden: int = 64, dropout: float = 0.1) -> Seq2Seq:
    """The network to pretrain."""
    return Seq2Seq(cell, embedding=hidden, hidden=hidden, dropout=dropout)


def shared(cell: str, group: str, hidden: int = 64) -> Seq2Seq:
    """G-RNN, G-GRU or G-LSTM, without dropout, as published."""
    return Seq2Seq(cell, embedding=hidden, hidden=hidden, dropout=0, symmetry=GROUPS[group])


def tuned(kind: str, net: Seq2Seq, group: str) -> EquiSeq2Seq:
    """A pretrained network made equivariant, before tuning. ``kind``: "Equi", "Zero" or "Lambda"."""
    weighting = {
        "Equi": lambda: None,
        "Zero": lambda: LeastLoss(entropy),
        "Lambda": lambda: LearnedWeights(LambdaNet(net.cell_on.in_features), "features"),
    }[kind]()
    return EquiSeq2Seq(net, GROUPS[group], weighting)
