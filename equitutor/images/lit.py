"""Two locked towers and a projection that joins them, after LiT (Zhai et al., CVPR 2022).

A pretrained network sees, a pretrained sentence encoder reads, and neither is touched. What is trained here
is one linear layer, from the features of a picture to those of its caption. (LiT trains the tower that reads.)
Then a picture is classified by prompts, as with CLIP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..actions import Action
from ..environment import generator
from .backbones import Backbone
from .small_clip import contrastive_loss
from .zeroshot import TEMPLATES, Comparison, class_features

__all__ = [
    "SCALE",
    "LockedTower",
    "TwoTowers",
    "train_projection",
]

#: By how much cosines are multiplied to give scores.
SCALE = 20.0

Reader = Callable[[list[str]], Tensor]


# -- the picture tower -----------------------------------------------------------------------------------


class LockedTower(nn.Module):
    """The picture tower: (B, 3, d, d) -> the pooled last feature map, (B, C).

    Parameters
    ----------
    net : Backbone
        Its weights are locked: they take no gradients, and it stays in evaluation mode.

    Raises
    ------
    ValueError
        If it has no feature map, as vision transformers have none.
    """

    def __init__(self, net: Backbone):
        super().__init__()
        self.features = net.requires_grad_(False).features
        self.eval()

    def train(self, mode: bool = True) -> LockedTower:
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).mean((2, 3))


# -- the classifier -------------------------------------------------------------------------------


class _Projected(Comparison):
    """A picture's pooled features, (B, C) -> (B, classes)."""

    def __init__(self, projection: nn.Linear, text: Tensor, scale: float):
        super().__init__(text, nn.Parameter(torch.tensor(math.log(scale)), requires_grad=False))
        self.projection = projection

    def forward(self, pooled: Tensor) -> Tensor:
        return self.compare(self.projection(pooled))


class TwoTowers(nn.Module):
    """Scores pictures by their similarity to prompts: (B, 3, d, d) -> (B, classes).

    It can be wrapped like any network. "body" is the picture tower, "top" the rest: the submodule
    "top.features" returns the normalised picture features, (B, dim). Only "top.projection" can be trained.

    >>> net = eq.images.backbone("efficientnet_lite0")
    >>> read = equitutor.language.sentences.SentenceEncoder.from_pretrained()
    >>> model = TwoTowers(LockedTower(net), projection, read, ["cat", "dog"])
    >>> invariant = eq.equizero(model, rot, loss=eq.entropy)

    Parameters
    ----------
    body : nn.Module
        What a picture's pooled features come from, (B, C): a :class:`LockedTower`, or
        :func:`equitutor.images.views.on_views` of features that were computed before.
    projection : nn.Linear
        From C to the text tower's dim, trained by :func:`train_projection`.
    read : callable
        The text tower: a :class:`equitutor.language.sentences.SentenceEncoder`, or
        :class:`equitutor.language.sentences.KnownTexts`.
    classes, templates
        See :func:`equitutor.images.zeroshot.class_features`.
    scale : float
        The factor of the cosines.

    Raises
    ------
    TypeError, ValueError
        If the prompts do not fit, or the projection does not end where the text tower does.
    """

    def __init__(
        self,
        body: nn.Module,
        projection: nn.Linear,
        read: Reader,
        classes: Sequence[str],
        templates: Sequence[str] = TEMPLATES,
        scale: float = SCALE,
    ):
        super().__init__()
        text = class_features(read, classes, templates)
        if text.shape[1] != projection.out_features:
            raise ValueError(
                f"the projection ends in {projection.out_features} features, the text tower in "
                f"{text.shape[1]}: give the text tower that it was trained with"
            )
        self.classes = tuple(classes)
        self.body = body
        self.top = _Projected(projection, text.to(projection.weight.device), scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.body(x))

    def body_action(self, action: Action) -> None:
        """How an action on pictures moves what the body returns: not at all.

        The body pools the map, which does not depend on positions: so the mean of the maps, moved back and
        then pooled, is the mean of the pooled features.
        """

    @property
    def body_features(self) -> tuple[None, int]:
        """The body's own output is a view's features; and their size."""
        return None, self.top.projection.in_features


# -- the training of the projection ---------------------------------------------------------------


def train_projection(
    features: Tensor,
    labels: Tensor,
    read: Reader,
    classes: Sequence[str],
    captions: Sequence[str] = TEMPLATES,
    epochs: int = 10,
    lr: float = 1e-4,
    seed: int = 0,
    scale: float = SCALE,
) -> nn.Linear:
    """Train the projection by CLIP's contrastive loss; the towers are locked.

    AdamW on batches of 64 pictures, each with a caption drawn for its class; the rate falls to 0.

    Parameters
    ----------
    features : (N, C) tensor
        What the picture tower says of upright pictures.
    labels : (N,) tensor
        Their classes.
    read : callable
        The text tower.
    classes, captions : list of str
        The classes' names, and captions with one "{}" in each.

    Returns
    -------
    nn.Linear
        (B, C) -> (B, dim)
    """
    texts = torch.stack([class_features(read, classes, [caption]) for caption in captions])
    texts = texts.to(features.device)  # (captions, classes, dim)
    order = generator(seed)
    torch.manual_seed(seed)
    projection = nn.Linear(features.shape[1], texts.shape[2]).to(features.device)
    optimizer = torch.optim.AdamW(projection.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels), generator=order).split(64):
            drawn = torch.randint(len(captions), (len(rows),), generator=order)
            text = texts[drawn, labels[rows]]  # (B, dim)
            picture = normalize(projection(features[rows]), dim=-1)
            loss = contrastive_loss(scale * picture @ text.T, labels[rows].to(text.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return projection
