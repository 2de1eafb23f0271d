"""The opening page's picture shows what its caption says."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from equitutor.book import turning
from equitutor.groups import cyclic
from equitutor.rotations import Rotations

STATIC = Path(__file__).parents[2] / "book" / "_static"


def test_the_frames_are_turns_of_which_four_are_exact():
    images = turning.turned(64)
    assert images.shape == (16, 3, 64, 64)
    rot = Rotations(cyclic(4))
    for k in range(16):
        assert torch.equal(
            images[k], rot(f"r{k // 4}" if k > 7 else "er"[k // 4], images[k % 4 :][:1])[0]
        )
    assert (images[1].float() - images[0].float()).abs().max() > 50  # and twelve are others


def test_the_picture_is_of_these_frames():
    """Of what the page shows, the photographs are compared; the words change with the network's weights."""
    drawn = Image.open(STATIC / "turning.webp").convert("L")
    assert drawn.size == (640, 250 * turning.FRAMES)
    frames = [drawn.crop((30, 250 * k + 10, 290, 250 * k + 240)) for k in range(turning.FRAMES)]
    images = turning.turned(64)
    for frame, image in zip(frames, images, strict=True):
        small = torch.tensor(np.asarray(frame.resize((32, 32)))).float().flatten()
        wanted = torch.nn.functional.interpolate(image[None].float(), (32, 32), mode="area")[
            0
        ].mean(0)
        both = torch.stack([small, wanted.flatten()])
        assert torch.corrcoef(both)[0, 1] > 0.8


def test_what_is_told_to_those_who_cannot_see_it_is_so():
    text = (STATIC.parent / "intro.md").read_text(encoding="utf-8")
    assert (
        "when it is upright and at some other steps, and other things, such as a trombone" in text
    )
    assert "Its average calls it a tripod at every step." in text
    plain, mean = (
        [a.split(",")[0] for a in each] for each in turning.answers(turning.turned()).values()
    )
    assert (
        plain[0] == "tripod" and {"trombone", "tripod"} < set(plain[1:]) and set(mean) == {"tripod"}
    )
