"""help() of the public classes is a page or two, and hides nothing of an instance."""

import abc
import pydoc
from types import FunctionType

import pytest
import torch

import equitutor as eq

CLASSES = [
    eq.Permutation,
    eq.Rotations,
    eq.MatrixAction,
    eq.Regular,
    eq.Trivial,
    eq.GroupAverage,
    eq.LambdaNet,
    eq.EquivariantLinear,
    eq.InvariantHead,
    eq.FiniteGroup,
    eq.EquiLM,
    eq.EquizeroLM,
]


def of_a_library(base):
    return base.__module__.split(".")[0] in ("torch", "transformers")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_help_is_a_page_or_two(cls):
    page = pydoc.plain(pydoc.render_doc(cls))
    assert 10 <= page.count("\n") <= 120
    assert cls.__doc__.splitlines()[0] in page
    replaced = {name for base in cls.__mro__ if of_a_library(base) for name in vars(base)}
    for name, member in vars(cls).items():
        if isinstance(member, FunctionType) and not name.startswith("_"):
            ours = name == "forward" or member.__doc__ or name not in replaced
            assert (f" {name}(" in page) == bool(ours), name


def test_an_instance_still_completes_what_every_module_has():
    names = dir(eq.Permutation(eq.cyclic(3)))
    assert {"views", "undo", "perms", "to", "eval", "state_dict", "training"} <= set(names)
    assert {"weighting", "model", "parameters"} <= set(
        dir(eq.equitune(torch.nn.Flatten(), eq.Trivial(eq.cyclic(2))))
    )


def test_a_language_model_still_completes_what_transformers_gives_it():
    lm = object.__new__(eq.EquiLM)  # completion asks the class, not the weights
    torch.nn.Module.__init__(lm)
    assert {"coverage", "generate", "push_to_hub", "save_pretrained", "state_dict"} <= set(dir(lm))
    assert "push_to_hub" not in dir(eq.EquiLM) and callable(eq.EquiLM.push_to_hub)


def test_a_subclass_may_be_abstract():
    class Abstract(eq.Action, abc.ABC):
        @abc.abstractmethod
        def name(self): ...

    with pytest.raises(TypeError, match="abstract"):
        Abstract(eq.cyclic(2))
