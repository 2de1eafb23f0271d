from types import SimpleNamespace

import pytest

from equitutor.store.files import DataError
from equitutor.store.hub import from_hub


def failing(error):
    def load(name):
        raise error

    return SimpleNamespace(from_pretrained=load)


def test_each_class_loads_its_part():
    upper, lower = (SimpleNamespace(from_pretrained=f) for f in (str.upper, str.lower))
    assert from_hub("language model", "Gpt2", upper, lower) == ("GPT2", "gpt2")


@pytest.mark.parametrize("kind", [OSError, ValueError])
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("no such model\nSee the documentation.", "no such model"),
        ("\n\n  no such model\nSee the documentation.", "no such model"),
        ("", None),
        (" \n\n", None),
    ],
)
def test_the_message_gives_the_first_line_of_the_reason(kind, message, reason):
    error = kind(message)
    with pytest.raises(DataError) as caught:
        from_hub("CLIP model", "clip", failing(error))
    expected = f"the CLIP model 'clip' could not be loaded ({reason or kind.__name__}). Connect "
    assert str(caught.value).startswith(expected)
    assert str(caught.value).endswith("and give that folder as the name")
    assert caught.value.__cause__ is error


def test_the_message_says_where_to_give_a_folder():
    with pytest.raises(DataError, match="give that folder with --pretrained FOLDER"):
        from_hub("model", "x", failing(OSError()), instead="with --pretrained FOLDER")


def test_other_errors_are_left_alone():
    with pytest.raises(KeyError):
        from_hub("model", "x", failing(KeyError("x")))
