"""equitutor: pretrained models made group equivariant.

>>> import equitutor as eq
>>> rot = eq.Rotations(eq.cyclic(4))
>>> model = eq.equitune(classifier, rot)        # invariant to turns by 90 degrees
>>> eq.equivariance_error(model, images)
"""

from importlib import import_module
from typing import Any

from .actions import (
    Action,
    Flip,
    FunctionAction,
    MatrixAction,
    Permutation,
    ProductAction,
    Regular,
    Rotations,
    TokenPermutation,
    Trivial,
    rotation_matrices,
)
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
from .symmetrize import (
    GroupAverage,
    RegularFeatures,
    equiattention,
    equitune,
    equizero,
    group_average,
    lambda_equitune,
)
from .testing import assert_equivariant, equivariance_error, equivariance_errors
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

__version__ = "0.1.0"

_MODULES = (
    "assignments",
    "checks",
    "corpus",
    "corpus_lm",
    "cost",
    "data",
    "decoding",
    "equality",
    "experiments",
    "explore",
    "fairness",
    "layers",
    "lm",
    "lm_zero",
    "nlg",
    "papers",
    "plotting",
    "regard",
    "results",
    "scan_data",
    "scoreboard",
    "seq2seq",
    "tables",
    "widgets",
    "wordgroups",
    "worlds",
    "zeroshot",
)

# These need transformers, which takes seconds to import.
_CLASSES = {"EquiLM": ".lm", "EquizeroLM": ".lm_zero"}


def __getattr__(name: str) -> Any:
    """Import the book's modules when they are first asked for: the core alone loads fast."""
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _CLASSES:
        return getattr(import_module(_CLASSES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
