"""The config of an EquiLM: the pretrained model's own, and what was made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig

from .equality import Axes

__all__ = ["EquiLMConfig"]


class EquiLMConfig(PreTrainedConfig):
    """The config of :class:`equitutor.language.lm.EquiLM`, of model type "equilm".

    What it does not have itself, such as ``max_position_embeddings``, it has from ``base``.

    Parameters
    ----------
    base : config of transformers, or the dict of one
        The pretrained model's.
    base_class : str
        The pretrained model's class in transformers, such as "GPT2LMHeadModel".
    equality, general, average
        As for :class:`equitutor.language.lm.EquiLM`.
    words : dict
        Which tokens the lists move: :meth:`equitutor.language.equality.Equality.record`.
    adapters : dict, optional
        The configs of PEFT adapters inside the pretrained model, by name.

    Raises
    ------
    ValueError
        If ``base`` is neither a config nor the dict of one.
    """

    model_type = "equilm"
    has_no_defaults_at_init = True
    keys_to_ignore_at_inference: ClassVar = ["past_key_values", "cache"]
    sub_configs: ClassVar = {"base": AutoConfig}

    def __init__(
        self,
        base: PreTrainedConfig | Mapping[str, Any] | None = None,
        base_class: str | None = None,
        equality: Axes | None = None,
        general: Iterable[str] | None = None,
        average: str = "logits",
        words: dict[str, Any] | None = None,
        adapters: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.base = base if isinstance(base, PreTrainedConfig) else _config(base)
        self.base_class, self.average = base_class, average
        self.equality, self.general = _plain(equality), _plain(general)
        self.words, self.adapters = words, adapters

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "base" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        try:
            return getattr(self.base, name)
        except (
            Exception
        ) as error:  # some have attributes for each layer, and will not give one for all
            raise AttributeError(str(error)) from error

    def get_text_config(self, *args: Any, **kwargs: Any) -> Any:
        """The text part of the pretrained model's config."""
        made = "base" in self.__dict__  # transformers asks for it before it is
        return self.base.get_text_config(*args, **kwargs) if made else self

    def _get_generation_parameters(self) -> dict[str, Any]:
        return self.base._get_generation_parameters()


def _config(base: Any) -> PreTrainedConfig:
    """The config of a dict with its model type."""
    if not isinstance(base, Mapping) or "model_type" not in base:
        raise ValueError(
            "the config of an EquiLM needs the pretrained model's as its base: a config, or a dict "
            f"with a model_type; got {base!r}. Is its config.json damaged?"
        )
    return AutoConfig.for_model(**base)


def _plain(words: Any) -> Any:
    """Lists of words as lists and strings, to be written as JSON."""
    if isinstance(words, Mapping):
        return {str(name): _plain(lists) for name, lists in words.items()}
    return words if words is None or isinstance(words, str) else [_plain(each) for each in words]


AutoConfig.register(EquiLMConfig.model_type, EquiLMConfig, exist_ok=True)
