"""equitutor: pretrained models made group equivariant.

>>> import equitutor as eq
>>> rot = eq.Rotations(eq.cyclic(4))
>>> model = eq.equitune(classifier, rot)        # invariant to turns by 90 degrees
>>> eq.equivariance_error(model, images)
"""

import ast
from importlib import import_module
from pkgutil import get_data
from typing import TYPE_CHECKING, Any

from . import language  # tells transformers of EquiLM as soon as it is loaded itself

if TYPE_CHECKING:  # the public names: for editors and type checkers, and read by _homes()
    from . import (
        actionmap,
        actions,
        book,
        checks,
        choosers,
        diagnose,
        environment,
        experiments,
        groups,
        images,
        language,
        layers,
        methods,
        modes,
        nested,
        options,
        permutations,
        representations,
        rotations,
        sequences,
        store,
        symmetrize,
        testing,
        trainable,
        weights,
        worlds,
    )
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
    from .choosers import Canonical, Frame, Sampled, prior_loss, sampling_variance
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
    from .images import data, zeroshot
    from .language import corpus, corpus_lm, equality, fairness, lm, lm_zero, nlg, regard
    from .language.lm import EquiLM
    from .language.lm_zero import EquizeroLM
    from .layers import (
        EquivariantLinear,
        GroupConv2d,
        InvariantHead,
        OrientationNet,
        RegularHead,
        orbits,
    )
    from .methods import (
        RegularFeatures,
        canonicalize,
        equiattention,
        equitune,
        equizero,
        frame_average,
        lambda_equitune,
        stochastic_average,
    )
    from .representations import MatrixAction, Sign
    from .rotations import Flip, Rotations, rotation_matrices
    from .sequences import decoding, scan_data, seq2seq, wordgroups
    from .store import results
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


def _homes() -> dict[str, str]:
    """{name: where it lies} of the imports above, such as {"cyclic": ".groups", "groups": "."}."""
    module = ast.parse(get_data(__name__, "__init__.py") or b"")
    (block,) = (node for node in module.body if isinstance(node, ast.If))
    imports = (node for node in block.body if isinstance(node, ast.ImportFrom))
    return {alias.name: f".{node.module or ''}" for node in imports for alias in node.names}


_HOMES = _homes()
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562): torch and its like take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(_HOMES[name], __name__)
    if name not in vars(home):  # a module
        import_module(f"{home.__name__}.{name}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return __all__
