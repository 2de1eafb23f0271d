"""The book's figures, in one style.

Everything is legible in black and white: series differ by hatch, marker and line style as well as by
colour, and colour maps run from dark to light. Figures have a white background, even on a dark page.
None is wider than a page's column of text, where its letters would shrink, and none of them is
smaller than a caption's.

All functions return a Figure. Most take the axes to draw on as ``ax``, and a ``title``; without axes
they make a figure of their own. pyplot does not keep these figures: a notebook shows each once, as
the value of its cell.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ..actions import Action
from ..groups import FiniteGroup
from .pixels import math_name, plain, show_image
from .style import HATCHES, LETTER, LIGHT, PALETTE, SERIES, SMALLEST, WIDEST, styled

__all__ = [
    "PALETTE",
    "attention",
    "bars",
    "cayley_table",
    "curves",
    "feature_grid",
    "matrix",
    "orbit",
    "panels",
    "policy",
    "stacked",
]


@styled
def panels(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (3.2, 2.8)
) -> tuple[Figure, np.ndarray]:
    """A figure in the book's style, and its array of ``rows x columns`` axes.

    Parameters
    ----------
    size : (float, float)
        Width and height of one panel, in inches; narrower where all would be wider than a page.
    """
    width = min(WIDEST, columns * size[0])
    fig, axes = plt.subplots(rows, columns, figsize=(width, rows * size[1]), squeeze=False)
    plt.close(fig)  # else a notebook shows it twice: when the cell ends, and as the cell's value
    return fig, axes


def _titled(ax: Axes | None, title: str | None, width: float, height: float) -> Axes:
    """The given axes, or those of a new figure of this size in inches, with a title."""
    ax = panels(size=(width, height))[1][0, 0] if ax is None else ax
    ax.set_title(title or "")
    return ax


@styled
def cayley_table(group: FiniteGroup, ax: Axes | None = None, title: str | None = None) -> Figure:
    """The multiplication table, one colour per element: row g, column h holds g h."""
    n = len(group)
    side = max(2.2, 0.42 * n + 0.8)
    ax = _titled(ax, repr(group) if title is None else title, side, side)
    ax.imshow(group.table.numpy(), cmap=LIGHT, vmin=0, vmax=max(n - 1, 1))
    longest = max(map(len, group.names))
    size = max(4.0, min(SMALLEST, 36.0 / (longest + 1)))
    for g, h in itertools.product(group, group):
        ax.text(h.index, g.index, plain((g @ h).name), ha="center", va="center", fontsize=size)
    names = [*map(plain, group.names)]
    ax.set_xticks(range(n), names, fontsize=size, rotation=90 if longest > 3 else 0)
    ax.set_yticks(range(n), names, fontsize=size)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="h, done first", ylabel="g, done second")
    return ax.figure


@styled
def orbit(
    action: Action, image: Tensor, columns: int | None = None, title: str | None = None
) -> Figure:
    """The ``|G|`` views g x of one image, side by side, titled with the names of the elements.

    Parameters
    ----------
    action : Action
        On images, e.g. ``Rotations(dihedral(4))``.
    image : tensor, shape (H, W), (1, H, W) or (3, H, W)
        uint8, or floats (scaled from their minimum to their maximum if outside 0..1).
    columns : int, optional
        Views in a row; at most eight by default.
    """
    n = len(action.group)
    columns = min(n, 8) if columns is None else columns
    side = min(1.15, WIDEST / columns)
    fig, axes = panels(math.ceil(n / columns), columns, size=(side, side + 0.2))
    for ax in axes.flat[n:]:
        ax.set_axis_off()
    for g, ax in zip(action.group, axes.flat, strict=False):
        show_image(ax, action(g, image))
        ax.set_title(f"${math_name(g.name)}\\,x$")
    if title is not None:
        fig.suptitle(title)
    return fig


@styled
def feature_grid(
    maps: Sequence[Sequence[Tensor]] | Tensor,
    titles: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    title: str | None = None,
    size: float = 1.25,
) -> Figure:
    """Rows of images or feature maps, one grey scale per row, so that its maps can be compared.

    Parameters
    ----------
    maps : sequence of sequences of tensors, or tensor
        Rows of feature maps (H, W), dark is low, or of colour images (3, H, W).
    titles, rows : sequence of str, optional
        Names of the columns and of the rows.
    size : float
        Width of one map, in inches; less where a row would be wider than a page.
    """
    count = max(len(row) for row in maps)
    for names, needed, what in ((titles, count, "columns"), (rows, len(maps), "rows")):
        if names is not None and len(names) != needed:
            raise ValueError(f"{needed} {what} of maps need {needed} names, got {len(names)}")
    size = min(size, WIDEST / count)
    fig, axes = panels(len(maps), count, size=(size, size * 1.08))
    for i, row in enumerate(maps):
        low = min(float(m.min()) for m in row)
        high = max(float(m.max()) for m in row)
        for ax in axes[i, len(row) :]:
            ax.set_visible(False)
        for ax, m in zip(axes[i], row, strict=False):
            show_image(ax, m, low, high)
        if rows is not None:
            axes[i, 0].set_ylabel(rows[i])
    for ax, name in zip(axes[0], titles or (), strict=False):
        ax.set_title(name)
    if title is not None:
        fig.suptitle(title)
    return fig


@styled
def matrix(
    values: Tensor,
    orbit_ids: Tensor | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    xlabel: str = "",
    ylabel: str = "",
) -> Figure:
    """A matrix as a coloured table, optionally with the number of its shared weight in each cell.

    Parameters
    ----------
    values : tensor, shape (m, n)
        What the colours show: the weights, or the orbit numbers themselves.
    orbit_ids : integer tensor, shape (m, n), optional
        Cells with the same number share one weight, e.g. ``EquivariantLinear(...).weight_orbit``.
    """
    values = torch.as_tensor(values).detach().cpu()
    if values.ndim != 2:
        raise ValueError(f"expected a matrix, got a tensor of shape {tuple(values.shape)}")
    m, n = values.shape
    cell = 0.36 if orbit_ids is not None else max(0.06, min(0.36, 4 / max(m, n)))
    ax = _titled(ax, title, max(1.8, cell * n + 0.6), max(1.8, cell * m + 0.6))
    ax.imshow(values.numpy(), cmap=LIGHT if orbit_ids is not None else "cividis")
    if orbit_ids is not None:
        for (i, j), k in np.ndenumerate(np.asarray(orbit_ids)):
            ax.text(j, i, str(int(k)), ha="center", va="center", fontsize=SMALLEST)
    ax.set(xticks=[], yticks=[], xlabel=xlabel, ylabel=ylabel)
    return ax.figure


@styled
def attention(
    weights: Tensor,
    said: Sequence[str],
    read: Sequence[str],
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """Where a decoder looks: a row for each word it says, a column for each it reads; black is 1.

    Parameters
    ----------
    weights : tensor, shape (S, T)
        Shares between 0 and 1; each row sums to 1.
    said, read : sequence of S and T str
    """
    weights = torch.as_tensor(weights).detach().cpu()
    if weights.shape != (len(said), len(read)):
        raise ValueError(
            f"{len(said)} words said and {len(read)} read need weights of shape "
            f"({len(said)}, {len(read)}), got {tuple(weights.shape)}"
        )
    ax = _titled(ax, title, 0.34 * len(read) + 1.4, 0.24 * len(said) + 0.8)
    ax.imshow(weights.numpy(), cmap="gray_r", vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(range(len(read)), map(plain, read), rotation=90, fontsize=SMALLEST)
    ax.set_yticks(range(len(said)), map(plain, said), fontsize=SMALLEST)
    ax.tick_params(length=0)
    ax.spines[:].set(visible=True, color="0.6", linewidth=0.6)
    return ax.figure


@styled
def bars(
    table: Mapping[str, Mapping[str, float | tuple[float, float]]],
    ylabel: str = "",
    ax: Axes | None = None,
    title: str | None = None,
    limits: tuple[float, float] | None = None,
    decimals: int | None = None,
) -> Figure:
    """Grouped bars with error bars.

    Parameters
    ----------
    table : {series: {category: mean or (mean, standard deviation)}}
        One bar for each series in each category; a missing entry leaves a gap.
    limits : (float, float), optional
        Lowest and highest value on the y axis. The default starts at 0.
    decimals : int, optional
        Write the means above the bars, with this number of decimals.
    """
    categories = list(dict.fromkeys(c for row in table.values() for c in row))
    ax = _titled(ax, title, max(3.6, 0.34 * len(table) * len(categories) + 2.2), 2.9)
    width = 0.8 / len(table)
    # How many letters there are under the bars: those of the axis and the legend stand beside.
    beside = 8 + (8 + max(map(len, table)) if len(table) > 1 else 0)
    room = ax.figure.get_figwidth() / ax.get_gridspec().ncols / LETTER - beside
    over_one = 1.1 * room * width / len(categories) if categories else 0  # numbers are smaller
    for k, (series, row) in enumerate(table.items()):
        values = {c: v if isinstance(v, tuple | list) else (v, None) for c, v in row.items()}
        present = [(i, *values[c]) for i, c in enumerate(categories) if c in values]
        drawn = ax.bar(
            [i + (k - (len(table) - 1) / 2) * width for i, _, _ in present],
            [mean for _, mean, _ in present],
            width,
            yerr=[std or 0 for *_, std in present] if any(std for *_, std in present) else None,
            label=plain(series),
            capsize=2.5,
            **_fill(k, k),
        )
        if decimals is not None:
            numbers = [f"{mean:.{decimals}f}" for _, mean, _ in present]
            turned = 90 if max(map(len, numbers), default=0) > over_one else 0
            ax.bar_label(drawn, numbers, fontsize=SMALLEST, padding=2, rotation=turned)
            ax.margins(y=0.25 if turned else 0.15)  # the numbers are within the axes
    ax.grid(True, axis="y")
    ax.set(ylabel=ylabel, ylim=limits)
    if len(table) > 1:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    crowded = len(categories) * max(map(len, categories), default=0) > room
    slant = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    ax.set_xticks(range(len(categories)), map(plain, categories), **slant)
    return ax.figure


@styled
def stacked(
    table: Mapping[str, Mapping[str, float]],
    xlabel: str = "",
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """Horizontal bars of parts, one bar per row, with the value written into each part that has the room.

    Parameters
    ----------
    table : {row: {part: value}}
        All rows have the same parts, in the same order.
    """
    ax = _titled(ax, title, 5.4, 0.34 * len(table) + 1.0)
    left = np.zeros(len(table))
    longest = max(sum(row.values()) for row in table.values())
    for k, part in enumerate(next(iter(table.values()))):
        values = np.array([row[part] for row in table.values()], dtype=float)
        fill = _fill((4, 1, 2, 3, 0, 5)[k % 6], k)
        drawn = ax.barh(range(len(table)), values, 0.72, left, label=plain(part), **fill)
        labels = [f"{v:.0f}" if v > 0.06 * longest else "" for v in values]
        for text in ax.bar_label(drawn, labels, label_type="center", fontsize=SMALLEST):
            if text.get_text():
                text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.0})
        left += values
    ax.set_yticks(range(len(table)), map(plain, table))
    ax.invert_yaxis()
    ax.set(xlabel=xlabel, xlim=(0, left.max()))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax.figure


@styled
def policy(
    grid: Tensor, best: Tensor | None = None, ax: Axes | None = None, title: str | None = None
) -> Figure:
    """A gridworld from above: agent (circle), goal (star), pits (crosses), and an arrow per cell.

    Parameters
    ----------
    grid : tensor, shape (3, d, d)
        Planes of the agent, the goal and the pits.
    best : integer tensor, shape (d, d), optional
        The best move in each cell: 0 up, 1 left, 2 down, 3 right; negative for no arrow.
    """
    d = grid.shape[-1]
    ax = _titled(ax, title, 2.6, 2.6)
    looks = (("o", 9, PALETTE[0]), ("*", 13, PALETTE[2]), ("X", 9, "0.25"))
    for plane, (marker, size, colour) in zip(grid, looks, strict=True):
        rows, columns = plane.nonzero(as_tuple=True)
        ax.plot(columns, rows, marker, ms=size, color=colour, ls="")
    if best is not None:
        rows, columns = (best >= 0).nonzero(as_tuple=True)
        way = np.array([(0, 1), (-1, 0), (0, -1), (1, 0)])[best[rows, columns].numpy()]
        look = {"scale": 1.6, "scale_units": "xy", "width": 0.012, "color": PALETTE[4]}
        ax.quiver(columns, rows, way[:, 0], way[:, 1], pivot="middle", **look)
    ax.set(xlim=(-0.5, d - 0.5), ylim=(d - 0.5, -0.5), aspect="equal")
    edges = np.arange(d + 1) - 0.5
    ax.set(xticks=edges, yticks=edges)
    ax.grid(True)
    ax.tick_params(length=0, labelbottom=False, labelleft=False)
    ax.spines[:].set_visible(True)
    return ax.figure


@styled
def curves(
    x: Sequence[float],
    series: Mapping[str, Sequence[float] | tuple[Sequence[float], Sequence[float]]],
    xlabel: str = "",
    ylabel: str = "",
    ax: Axes | None = None,
    title: str | None = None,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Lines with markers over a common x; a series (means, standard deviations) gets a band."""
    ax = _titled(ax, title, WIDEST if len(series) > 1 else 4.6, 2.9)
    for (name, y), look in zip(series.items(), itertools.cycle(SERIES), strict=False):
        mean, std = y if isinstance(y, tuple) and np.ndim(y[0]) == 1 else (y, None)
        mean = np.asarray(mean, dtype=float)
        ax.plot(x, mean, label=plain(name), markevery=max(1, len(mean) // 12), **look)
        if std is not None:
            std = np.asarray(std, dtype=float)
            ax.fill_between(x, mean - std, mean + std, color=look["color"], alpha=0.2, lw=0)
    ax.grid(True, axis="y")
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=limits)
    if all(float(at).is_integer() for at in x):  # epochs and steps have no halves
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(series) > 1:  # beside the axes: it would hide a part of a curve
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax.figure


def _fill(colour: int, hatch: int) -> dict[str, Any]:
    look = {"color": PALETTE[colour % 6], "hatch": HATCHES[hatch % 6]}
    return {**look, "edgecolor": "black", "linewidth": 0.7}
