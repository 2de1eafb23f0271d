"""The book's figures, in one style.

Everything reads in black and white: series differ by hatch, marker and line style as well as by
colour, and colour maps run from dark to light. Figures have a white ground, on a dark page too.

Functions draw on the axes they are given, or make a figure of their own, and return the Figure. Their
own figures are closed for pyplot, so that a notebook shows them once, as the value of the cell.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from equitutor.actions import Action
from equitutor.groups import FiniteGroup

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
    "use_style",
]

#: Okabe and Ito's colours, told apart with any colour vision, dark and light in turn.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))

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
    "axes.prop_cycle": cycler(color=PALETTE, linestyle=LINES, marker=MARKERS),
    "grid.color": "0.85",
    "hatch.linewidth": 0.6,
    "image.interpolation": "nearest",
    "image.cmap": "cividis",
    "legend.frameon": False,
    "lines.markersize": 5,
}

#: cividis from its middle on, so that black writing stands out on every cell.
_LIGHT = LinearSegmentedColormap.from_list(
    "light cividis", 0.45 * plt.get_cmap("cividis")(np.linspace(0, 1, 64)) + 0.55
)


def use_style() -> None:
    """Give all later matplotlib figures of this session the book's style."""
    plt.rcParams.update(STYLE)


def _styled(draw: Callable) -> Callable:
    @functools.wraps(draw)
    def styled(*args: Any, **kwargs: Any) -> Any:
        with plt.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


@_styled
def panels(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (3.2, 2.8)
) -> tuple[Figure, np.ndarray]:
    """A figure of ``rows x columns`` axes in the book's style.

    Parameters
    ----------
    size : (width, height)
        Of one panel, in inches.

    Returns
    -------
    (Figure, (rows, columns) array of Axes)
    """
    fig, axes = plt.subplots(
        rows, columns, figsize=(columns * size[0], rows * size[1]), squeeze=False
    )
    plt.close(fig)  # else a notebook shows it twice: when the cell ends, and as the cell's value
    return fig, axes


def _own(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return panels(size=size)[1][0, 0] if ax is None else ax


@_styled
def cayley_table(group: FiniteGroup, ax: Axes | None = None, title: str | None = None) -> Figure:
    """The multiplication table, a colour for each element: row g, column h holds g h."""
    n = len(group)
    side = max(2.2, 0.42 * n + 0.8)
    ax = _own(ax, (side, side))
    ax.imshow(group.table.numpy(), cmap=_LIGHT, vmin=0, vmax=max(n - 1, 1))
    longest = max(map(len, group.names))
    size = max(4.0, min(10.0, 40.0 / (longest + 1)))
    for g in group:
        for h in group:
            ax.text(h.index, g.index, (g @ h).name, ha="center", va="center", fontsize=size)
    ax.set_xticks(range(n), group.names, fontsize=size, rotation=90 if longest > 3 else 0)
    ax.set_yticks(range(n), group.names, fontsize=size)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("h, done first")
    ax.set_ylabel("g, done second")
    ax.set_title(repr(group) if title is None else title)
    return ax.figure


@_styled
def orbit(
    action: Action, image: Tensor, columns: int | None = None, title: str | None = None
) -> Figure:
    """The ``|G|`` views g x of one image, side by side, under the names of the elements.

    Parameters
    ----------
    action : Action
        On images, e.g. ``Rotations(dihedral(4))``.
    image : (H, W), (1, H, W) or (3, H, W) tensor
        uint8, or floats (shown from their least to their greatest value if outside 0..1).
    columns : int, optional
        Views in a row; the default is at most eight.
    """
    n = len(action.group)
    columns = min(n, 8) if columns is None else columns
    fig, axes = panels(math.ceil(n / columns), columns, size=(1.15, 1.35))
    for ax in axes.flat[n:]:
        ax.set_axis_off()
    for g, ax in zip(action.group, axes.flat, strict=False):
        _picture(ax, action(g, image))
        ax.set_title(f"${_math(g.name)}\\,x$")
    if title is not None:
        fig.suptitle(title)
    return fig


@_styled
def feature_grid(
    maps: Sequence[Sequence[Tensor]] | Tensor,
    titles: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    title: str | None = None,
    size: float = 1.25,
) -> Figure:
    """Rows of images or feature maps. One grey scale serves a row, so its maps can be compared.

    Parameters
    ----------
    maps : rows of (H, W) or (3, H, W) tensors
        (H, W) feature maps, dark is low; (3, H, W) colour images.
    titles, rows : strings, optional
        Of the columns and of the rows.
    size : float
        Of one map, in inches.
    """
    count = max(len(row) for row in maps)
    for names, needed, what in ((titles, count, "columns"), (rows, len(maps), "rows")):
        if names is not None and len(names) != needed:
            raise ValueError(f"{needed} {what} of maps need {needed} names, got {len(names)}")
    fig, axes = panels(len(maps), count, size=(size, size * 1.08))
    for i, row in enumerate(maps):
        low = min(float(m.min()) for m in row)
        high = max(float(m.max()) for m in row)
        for ax in axes[i]:
            _bare(ax)
        for ax, m in zip(axes[i], row, strict=False):
            _picture(ax, m, low, high)
        for ax in axes[i, len(row) :]:
            ax.set_visible(False)
        if rows is not None:
            axes[i, 0].set_ylabel(rows[i])
    for ax, name in zip(axes[0], titles or (), strict=False):
        ax.set_title(name)
    if title is not None:
        fig.suptitle(title)
    return fig


@_styled
def matrix(
    values: Tensor,
    orbit_ids: Tensor | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    xlabel: str = "",
    ylabel: str = "",
) -> Figure:
    """A matrix as a coloured table; with ``orbit_ids`` the number of its shared weight in each cell.

    Parameters
    ----------
    values : (m, n) tensor
        What the colours show: the weights, or the orbit numbers themselves.
    orbit_ids : (m, n) integers, optional
        Cells of one number share one free weight, e.g. ``EquivariantLinear(...).weight_orbit``.
    """
    values = torch.as_tensor(values).detach().cpu()
    if values.ndim != 2:
        raise ValueError(f"expected a matrix, got a tensor of shape {tuple(values.shape)}")
    m, n = values.shape
    cell = 0.36 if orbit_ids is not None else max(0.06, min(0.36, 4 / max(m, n)))
    ax = _own(ax, (max(1.8, cell * n + 0.6), max(1.8, cell * m + 0.6)))
    ax.imshow(values.numpy(), cmap=_LIGHT if orbit_ids is not None else "cividis")
    if orbit_ids is not None:
        for (i, j), k in np.ndenumerate(np.asarray(orbit_ids)):
            ax.text(j, i, str(int(k)), ha="center", va="center", fontsize=8)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title("" if title is None else title)
    return ax.figure


@_styled
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
    weights : (S, T) tensor
        Shares between 0 and 1, each row adding up to 1.
    said, read : S and T strings
    """
    weights = torch.as_tensor(weights).detach().cpu()
    if weights.shape != (len(said), len(read)):
        raise ValueError(
            f"{len(said)} words said and {len(read)} read need weights of shape "
            f"({len(said)}, {len(read)}), got {tuple(weights.shape)}"
        )
    ax = _own(ax, (0.34 * len(read) + 1.4, 0.24 * len(said) + 0.8))
    ax.imshow(weights.numpy(), cmap="gray_r", vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(range(len(read)), read, rotation=90, fontsize=8)
    ax.set_yticks(range(len(said)), said, fontsize=7)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(True)
    ax.spines[:].set(color="0.6", linewidth=0.6)
    ax.set_title("" if title is None else title)
    return ax.figure


@_styled
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
    limits : (low, high), optional
        Of the y axis. Bars start at 0 unless this says otherwise.
    decimals : int, optional
        Write the means above the bars with so many decimals.
    """
    categories = list(dict.fromkeys(c for row in table.values() for c in row))
    ax = _own(ax, (max(3.6, 0.34 * len(table) * len(categories) + 2.2), 2.9))
    width = 0.8 / len(table)
    for k, (series, row) in enumerate(table.items()):
        x = [i for i, c in enumerate(categories) if c in row]
        pairs = [v if isinstance(v, tuple | list) else (v, None) for v in row.values()]
        mean = dict(zip(row, (p[0] for p in pairs), strict=True))
        error = dict(zip(row, (p[1] for p in pairs), strict=True))
        drawn = ax.bar(
            [i + (k - (len(table) - 1) / 2) * width for i in x],
            [mean[categories[i]] for i in x],
            width,
            yerr=[error[categories[i]] or 0 for i in x] if any(error.values()) else None,
            label=series,
            color=PALETTE[k % len(PALETTE)],
            hatch=HATCHES[k % len(HATCHES)],
            edgecolor="black",
            linewidth=0.7,
            capsize=2.5,
        )
        if decimals is not None:
            ax.bar_label(drawn, fmt=f"%.{decimals}f", fontsize=7, padding=1)
    ax.set_xticks(range(len(categories)), categories)
    ax.grid(True, axis="y")
    ax.set(ylabel=ylabel, ylim=limits)
    ax.set_title("" if title is None else title)
    if len(table) > 1:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax.figure


@_styled
def stacked(
    table: Mapping[str, Mapping[str, float]],
    xlabel: str = "",
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """Lying bars of parts, one bar for each row, the number written into each part.

    Parameters
    ----------
    table : {row: {part: value}}
        All rows have the same parts, in the same order.
    """
    ax = _own(ax, (5.4, 0.34 * len(table) + 1.0))
    left = np.zeros(len(table))
    for k, part in enumerate(next(iter(table.values()))):
        values = np.array([row[part] for row in table.values()], dtype=float)
        hatch, colour = HATCHES[k % len(HATCHES)], PALETTE[(4, 1, 2, 3, 0, 5)[k % 6]]
        look = {"color": colour, "hatch": hatch, "edgecolor": "black", "linewidth": 0.7}
        drawn = ax.barh(range(len(table)), values, 0.72, left, label=part, **look)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        labels = [f"{v:.0f}" if v > 0.05 * values.max() else "" for v in values]
        texts = ax.bar_label(drawn, labels, label_type="center", fontsize=7)
        for text in texts:
            if text.get_text():
                text.set_bbox(box)
        left += values
    ax.set_yticks(range(len(table)), list(table))
    ax.invert_yaxis()
    ax.set(xlabel=xlabel, xlim=(0, left.max()))
    ax.set_title("" if title is None else title)
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax.figure


@_styled
def policy(
    grid: Tensor,
    best: Tensor | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """A gridworld from above: agent (circle), goal (star), pits (crosses), and an arrow for each cell.

    Parameters
    ----------
    grid : (3, d, d) agent, goal, pits
    best : (d, d) the best move of each cell, 0 to 3 for up, left, down, right, optional
        No arrow where it is negative.
    """
    d = grid.shape[-1]
    ax = _own(ax, (2.6, 2.6))
    for plane, marker, size, colour in zip(
        grid, "o*X", (9, 13, 9), (PALETTE[0], PALETTE[2], "0.25"), strict=True
    ):
        rows, columns = plane.nonzero(as_tuple=True)
        ax.plot(columns, rows, marker, ms=size, color=colour, ls="")
    if best is not None:
        rows, columns = (best >= 0).nonzero(as_tuple=True)
        way = np.array([(0, 1), (-1, 0), (0, -1), (1, 0)])[best[rows, columns].numpy()]
        look = {"scale": 1.6, "scale_units": "xy", "width": 0.012, "color": PALETTE[4]}
        ax.quiver(columns, rows, way[:, 0], way[:, 1], pivot="middle", **look)
    ax.set(xlim=(-0.5, d - 0.5), ylim=(d - 0.5, -0.5), aspect="equal")
    ax.set_xticks(np.arange(d + 1) - 0.5, [""] * (d + 1))
    ax.set_yticks(np.arange(d + 1) - 0.5, [""] * (d + 1))
    ax.grid(True)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(True)
    ax.set_title("" if title is None else title)
    return ax.figure


@_styled
def curves(
    x: Sequence[float],
    series: Mapping[str, Sequence[float] | tuple[Sequence[float], Sequence[float]]],
    xlabel: str = "",
    ylabel: str = "",
    ax: Axes | None = None,
    title: str | None = None,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Lines with markers over a common x; a tuple (mean, standard deviation) gets a band."""
    ax = _own(ax, (4.6, 2.9))
    for k, (name, y) in enumerate(series.items()):
        mean, std = y if isinstance(y, tuple) and np.ndim(y[0]) == 1 else (y, None)
        mean = np.asarray(mean, dtype=float)
        style = {"color": PALETTE[k % 6], "linestyle": LINES[k % 6], "marker": MARKERS[k % 6]}
        ax.plot(x, mean, label=name, markevery=max(1, len(mean) // 12), **style)
        if std is not None:
            std = np.asarray(std, dtype=float)
            ax.fill_between(x, mean - std, mean + std, color=style["color"], alpha=0.2, lw=0)
    ax.grid(True, axis="y")
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=limits)
    ax.set_title("" if title is None else title)
    if all(float(at).is_integer() for at in x):  # epochs and steps have no halves
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(series) > 1:
        ax.legend()
    return ax.figure


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(True)
    ax.spines[:].set(color="0.6", linewidth=0.6)


def _picture(ax: Axes, image: Tensor, low: float | None = None, high: float | None = None) -> None:
    """Draw (H, W), (1, H, W) or (3, H, W) without ticks, on the scale low..high."""
    x = torch.as_tensor(image).detach().cpu()
    if x.ndim == 3 and x.shape[0] in (1, 3):
        x = x.squeeze(0) if x.shape[0] == 1 else x.movedim(0, -1)
    if x.ndim not in (2, 3) or (x.ndim == 3 and x.shape[-1] != 3):
        raise ValueError(
            f"expected one image, (H, W), (1, H, W) or (3, H, W), got shape {tuple(image.shape)}"
        )
    _bare(ax)
    low = float(x.min()) if low is None else low
    high = float(x.max()) if high is None else high
    if x.dtype == torch.uint8:
        low, high = 0.0, 255.0
    elif x.ndim == 3 and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scaled = (x.float() - low) / max(high - low, 1e-12)
    ax.imshow(scaled.clamp(0, 1).numpy(), cmap="gray", vmin=0, vmax=1)


def _math(name: str) -> str:
    """An element's name as mathematics: r2s -> r^{2}s; other names as they are."""
    if name and all(c in "ers0123456789" for c in name) and not name[0].isdigit():
        return "".join(f"^{{{c}}}" if c.isdigit() else c for c in name)
    return f"\\mathrm{{{name}}}".replace(" ", "\\,")
