"""The moving picture of the opening page: a photograph turns, and two networks say what they see.

``python -m equitutor.book.turning FILE.webp`` draws it: the frames, one below the other, of which the page shows one
at a time.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import InterpolationMode, center_crop, rotate

from ..groups import cyclic
from ..images import data
from ..images.backbones import backbone
from ..images.catalogue import labels
from ..images.training import to_input
from ..methods import equitune
from ..rotations import Rotations
from . import plotting

__all__ = ["FRAMES", "answers", "draw", "turned"]

FRAMES = 16  # of 22.5 degrees


def turned(side: int = 224) -> Tensor:
    """The cameraman under sixteen turns, ``(16, 3, side, side)`` of uint8; four of them are exact."""
    large = data.photographs(size=round(1.43 * side))  # no corner is left empty by a turn
    image = large.images[large.classes.index("cameraman")]
    quarter = FRAMES // 4
    some = [rotate(image, 360 / FRAMES * k, InterpolationMode.BILINEAR) for k in range(quarter)]
    some = [center_crop(one, [side, side]) for one in some]
    return torch.stack([some[k % quarter].rot90(k // quarter, (-2, -1)) for k in range(FRAMES)])


@torch.no_grad()
def answers(images: Tensor) -> dict[str, list[str]]:
    """What the network and its average say of each image: the likeliest class and its probability."""
    net = backbone("efficientnet_lite0").eval()
    x, classes = to_input(images, 224, "cpu"), labels()
    models = {
        "the pretrained network": net,
        "its average over quarter turns": equitune(net, Rotations(cyclic(4))).eval(),
    }
    said = {}
    for name, model in models.items():
        best = zip(*model(x).softmax(1).max(1), strict=True)
        said[name] = [f"{classes[k]}, {probability:.0%}" for probability, k in best]
    return said


def draw() -> Image.Image:
    """All frames, one below the other."""
    images = turned()
    said = answers(images)
    sheet = Image.new("RGB", (640, 250 * FRAMES), "white")
    for k in range(FRAMES):
        fig, ((picture, words),) = plotting.panels(1, 2, size=(3.2, 2.5))
        picture.imshow(images[k].movedim(0, -1))
        for ax in (picture, words):
            ax.set_axis_off()
        for row, (name, each) in enumerate(said.items()):
            words.text(0, 0.85 - 0.5 * row, f"{name}:", fontsize=11)
            words.text(0, 0.65 - 0.5 * row, each[k], fontsize=15)
        file = io.BytesIO()
        fig.savefig(file, dpi=100)
        sheet.paste(Image.open(file).resize((640, 250)), (0, 250 * k))
    return sheet


if __name__ == "__main__":
    draw().save(Path(sys.argv[1]), "WEBP", quality=70, method=6)
