"""Zero-shot classification with CLIP, made invariant under a group (NeurIPS paper).

A CLIP model scores an image against prompts such as "a photo of a cat". It can be averaged over a
group at two places: on its scores, or on its last feature map, which moves with the image and is
moved back before the last layer reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..actionmap import Actions
from ..actions import Action, Trivial
from ..groups import FiniteGroup
from ..methods import equitune
from ..store.hub import from_hub
from ..symmetrize import GroupAverage
from ..weights import Weighting
from .catalogue import IMAGENET
from .imageset import ImageSet

if TYPE_CHECKING:
    from . import lit
    from .views import ViewSet

__all__ = [
    "CLIP",
    "TEMPLATES",
    "Comparison",
    "MapAverage",
    "ZeroShotClassifier",
    "check_classes",
    "class_features",
    "prompt_features",
]

#: Prompts; each class is inserted into every one of them.
TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "an image of the {}.")

#: Mean and standard deviation of the colours that CLIP was trained with.
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@torch.no_grad()
def class_features(
    read: Callable[[list[str]], Tensor], classes: Sequence[str], templates: Sequence[str]
) -> Tensor:
    """One text feature per class: the normalised mean of the normalised features of its prompts.

    Parameters
    ----------
    read : callable
        Takes N texts and returns their features, (N, dim).
    classes : list of str
        Names that take the place of "{}".
    templates : list of str
        Prompts with one "{}" in each.

    Returns
    -------
    (classes, dim) tensor

    Raises
    ------
    TypeError, ValueError
        If there are no classes, a class occurs twice, or a template has no place for it.
    """
    for what, words in (("classes", classes), ("templates", templates)):
        if isinstance(words, str):
            raise TypeError(f"{what} must be a list of strings, got {words!r}: write [{words!r}]")
        if not words or not all(isinstance(w, str) and w.strip() for w in words):
            raise ValueError(f"{what} must be one or more strings, none empty; got {list(words)}")
    if twice := sorted({c for c in classes if list(classes).count(c) > 1}):
        raise ValueError(f"the class {twice[0]!r} is there twice: its two scores would be equal")
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(
                f'the template {template!r} has no single place for the class: write "{{}}" once, '
                'as in "a photo of a {}."'
            )
    each = [normalize(read([t.format(c) for c in classes]), dim=-1) for t in templates]
    return normalize(torch.stack(each).mean(0), dim=-1)


def prompt_features(
    clip: nn.Module, tokenizer: Any, classes: Sequence[str], templates: Sequence[str]
) -> Tensor:
    """The text features of classes, (classes, dim), read by a CLIPModel of transformers.

    See :func:`class_features`.
    """

    def read(texts: list[str]) -> Tensor:
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        tokens = tokens.to(clip.device)
        return clip.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output

    return class_features(read, classes, templates)


class Comparison(nn.Module):
    """A picture's features, (B, dim) -> (B, classes): its cosines with the prompts, times a temperature.

    Parameters
    ----------
    text : (classes, dim) tensor
        From :func:`class_features`.
    temperature : nn.Parameter
        The logarithm of the factor, of no dimension.

    Attributes
    ----------
    text, temperature
    features : nn.Module
        Returns the picture's normalised features, (B, dim).
    """

    text: Tensor

    def __init__(self, text: Tensor, temperature: nn.Parameter):
        super().__init__()
        self.temperature = temperature
        self.features = nn.Identity()
        self.register_buffer("text", text)

    def compare(self, pooled: Tensor) -> Tensor:
        """(B, dim) -> (B, classes)."""
        return self.temperature.exp() * self.features(normalize(pooled, dim=-1)) @ self.text.T


class _Body(nn.Module):
    """CLIP's vision transformer without its last layer.

    (B, 3, d, d) -> the class token (B, C) and the feature map (B, C, p, p).
    """

    def __init__(self, vision: nn.Module, statistics: tuple):
        super().__init__()
        self.vision = vision
        self.look = nn.Identity()  # what lambda sees: the token and the pooled map, (B, 2 C)
        # From ImageNet's normalisation, in which images come in, to the model's own.
        (mean, std), (own_mean, own_std) = (torch.tensor(s) for s in (IMAGENET, statistics))
        self.register_buffer("scale", (std / own_std)[:, None, None], persistent=False)
        shift = (mean - own_mean) / own_std
        self.register_buffer("shift", shift[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.vision.embeddings(x * self.scale + self.shift)  # (B, 1 + p p, C)
        hidden = self.vision.pre_layrnorm(hidden)
        for layer in self.vision.encoder.layers[:-1]:
            hidden = layer(hidden, None)
        token, patches = hidden[:, 0], hidden[:, 1:].transpose(1, 2)  # (B, C), (B, C, p p)
        side = round(patches.shape[2] ** 0.5)
        self.look(torch.cat([token, patches.mean(2)], 1))
        return token, patches.unflatten(2, (side, side))


class _Top(Comparison):
    """The last layer of the transformer and the comparison with the prompts.

    The layer does not depend on positions, so turning the feature map does not change the scores.
    """

    def __init__(self, clip: nn.Module, text: Tensor):
        super().__init__(text, clip.logit_scale)
        self.layer = clip.vision_model.encoder.layers[-1]
        self.norm = clip.vision_model.post_layernorm
        self.projection = clip.visual_projection

    def forward(self, tokens: tuple[Tensor, Tensor]) -> Tensor:
        token, patches = tokens
        hidden = torch.cat([token[:, None], patches.flatten(2).transpose(1, 2)], 1)
        hidden = self.layer(hidden, None)  # (B, 1 + p p, C)
        return self.compare(self.projection(self.norm(hidden[:, 0])))


class ZeroShotClassifier(nn.Module):
    """Scores images by their similarity to prompts: (B, 3, d, d) -> (B, classes).

    It can be wrapped like any network. The submodule "top.features" returns the normalised image
    features, (B, dim).

    Parameters
    ----------
    clip : CLIPModel of transformers, with a vision transformer
    tokenizer, classes, templates
        See :func:`prompt_features`.
    statistics : (mean, std)
        Of the colours that the model was trained with. Inputs are normalised by ImageNet's, as
        everywhere in this library.

    Raises
    ------
    TypeError, ValueError
        If the prompts do not fit, or the model is not a CLIPModel.
    """

    def __init__(
        self,
        clip: nn.Module,
        tokenizer: Any,
        classes: Sequence[str],
        templates: Sequence[str] = TEMPLATES,
        statistics: tuple = CLIP,
    ):
        super().__init__()
        if not hasattr(clip, "vision_model") or not hasattr(clip, "logit_scale"):
            raise TypeError(
                f"the model must be a CLIPModel of transformers, got {type(clip).__name__}"
            )
        text = prompt_features(clip, tokenizer, classes, templates)
        self.classes = tuple(classes)
        self.size = clip.config.vision_config.image_size
        self.body = _Body(clip.vision_model, statistics)
        self.top = _Top(clip, text)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, classes: Sequence[str], templates: Sequence[str] = TEMPLATES
    ) -> ZeroShotClassifier:
        """A CLIP model by its name on the hub or from a folder, such as openai/clip-vit-base-patch32."""
        clip, tokenizer = load_clip(name)
        return cls(clip.eval(), tokenizer, classes, templates)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.body(x))

    def body_action(self, action: Action) -> Actions:
        """How an action on pictures moves what the body returns: the map, not the token."""
        return {0: Trivial(action.group), 1: action}

    @property
    def body_features(self) -> tuple[str, int]:
        """The submodule of the body that returns a view's features, and their size."""
        return "look", 2 * self.top.norm.normalized_shape[0]


def load_clip(name: str | Path) -> tuple[Any, Any]:
    """A CLIP model and its tokenizer, by the name on the hub or from a folder."""
    from transformers import AutoTokenizer, CLIPModel

    return from_hub("CLIP model", name, CLIPModel, AutoTokenizer)


def check_classes(classes: Sequence[str], images: ImageSet | ViewSet) -> None:
    """Raise ValueError unless there is one name for each class of an ImageSet."""
    if len(images.classes) != len(classes):
        raise ValueError(
            f"the data has {len(images.classes)} classes ({', '.join(images.classes[:5])}, ...), "
            f"the prompts name {len(classes)} ({', '.join(classes[:5])}, ...): give one "
            "name for each class, in the order of the labels"
        )


class MapAverage(nn.Module):
    """A zero-shot classifier averaged on its last feature map, so that its scores are invariant.

    The map is moved back by g^-1 before the average, so what the last layer reads is equivariant.

    Parameters
    ----------
    classifier : ZeroShotClassifier or :class:`equitutor.images.lit.TwoTowers`
    action : Action on images
    make : callable, optional
        ``make(model, in_action, out_action)`` returns the wrapper of the body; default
        :func:`equitutor.equitune`.
    """

    def __init__(
        self,
        classifier: ZeroShotClassifier | lit.TwoTowers,
        action: Action,
        make: Callable[..., GroupAverage] = equitune,
    ):
        super().__init__()
        self.average = make(classifier.body, action, classifier.body_action(action))
        self.top = classifier.top

    @property
    def group(self) -> FiniteGroup:
        return self.average.group

    @property
    def in_action(self) -> Action:
        return self.average.in_action

    @property
    def weighting(self) -> Weighting:
        return self.average.weighting

    def weights(self, x: Tensor) -> Tensor:
        """The weights of the views, ``(|G|, B)``."""
        return self.average.weights(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.average(x))
