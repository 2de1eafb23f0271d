"""equitutor: pretrained models made group equivariant.

>>> import equitutor as eq
>>> rot = eq.Rotations(eq.cyclic(4))
>>> model = eq.equitune(classifier, rot)        # invariant to turns by 90 degrees
>>> eq.equivariance_error(model, images)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import command as _command

_command.answer_early()  # `python -m equitutor --help` need not wait for what follows

from .actions import (
    Action,
    FunctionAction,
    Permutation,
    ProductAction,
    Regular,
    TokenPermutation,
    Trivial,
    cycle_group,
)
from .diagnose import BrokenLayer, broken_layers, checkup
from .environment import setup
from .groups import (
    Element,
    FiniteGroup,
    cyclic,
    dihedral,
    direct_product,
    permutation_group,
    symmetric,
)
from .layers import EquivariantLinear, InvariantHead, RegularHead, orbits
from .methods import RegularFeatures, equiattention, equitune, equizero, lambda_equitune
from .representations import MatrixAction, Sign
from .rotations import Flip, Rotations, rotation_matrices
from .symmetrize import GroupAverage, group_average
from .testing import assert_equivariant, equivariance_error, equivariance_errors
from .version import __version__
from .weights import (
    AttentionWeights,
    LambdaNet,
    LearnedWeights,
    LeastLoss,
    Uniform,
    Weighting,
    entropy,
    max_value,
    top_probability,
)

if TYPE_CHECKING:  # for editors; at run time these are imported when they are first asked for
    from . import book, checks, experiments, images, language, sequences, store, worlds
    from .book import (
        assignments,
        cost,
        explore,
        papers,
        plotting,
        reports,
        scoreboard,
        tables,
        widgets,
    )
    from .images import data, zeroshot
    from .language import corpus, corpus_lm, equality, fairness, lm, lm_zero, nlg, regard
    from .language.lm import EquiLM
    from .language.lm_zero import EquizeroLM
    from .sequences import decoding, scan_data, seq2seq, wordgroups
    from .store import results

# name -> where it lies, for __getattr__: the same as above, which a test compares.
_LAZY = {
    **dict.fromkeys(
        ["book", "checks", "experiments", "images", "language", "sequences", "store", "worlds"], ""
    ),
    **dict.fromkeys(
        [
            "assignments",
            "cost",
            "explore",
            "papers",
            "plotting",
            "reports",
            "scoreboard",
            "tables",
            "widgets",
        ],
        ".book",
    ),
    **dict.fromkeys(["data", "zeroshot"], ".images"),
    **dict.fromkeys(
        ["corpus", "corpus_lm", "equality", "fairness", "lm", "lm_zero", "nlg", "regard"],
        ".language",
    ),
    **dict.fromkeys(["decoding", "scan_data", "seq2seq", "wordgroups"], ".sequences"),
    "results": ".store",
    "EquiLM": ".language.lm",
    "EquizeroLM": ".language.lm_zero",
}


def __getattr__(name: str) -> Any:
    """Import what needs more than the core when it is first asked for: the core alone loads fast."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name[0].isupper():
        return getattr(import_module(_LAZY[name], __name__), name)
    return import_module(f"{_LAZY[name]}.{name}", __name__)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY} - {"Any", "TYPE_CHECKING", "annotations", "import_module"})
