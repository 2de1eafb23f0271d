"""Sentence encoders: texts as vectors, near each other where the texts mean the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..modes import evaluating
from ..store import hub
from ..store.files import DataError

__all__ = ["READER", "KnownTexts", "SentenceEncoder", "fingerprint"]

#: The sentence encoder of the book, by its name on the hub (Apache 2.0; 384 features).
READER = "sentence-transformers/all-MiniLM-L6-v2"


class SentenceEncoder(nn.Module):
    """N texts -> (N, dim), the mean of a transformer's token features, normalised.

    Parameters
    ----------
    model : encoder of transformers
    tokenizer : its tokenizer
    """

    def __init__(self, model: nn.Module, tokenizer: Any):
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(cls, name: str | Path = READER) -> SentenceEncoder:
        """By the name on the hub, or from a folder.

        Raises
        ------
        DataError
            If it cannot be loaded, or is no encoder of texts.
        """
        encoder = cls(*_loaded(name))
        try:
            encoder(["a", "a longer text"])
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise DataError(
                f"{str(name)!r} is no encoder of texts ({str(error).splitlines()[0]}). Give a sentence encoder "
                f"of transformers, such as {READER}"
            ) from error
        return encoder

    @torch.no_grad()
    def forward(self, texts: list[str]) -> Tensor:
        with evaluating(self.model):
            tokens = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
            tokens = tokens.to(self.model.device)
            hidden = self.model(**tokens).last_hidden_state  # (N, T, dim)
        mask = tokens["attention_mask"][..., None]  # (N, T, 1)
        return normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def _loaded(name: str | Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    return hub.from_hub(
        "sentence encoder", name, AutoModel, AutoTokenizer, instead="in place of the name"
    )


def fingerprint(name: str | Path) -> str:
    """What identifies a sentence encoder of the hub, or of a folder, by its content."""
    return hub.fingerprint(*_loaded(name))


class KnownTexts:
    """Texts that a sentence encoder has read before, so that it is not needed for them.

    Called as :class:`SentenceEncoder` is. For a text that is not among them the encoder is loaded.

    Parameters
    ----------
    features : dict {text: (dim,) tensor}
    name : str or Path
        Of the encoder, on the hub or a folder.
    """

    def __init__(self, features: Mapping[str, Tensor], name: str | Path = READER):
        self.features, self.name = dict(features), name

    def __call__(self, texts: list[str]) -> Tensor:
        if new := [text for text in texts if text not in self.features]:
            read = SentenceEncoder.from_pretrained(self.name)(new).cpu()
            self.features |= dict(zip(new, read, strict=True))
        return torch.stack([self.features[text] for text in texts])
