"""Names that others gave, made safe to show: in a terminal; in a figure see :mod:`equitutor.book.pixels`. And counts."""

from __future__ import annotations

__all__ = ["counted", "printable"]


def printable(text: object, keep: str = "") -> str:
    """The text with what a terminal would obey or not show escaped, but for characters to ``keep``.

    >>> printable("red\\x1b[31m")
    'red\\\\x1b[31m'
    """
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode()
        for c in str(text)
    )


def counted(count: int, thing: str) -> str:
    """A number of things: "1 cell", "2 cells"."""
    return f"{count} {thing}{'' if count == 1 else 's'}"
