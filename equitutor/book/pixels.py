"""One image on one axes, and names beside it."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from torch import Tensor

from ..text import printable

__all__ = ["math_name", "plain", "show_image"]

# What LaTeX would take for a command, and matplotlib's mathtext with it.
_LATEX = {c: f"\\{c}" for c in "$#%&_{}"}
_LATEX |= {" ": "\\,", "\\": "\\backslash ", "^": "\\wedge ", "~": "\\sim "}


def show_image(
    ax: Axes, image: Tensor, low: float | None = None, high: float | None = None
) -> None:
    """Draw (H, W), (1, H, W) or (3, H, W) without ticks, scaled from low..high to black..white.

    uint8 and colours from 0 to 1 keep their values.
    """
    x = torch.as_tensor(image).detach().cpu()
    if x.ndim == 3 and x.shape[0] in (1, 3):
        x = x.squeeze(0) if x.shape[0] == 1 else x.movedim(0, -1)
    # (H, W) or (H, W, 3)
    if x.ndim not in (2, 3) or (x.ndim == 3 and x.shape[-1] != 3):
        raise ValueError(
            f"expected one image, (H, W), (1, H, W) or (3, H, W), got shape {tuple(image.shape)}"
        )
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color="0.6", linewidth=0.6)
    low = float(x.min()) if low is None else low
    high = float(x.max()) if high is None else high
    if x.dtype == torch.uint8:
        low, high = 0.0, 255.0
    elif x.ndim == 3 and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scaled = (x.float() - low) / max(high - low, 1e-12)
    ax.imshow(scaled.clamp(0, 1).numpy(), cmap="gray", vmin=0, vmax=1)


def math_name(name: str) -> str:
    """The name of a group element in LaTeX: r2s -> r^{2}s; names of another kind upright."""
    if name and all(c in "ers0123456789" for c in name) and not name[0].isdigit():
        return "".join(f"^{{{c}}}" if c.isdigit() else c for c in name)
    return f"\\mathrm{{{''.join(_LATEX.get(c, c) for c in name)}}}"


def plain(name: str) -> str:
    """A name or a word as a figure's text that is no formula, whatever signs are in it."""
    return printable(name, keep="\n").replace("$", r"\$")
