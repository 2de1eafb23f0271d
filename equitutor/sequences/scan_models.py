"""The models of the SCAN experiment, and the groups that act on its words."""

from __future__ import annotations

from ..weights import LambdaNet, LearnedWeights, LeastLoss, entropy
from . import scan_data
from .scan_data import ACTIONS, COMMANDS
from .seq2seq import CELLS, EquiSeq2Seq, Seq2Seq
from .wordgroups import word_symmetry

_VERB = (("jump", "run"), ("JUMP", "RUN"))
_VERBS = (scan_data.VERBS, tuple(v.upper() for v in scan_data.VERBS))
_DIRECTION = (("left", "right"), ("TURN_LEFT", "TURN_RIGHT"))

#: The groups: a swap of two verbs or of the directions (the paper's), the four verbs in a cycle (as
#: the published G- networks), and both swaps at once.
GROUPS = {
    "verb": word_symmetry(COMMANDS, ACTIONS, _VERB),
    "dir": word_symmetry(COMMANDS, ACTIONS, _DIRECTION),
    "verbs": word_symmetry(COMMANDS, ACTIONS, _VERBS),
    "verb x dir": word_symmetry(COMMANDS, ACTIONS, _VERB, _DIRECTION),
}

#: The group that a task asks for: "own".
OWN = {"add_jump": "verb", "around_right": "dir", "mixed_verbs": "dir"}

#: What stands before the name of a cell: how the model comes to its symmetry.
KINDS = ("", "G-", "Equi", "Zero", "Lambda")
MODELS = {f"{kind}{cell}": (kind, cell) for cell in CELLS for kind in KINDS}


def plain(cell: str, hidden: int = 64, dropout: float = 0.1) -> Seq2Seq:
    """The network that is pretrained."""
    return Seq2Seq(cell, embedding=hidden, hidden=hidden, dropout=dropout)


def shared(cell: str, group: str, hidden: int = 64) -> Seq2Seq:
    """G-RNN, G-GRU or G-LSTM: no dropout, as published."""
    return Seq2Seq(cell, embedding=hidden, hidden=hidden, dropout=0, symmetry=GROUPS[group])


def tuned(kind: str, net: Seq2Seq, group: str) -> EquiSeq2Seq:
    """A pretrained network under the weighting of this kind, not tuned yet."""
    weighting = {
        "Equi": lambda: None,
        "Zero": lambda: LeastLoss(entropy),
        "Lambda": lambda: LearnedWeights(LambdaNet(net.cell_on.in_features), "features"),
    }[kind]()
    return EquiSeq2Seq(net, GROUPS[group], weighting)
