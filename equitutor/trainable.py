"""The group average of a model of transformers, as their Trainer wants it: labels in, a loss out.

The loss is taken after the average, by the model's own ``loss_function``. Nothing here imports
transformers: a model is recognised by what it has.
"""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .symmetrize import GroupAverage

__all__ = ["TrainableAverage", "average_of"]

#: What is the model's own. Not ``generate``, which would leave the average out.
PASSED_ON = {
    "activation_checkpointing_disable",
    "activation_checkpointing_enable",
    "base_model_prefix",
    "config",
    "device",
    "dtype",
    "enable_input_require_grads",
    "get_input_embeddings",
    "gradient_checkpointing_disable",
    "gradient_checkpointing_enable",
    "is_gradient_checkpointing",
    "loss_type",
    "main_input_name",
    "name_or_path",
    "num_labels",
    "supports_gradient_checkpointing",
    "warnings_issued",
}

WEIGHTING = "weighting.pt"  # the file of learned weights, beside the model's own


class TrainableAverage(GroupAverage):
    """A :class:`GroupAverage` of a model of transformers, which ``Trainer`` trains, evaluates and saves.

    Called with labels, it returns the loss of the averaged scores too. ``config``, ``device`` and a few
    more are the model's.
    """

    accepts_loss_kwargs = True

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        named = self.signature.bind(args, kwargs)
        targets = {name: named.pop(name) for name in _label_names(self.signature.positional, named)}
        count = named.pop("num_items_in_batch", None)
        outputs = super().forward(**named)  # type: ignore[arg-type] # all have names
        if all(target is None for target in targets.values()):
            return outputs
        loss = self._loss(outputs, targets, count)
        if isinstance(outputs, tuple):  # return_dict=False
            return (loss, *outputs)
        return type(outputs)(**{**outputs, "loss": loss})

    def _loss(self, outputs: Any, targets: dict[str, Any], count: Any) -> Tensor:
        config = self.model.config
        scores = {"logits": outputs[0]} if isinstance(outputs, tuple) else {**outputs}
        known = {
            **scores,
            **targets,
            "pooled_logits": scores.get("logits"),
            "config": config,
            "vocab_size": getattr(config, "vocab_size", None),
        }
        wanted = inspect.signature(self.model.loss_function).parameters.values()
        given = {p.name: known[p.name] for p in wanted if known.get(p.name) is not None}
        lacking = [p for p in wanted if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        if (
            self.model.loss_type is None
            or config.is_encoder_decoder
            or any(p.name not in given for p in lacking)
        ):
            raise ValueError(
                f"{type(self.model).__name__} has no loss that could be taken after the average: leave out "
                "the labels and take your own of the outputs (compute_loss_func of Trainer)"
            )
        return self.model.loss_function(**given, num_items_in_batch=count)

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Save the tuned model, as its own ``save_pretrained`` does, and learned weights beside it.

        Load it by wrapping ``from_pretrained(folder)`` with the same actions; learned weights by
        ``wrapped.weighting.load_state_dict(torch.load(folder / "weighting.pt", weights_only=True))``.
        """
        self.model.save_pretrained(folder, **options)
        if state := self.weighting.state_dict():
            torch.save(state, Path(folder) / WEIGHTING)

    def _get_name(self) -> str:
        return type(self.model).__name__  # Trainer knows by the name whether labels are shifted

    def __repr__(self) -> str:
        return f"GroupAverage of {super().__repr__()}"

    def __getattr__(self, name: str) -> Any:
        if name in PASSED_ON:
            return getattr(self.model, name)
        return super().__getattr__(name)

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _blank, (type(self.model),), self.__dict__


def average_of(model: nn.Module, *args: Any) -> GroupAverage:
    """A :class:`GroupAverage`, of the kind that suits the model."""
    like_transformers = all(
        hasattr(model, a) for a in ("config", "loss_function", "save_pretrained")
    )
    cls = _class_of(type(model)) if like_transformers else GroupAverage  # type: ignore[arg-type]
    return cls(model, *args)


@cache
def _class_of(model: type) -> type[TrainableAverage]:
    """The class for one class of models: Trainer reads the arguments off the class's forward."""

    def forward(self: TrainableAverage, *args: Any, **kwargs: Any) -> Any:
        return self._forward(*args, **kwargs)

    forward.__signature__ = inspect.signature(model.forward)  # type: ignore[attr-defined]
    return type(f"TrainableAverage_{model.__name__}", (TrainableAverage,), {"forward": forward})


def _blank(model: type) -> TrainableAverage:
    """An instance to fill by copy or pickle, which cannot find a class that is made on the fly."""
    cls = _class_of(model)
    return cls.__new__(cls)


def _label_names(parameters: tuple[str, ...], given: Any) -> list[str]:
    """Which of the arguments are labels: Trainer's own rule."""
    return [
        p
        for p in parameters
        if ("label" in p or p in ("start_positions", "end_positions")) and p in given
    ]
