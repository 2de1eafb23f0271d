"""Checkers for the exercises of the book: ``eq.checks.check_NAME(your_function)``.

Each prints a short verdict and returns whether the answer is right. For the first failing case it
shows your answer beside the expected one and, for well-known mistakes, says what probably happened.
A checker is data for :func:`equitutor.checks.verdict.verdict`: the right function, cases to try it
on, and wrong functions, each with a sentence that names the mistake.
"""

from .averages import *  # noqa: F403
from .graphs import *  # noqa: F403
from .groups import *  # noqa: F403
from .images import *  # noqa: F403
from .photographs import *  # noqa: F403
from .project import *  # noqa: F403
from .reynolds import *  # noqa: F403
from .sharing import *  # noqa: F403
from .views import *  # noqa: F403
from .words import *  # noqa: F403

__all__ = sorted(name for name in globals() if name.startswith("check_"))
