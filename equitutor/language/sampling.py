"""generate() with views: the next token is drawn equivariantly, and what views cannot do is refused."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor

from .causal import CACHE
from .views import frame_of, keep_views

__all__ = ["REFUSED", "EquivariantDraw", "EquivariantGenerationMixin", "unanswered"]

_OF_VIEWS = "{0} belong to the views and have no average: call .model for the pretrained model's"

#: Options of generate that views cannot answer, and why.
REFUSED = {
    "output_attentions": _OF_VIEWS.format("attentions"),
    "output_hidden_states": _OF_VIEWS.format("hidden states"),
    "inputs_embeds": (
        "embeddings cannot be moved, as the group acts on the ids of words: give input_ids instead of "
        "inputs_embeds"
    ),
    "watermarking_config": (
        "a watermark prefers words by their ids, so that it treats equal words unlike: leave "
        "watermarking_config out"
    ),
    "token_healing": (
        "token_healing searches the vocabulary for longer spellings of the prompt's last token, which "
        "may be unlike for equal words: leave it out, or heal the prompt with .model"
    ),
}


def unanswered(config: GenerationConfig | None, inputs: dict[str, Any]) -> None:
    """Raise for options of generate that views cannot answer.

    Parameters
    ----------
    config : GenerationConfig, optional
        All options together, from wherever they came.
    inputs : dict
        What goes to the model's forward.
    """
    for name, reason in REFUSED.items():
        value = inputs.get(name, getattr(config, name, None))
        if value is not None and value is not False:
            raise ValueError(reason)


class EquivariantDraw(LogitsProcessor):
    """Draws the next token so that, with one seed, images of a context get images of one text.

    A plain draw ties its random numbers to the ids of the vocabulary, so swapping two words changes
    it. Here the noise belongs to the *words of the least context of the orbit*, and moves with the
    context. With exponential noise e, the token with the greatest p / e is distributed as p.

    The drawn token is the only one left with a finite score.

    Parameters
    ----------
    lm : EquiLM
    top_k : int, optional
        The sampler's own filter, which came first; None or 0: none.

    Raises
    ------
    RuntimeError
        There is none to draw: a score is NaN or infinite, or all are forbidden.
    """

    def __init__(self, lm: Any, top_k: int | None = None):
        self.lm, self.top_k = lm, top_k

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        lm = self.lm
        frame = frame_of(input_ids.to(lm.perms.device), lm.perms, lm.moves).to(scores.device)
        # Words of equal score may tie for the last places of the top k: make room for all of them.
        count = (self.top_k or scores.shape[1]) + len(lm.support)
        if count < scores.shape[1]:
            best, words = scores.topk(count)  # (B, count)
        else:
            best, words = scores, torch.arange(scores.shape[1]).expand_as(scores).to(scores.device)
        if not bool(best.amax(-1).isfinite().all()):
            raise RuntimeError(
                "no next token can be drawn: the scores are NaN or infinite, or every token is forbidden"
            )
        # The word v of x is f v in f x, the least of the orbit. By these names all images of x have
        # the same words, and so the same noise.
        names = lm.perms.to(scores.device)[frame[:, None], words]
        noise = torch.empty_like(best).exponential_()
        if count < scores.shape[1]:  # filtered words come last
            names = names.masked_fill(best == -torch.inf, scores.shape[1])
            names = names.argsort(1).argsort(1)
        noise = noise.gather(1, names)
        place = (best - noise.log()).argmax(-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter_(1, words.gather(1, place), 0.0)


class EquivariantGenerationMixin(GenerationMixin):
    """What ``generate`` does otherwise for a model that averages views."""

    def _prepare_generation_config(self, *args: Any, **kwargs: Any) -> tuple[Any, dict]:
        config, inputs = super()._prepare_generation_config(*args, **kwargs)
        unanswered(config, inputs)
        return config, inputs

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        self.model._validate_model_kwargs(model_kwargs)  # what the pretrained model takes

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict, *args: Any, **kwargs: Any
    ) -> None:
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)
        if model_kwargs.get(CACHE) is not None:
            model_kwargs[CACHE] = keep_views(model_kwargs[CACHE])

    def _get_logits_processor(self, generation_config: Any, *args: Any, **kwargs: Any) -> Any:
        processors = super()._get_logits_processor(generation_config, *args, **kwargs)
        if generation_config.do_sample and generation_config.num_beams in (None, 1):
            processors.append(EquivariantDraw(self, generation_config.top_k))
        return processors

    def _sample(
        self,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **kwargs: Any,
    ) -> Any:
        if generation_config.do_sample:  # EquivariantDraw has drawn: there is one token left
            generation_config = copy.copy(generation_config)
            generation_config.do_sample = False
        return super()._sample(
            input_ids, logits_processor, stopping_criteria, generation_config, **kwargs
        )

    def _valid_auto_compile_criteria(self, *args: Any, **kwargs: Any) -> bool:
        return False  # which rows there are depends on the words: no one graph holds it

    def _optimize_model_for_decode(self) -> Any:
        return self.model._optimize_model_for_decode()

    def generate_batch(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            "continuous batching keeps the keys of all requests in pages of its own, where views have "
            "no place: use generate with a padded batch"
        )
