"""Pretrained models of the Hugging Face hub, with advice where one cannot be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import DataError

__all__ = ["from_hub"]


def from_hub(
    what: str, name: str | Path, *classes: Any, instead: str = "as the name"
) -> tuple[Any, ...]:
    """``from_pretrained(name)`` of each class, such as a network's and its tokenizer's.

    Parameters
    ----------
    what : str
        What the model is, such as "CLIP model", for the error message.
    name : str or Path
        A model on the hub, or a folder with its files.
    instead : str
        How to give a folder in place of the name, for the error message.

    Raises
    ------
    DataError
        A part could not be loaded: the first line of the reason, and what to do.
    """
    try:
        return tuple(cls.from_pretrained(name) for cls in classes)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"the {what} {str(name)!r} could not be loaded ({reason}). Connect to the network once, so "
            "that it is downloaded and kept; or copy its files into a folder and give that folder "
            f"{instead}"
        ) from error
