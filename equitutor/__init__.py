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
    cycle_group,
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

# Where the modules lie that readers call eq.NAME; they are imported when first asked for.
_MODULES = {
    name: f".{wing}.{name}" if wing else f".{name}"
    for wing, names in {
        "": "checks experiments layers worlds",
        "language": "corpus corpus_lm equality fairness lm lm_zero nlg regard",
        "sequences": "decoding scan_data seq2seq wordgroups",
        "images": "data zeroshot",
        "store": "results",
        "book": "assignments cost explore papers plotting reports scoreboard tables widgets",
    }.items()
    for name in names.split()
}

# These need transformers, which takes seconds to import.
_CLASSES = {"EquiLM": ".language.lm", "EquizeroLM": ".language.lm_zero"}


def __getattr__(name: str) -> Any:
    """Import the book's modules when they are first asked for: the core alone loads fast."""
    if name in _MODULES:
        return import_module(_MODULES[name], __name__)
    if name in _CLASSES:
        return getattr(import_module(_CLASSES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
