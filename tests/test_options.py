"""What an option may be, and what is said of what it may not be."""

import re
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import torch

from equitutor.options import Choice, Filled, Range, Seeds, checked, parsed

RATE = Annotated[float, Range(0, 10, "(]")]
COUNT = Annotated[int, Range(1)]
PAIR = Annotated[tuple[float, float], Range(0, 1)]
NAMES = Annotated[tuple[str, ...], Choice({"a": 1, "b": 2})]


@pytest.mark.parametrize(
    ("hint", "given", "found"),
    [
        (RATE, 10, 10),
        (RATE, np.float32(0.5), 0.5),
        (COUNT, np.int64(3), 3),
        (Seeds, range(3), (0, 1, 2)),
        (Seeds, np.array([4, 2**32 - 1]), (4, 2**32 - 1)),
        (PAIR, [0.0, 1.0], (0.0, 1.0)),
        (NAMES, ["b", "a"], ("b", "a")),
        (str, Path("a/b"), str(Path("a/b"))),
        (tuple[str, ...], (), ()),  # no rule: it may be empty
    ],
)
def test_what_is_taken_becomes_pythons_own(hint, given, found):
    value = checked("x", hint, given)
    assert value == found and type(value) is type(found)
    if isinstance(value, tuple):
        assert {type(item) for item in value} <= {int, float, str}


@pytest.mark.parametrize(
    ("hint", "given", "error", "says"),
    [
        (RATE, -1, ValueError, "x must be more than 0 and at most 10, got -1"),
        (RATE, 0.0, ValueError, "x must be more than 0 and at most 10, got 0.0"),
        (RATE, float("nan"), ValueError, "x must be a finite number, got nan"),
        (Annotated[float, Range(0)], np.inf, ValueError, "x must be a finite number, got inf"),
        (RATE, "0.1", TypeError, "x must be a finite number, got '0.1'"),
        (RATE, True, TypeError, "x must be a finite number, got True"),
        (RATE, 10**400, ValueError, "x must be more than 0 and at most 10, got 1000"),
        (COUNT, 2.0, TypeError, "x must be a whole number, got 2.0"),
        (COUNT, np.True_, TypeError, "x must be a whole number"),
        (COUNT, torch.ones(2), TypeError, "x must be a whole number"),
        (COUNT, None, TypeError, "x must be a whole number, got None"),
        (Seeds, (), ValueError, "x must have at least one value, got none"),
        (Seeds, 3, TypeError, "x must be a tuple, got 3"),
        (Seeds, "01", TypeError, "x must be a tuple, got '01'"),
        (Seeds, (0, -1), ValueError, "x must be at least 0 and at most 4294967295, got -1"),
        (Seeds, (0, 0.5), TypeError, "x must be a whole number, got 0.5"),
        (PAIR, (1.0,), ValueError, "x must have 2 values, got 1"),
        (PAIR, (0.5, 1.1), ValueError, "x must be at least 0 and at most 1, got 1.1"),
        (NAMES, ("a", "c"), ValueError, "x must be some of a, b; got ['c']"),
        (NAMES, (), ValueError, "x must be some of a, b; got ()"),
        (Annotated[str, Choice("ab")], "c", ValueError, 'x must be "a" or "b", got \'c\''),
        (Annotated[str, Filled()], " ", ValueError, "x must be a name or a path, got ' '"),
        (str, 3, TypeError, "x must be text, got 3"),
    ],
)
def test_what_is_refused(hint, given, error, says):
    with pytest.raises(error, match=re.escape(says)):
        checked("x", hint, given)


@pytest.mark.parametrize(
    ("hint", "text", "found"),
    [
        (RATE, "1e-3", 1e-3),
        (COUNT, "7", 7),
        (PAIR, "1,0.05", (1.0, 0.05)),
        (NAMES, "a,,b,", ("a", "b")),
        (tuple[str, ...], "", ()),
    ],
)
def test_words_of_the_command_line(hint, text, found):
    assert parsed("--x", hint, text) == found


@pytest.mark.parametrize(
    ("hint", "text", "says"),
    [
        (COUNT, "1.5", "--x must be a whole number, got '1.5'"),
        (COUNT, "9" * 5000, "--x must be a whole number"),
        (COUNT, "0", "--x must be at least 1, got 0"),
        (Seeds, "0,one", "--x must be a whole number each, got '0,one'"),
        (Seeds, ",", "--x must have at least one value, got none"),
    ],
)
def test_words_that_are_refused(hint, text, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        parsed("--x", hint, text)
