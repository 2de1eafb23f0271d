"""help() of the public classes is a page or two, and hides nothing of an instance."""

import abc
import pydoc

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
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_help_is_a_page_or_two(cls):
    page = pydoc.plain(pydoc.render_doc(cls))
    assert 10 <= page.count("\n") <= 120
    assert cls.__doc__.splitlines()[0] in page
    for name in vars(cls):
        if not name.startswith("_") and callable(getattr(cls, name)):
            assert f" {name}(" in page


def test_an_instance_still_completes_what_every_module_has():
    names = dir(eq.Permutation(eq.cyclic(3)))
    assert {"views", "undo", "perms", "to", "eval", "state_dict", "training"} <= set(names)
    assert {"weighting", "model", "parameters"} <= set(
        dir(eq.equitune(torch.nn.Flatten(), eq.Trivial(eq.cyclic(2))))
    )


def test_a_subclass_may_be_abstract():
    class Abstract(eq.Action, abc.ABC):
        @abc.abstractmethod
        def name(self): ...

    with pytest.raises(TypeError, match="abstract"):
        Abstract(eq.cyclic(2))
