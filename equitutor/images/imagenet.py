"""Answering about other data sets with ImageNet's own 1,000 classes, without any training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["GROUPS", "OwnClasses"]

#: For each data set the ImageNet classes, by their numbers, that count as each of its classes.
GROUPS: dict[str, dict[str, tuple[int, ...]]] = {
    "hymenoptera": {"ants": (310,), "bees": (309,)},
    "cifar10": {
        "airplane": (404, 895),  # airliner, warplane
        "automobile": (436, 468, 511, 609, 627, 656, 661, 751, 817),
        "bird": (*range(7, 25), *range(80, 101), *range(127, 147)),
        "cat": tuple(range(281, 286)),
        "deer": (351, 352, 353),  # ImageNet has none: three antelopes
        "dog": tuple(range(151, 269)),
        "frog": (30, 31, 32),
        "horse": (339,),  # sorrel
        "ship": (403, 484, 510, 554, 625, 628, 724, 780, 814, 871, 914),
        "truck": (555, 569, 675, 717, 864, 867),
    },
}


class OwnClasses(nn.Module):
    """Scores of groups of classes: (B, classes) -> (B, groups), log of the sum of the exponentials.

    Their softmax is the probability of each group, given that it is one of them.

    Parameters
    ----------
    groups : for each group the numbers of its classes
    """

    def __init__(self, groups: Sequence[Sequence[int]]):
        super().__init__()
        self.groups = [list(group) for group in groups]

    def forward(self, scores: Tensor) -> Tensor:
        """(B, classes) to (B, groups)."""
        return torch.stack([scores[:, group].logsumexp(1) for group in self.groups], 1)
