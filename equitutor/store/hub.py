"""Pretrained models of the Hugging Face hub, with advice where one cannot be loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from .checkpoints import checksum
from .files import DataError

__all__ = ["fingerprint", "from_hub"]


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


def fingerprint(model: Any, tokenizer: Any) -> str:
    """What identifies a pretrained model by its content: weights, labels and vocabulary.

    Returns
    -------
    str
        The first 16 digits of a SHA-256.
    """
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0]))
    labels = sorted(getattr(model.config, "id2label", {}).items())
    digest = hashlib.sha256(checksum(model.state_dict()).encode())
    digest.update(repr((words, labels)).encode())
    return digest.hexdigest()[:16]
