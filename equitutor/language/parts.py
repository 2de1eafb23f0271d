"""The parts of an EquiLM: a config of a pretrained model, and a pretrained model of a config."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import transformers
from transformers import PreTrainedModel

from .causal import core_of
from .config import EquiLMConfig
from .equality import Axes, Equality
from .word_record import check_record

__all__ = ["check_tokenizer", "config_of", "mirror", "pretrained_of", "words_of"]

# What transformers notes of a loaded model, and asks of the whole one.
_NOTED = (
    "hf_quantizer",
    "quantization_method",
    "is_quantized",
    "is_loaded_in_8bit",
    "is_loaded_in_4bit",
    "hf_device_map",
)


def config_of(
    model: Any, equality: Axes | None, general: Iterable[str] | None, average: str, words: Equality
) -> EquiLMConfig:
    """The config of an EquiLM of a pretrained model, perhaps with adapters of PEFT inside."""
    core = core_of(model)
    adapters = None
    if core is not model:
        adapters = {
            name: {k: sorted(v) if isinstance(v, set) else v for k, v in config.to_dict().items()}
            for name, config in model.peft_config.items()
        }
    return EquiLMConfig(
        base=core.config,
        base_class=type(core).__name__,
        equality=equality,
        general=general,
        average=average,
        words=words.record(),
        adapters=adapters,
    )


def pretrained_of(config: EquiLMConfig) -> Any:
    """The pretrained model of a config, without its weights.

    Raises
    ------
    ValueError
        If its class is none of transformers'.
    """
    if config.base_class is None:
        model = transformers.AutoModelForCausalLM.from_config(config.base)
    else:
        kind = getattr(transformers, config.base_class, None)
        if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
            raise ValueError(
                f"the config's base_class {config.base_class!r} is no model of this version of "
                f"transformers, {transformers.__version__}: it was written by another version, or is "
                "damaged"
            )
        model = kind._from_config(config.base)  # type: ignore[attr-defined]
    for name, adapter in (config.adapters or {}).items():
        from peft import PeftConfig, get_peft_model

        adapter = PeftConfig.from_peft_type(**adapter)
        if core_of(model) is model:
            model = get_peft_model(model, adapter, adapter_name=name)
        else:
            model.add_adapter(name, adapter)
    return model


def words_of(config: EquiLMConfig, model: Any) -> Equality:
    """The group of the lists on record.

    Raises
    ------
    ValueError
        If the record is damaged, or the lists are others by now.
    """
    if config.words is None or config.equality is None:
        raise ValueError(
            "the config has no lists of words on record; make an EquiLM of a pretrained model with "
            "EquiLM.from_pretrained(name, equality=[[...]])"
        )
    check_record(config.words, config.equality, config.general)
    size = core_of(model).get_output_embeddings().weight.shape[0]
    return Equality.from_record(config.words, size)


def check_tokenizer(words: Equality, tokenizer: Any) -> None:
    """Raise ValueError unless the tokens that move are those words to the tokenizer."""
    for spelled, ids in chain.from_iterable(
        each.cycles for lists in words.lists.values() for each in lists
    ):
        for text, token in zip(spelled, ids, strict=True):
            found = tokenizer.decode([token])
            read = tokenizer.encode(
                text, add_special_tokens=False
            )  # some write all in small letters
            if found.strip() != text.strip() and token not in read:
                raise ValueError(
                    f"token {token} is {text!r} in the lists on record, but {found!r} to the "
                    "tokenizer: the tokenizer is another model's. Put the model's own into the folder, "
                    "or give the lists anew: from_pretrained(..., equality=[[...]])"
                )


def mirror(core: Any, lm: Any) -> None:
    """Note of the whole what transformers noted of the pretrained model, such as its device map."""
    for name in _NOTED:
        if name in vars(core):
            setattr(lm, name, vars(core)[name])
    if "hf_device_map" in vars(core):
        places = core.hf_device_map.items()
        lm.hf_device_map = {f"model.{key}" if key else "model": place for key, place in places}
