"""How the book's figures look: colours and marks that differ in black and white too, sizes, fonts."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.colors import LinearSegmentedColormap

__all__ = [
    "HATCHES",
    "LETTER",
    "LIGHT",
    "LINES",
    "MARKERS",
    "PALETTE",
    "SERIES",
    "SMALLEST",
    "STYLE",
    "WIDEST",
    "styled",
]

#: Okabe and Ito's colours, distinct for any colour vision, dark and light in turn.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
#: A column of text, in inches, and the letters of a caption, in points.
WIDEST, SMALLEST = 5.85, 9
LETTER = 0.085  # about the width of one of the labels, in inches
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))
SERIES = cycler(color=PALETTE, linestyle=LINES, marker=MARKERS)

STYLE = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid.axis": "y",
    "axes.prop_cycle": SERIES,
    "grid.color": "0.85",
    "hatch.linewidth": 0.6,
    "image.interpolation": "nearest",
    "image.cmap": "cividis",
    "legend.frameon": False,
    "lines.markersize": 5,
}

# cividis from its middle on, so that black text stands out on every cell.
LIGHT = LinearSegmentedColormap.from_list(
    "light cividis", 0.45 * plt.get_cmap("cividis")(np.linspace(0, 1, 64)) + 0.55
)

styled = plt.rc_context(STYLE)  # used as a decorator
