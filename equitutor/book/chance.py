"""Whether a difference could be chance."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .papers import Summary

__all__ = ["holm", "p_value"]


def p_value(difference: Summary) -> float:
    """The chance of a mean at least as far above zero, if the true mean were zero: a one-sided paired t-test.

    Parameters
    ----------
    difference : Summary
        Of at least two differences, such as :func:`equitutor.book.scoreboard.paired` returns.
    """
    from scipy.stats import t  # here: it takes a second to import

    if difference.std is None:
        raise ValueError("one difference says nothing of chance: a test needs at least two")
    if difference.std == 0:
        return 0.0 if difference.mean > 0 else 1.0
    return float(t.sf(difference.mean / difference.std * math.sqrt(difference.n), difference.n - 1))


def holm(p_values: Mapping[str, float], level: float = 0.05) -> dict[str, bool]:
    """Which of several claims are shown, if all are tested at once (Holm, 1979).

    The chance that any untrue claim is among them is at most ``level``.
    """
    shown = dict.fromkeys(p_values, False)
    for rank, claim in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        if p_values[claim] * (len(p_values) - rank) > level:
            break
        shown[claim] = True
    return shown
