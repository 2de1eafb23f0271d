"""What a frozen network says of every view of an image, computed once.

The features of the views form an axis indexed by the group, and moving the image permutes it: so an
average over the group, and whatever is trained on top, can start from there and costs seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..actions import Action, Permutation
from ..groups import FiniteGroup
from ..store import checkpoints
from ..text import printable
from .backbones import Backbone
from .imageset import ImageSet
from .training import to_input

__all__ = ["ViewSet", "ViewsAction", "on_views", "view_set"]

BLOCK = 500  # images whose views are computed, and kept, at a time


@dataclass(frozen=True, eq=False)
class ViewSet:
    """Labelled images, each as what a network says of its views.

    Attributes
    ----------
    images : Tensor
        float32, ``(N, |G|, channels + classes of the network)``: at h the pooled features of h x, then the
        network's own scores.
    labels, classes, name
        As in :class:`equitutor.images.imageset.ImageSet`.
    channels : int
        How many of the numbers are features.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    channels: int

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Sequence[int] | Tensor | slice) -> ViewSet:
        """The images at ``indices``."""
        indices = indices if isinstance(indices, slice) else torch.as_tensor(indices)
        chosen = self.images[indices], self.labels[indices]
        return ViewSet(*chosen, self.classes, self.name, self.channels)


class ViewsAction(Permutation):
    """How a group moves the axis of an image's views, ``(B, |G|, ...)``: the view h of g x is the view h g of x."""

    def __init__(self, group: FiniteGroup):
        # what was at h is at h g^-1 after g
        super().__init__(group, group.table[:, group.inverses].T, dim=1)


@torch.no_grad()
def view_set(
    net: Backbone,
    images: ImageSet,
    action: Action,
    size: int,
    device: torch.device | str = "cpu",
    title: str = "",
) -> ViewSet:
    """Run a network on all views of some images; what was computed is kept in the cache folder.

    Parameters
    ----------
    net : Backbone
        Used in evaluation mode.
    images : ImageSet
    action : Action
        On images.
    size : int
        Side in pixels at which the network sees them.

    Notes
    -----
    A run that was killed goes on where it stopped. 1,000 images in four views of EfficientNet-Lite0 take
    36 MB.
    """
    net = net.to(device, memory_format=torch.channels_last).eval()  # twice as fast on a CPU
    features, head = net.features, net.head
    weights = checkpoints.checksum(net.state_dict())[:16]
    channels = 0
    found = []
    rows = torch.arange(len(images)).split(BLOCK)
    for block in tqdm(
        rows, desc=printable(title or f"views of {images.name}"), delay=2, leave=False
    ):
        pictures = images.images[block]
        recipe = {
            "weights": weights,
            "size": size,
            "action": repr(action),
            "images": checkpoints.checksum({"images": pictures}),
        }

        def make(pictures: Tensor = pictures) -> dict[str, Tensor]:
            said = []
            for part in pictures.split(20):
                maps = features(action.views(to_input(part, size, device)))
                both = torch.cat([maps.mean((2, 3)), head(maps)], 1)  # (|G| B, C + classes)
                said.append(both.unflatten(0, (-1, len(part))).transpose(0, 1).cpu())
            return {"views": torch.cat(said).contiguous(), "channels": torch.tensor(maps.shape[1])}

        kept = checkpoints.kept(f"views-{net.metadata.architecture}", recipe, make, is_noted=False)
        found.append(kept["views"])
        channels = int(kept["channels"])
    return ViewSet(torch.cat(found), images.labels, images.classes, images.name, channels)


class _Pick(nn.Module):
    """The part from ``start`` to ``end`` of one view, (B, |G|, ...) -> (B, end - start)."""

    def __init__(self, view: int, start: int, end: int):
        super().__init__()
        self.view, self.start, self.end = view, start, end

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.view, self.start : self.end]


class _OnViews(nn.Module):
    def __init__(self, features: nn.Module, scores: nn.Module | None, head: nn.Module):
        super().__init__()
        self.features, self.scores, self.head = features, scores, head

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        return self.head(features if self.scores is None else self.scores(x))


def on_views(views: ViewSet, head: nn.Module, group: FiniteGroup, own: bool = False) -> nn.Module:
    """A classifier of a :class:`ViewSet` that sees the view e alone, as the network sees one image.

    Averaged under :class:`ViewsAction` it gives what the network with this head gives under the action
    on images.

    Parameters
    ----------
    head : nn.Module
        Of the features (B, channels), or with ``own`` of the network's own scores, -> (B, classes).

    Returns
    -------
    nn.Module
        Its submodule "features" returns the features, (B, channels).
    """
    e, end = group.identity.index, views.images.shape[2]
    scores = _Pick(e, views.channels, end) if own else None
    return _OnViews(_Pick(e, 0, views.channels), scores, head)
