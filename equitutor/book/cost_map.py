"""Accuracy beside cost: what the weightings of a network give, and for how many passes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from ..experiments.landscape import METHODS
from ..store.results import Record
from . import names
from .plotting import panels
from .style import SMALLEST

__all__ = ["figure"]

_MARKS = {"none": "*", "c4": "o", "d4": "s"}


def figure(records: Sequence[Record], metric: str = "accuracy") -> Figure:
    """A panel for each data set: each weighting's accuracy, mean and standard deviation, over its passes.

    Those of as many passes are drawn a little apart.

    Parameters
    ----------
    records : of the experiment "landscape"
    metric : str
        What is drawn, in percent; default: on turned images after the tuning.
    """
    if not records:
        raise ValueError("there are no records of the experiment landscape to draw")
    sets = list(dict.fromkeys(str(r.cell["dataset"]) for r in records))
    fig, axes = panels(len(sets), 1, (5.8, 3.4))
    for ax, dataset in zip(axes[:, 0], sets, strict=True):
        used = {r.cell["group"] for r in records if r.cell["dataset"] == dataset}
        groups = [g for g in _MARKS if g in used]
        for number, method in enumerate(METHODS, 1):
            for group in groups:
                cell = {"dataset": dataset, "method": method, "group": group}
                of = [r.metrics for r in records if cell.items() <= r.cell.items()]
                if not of:
                    continue
                apart = 2 ** (0.06 * (number - len(METHODS) / 2))
                values = [m[metric] for m in of]
                at = apart * mean(m["passes"] for m in of), mean(values)
                error = stdev(values) if len(values) > 1 else None
                ax.errorbar(*at, error, fmt=_MARKS[group], color="black", mfc="none", ms=6, lw=0.7)
                ax.annotate(str(number), at, (5, 2), textcoords="offset points", fontsize=SMALLEST)
        ax.set_xscale("log", base=2)
        ax.set(title=names.value("dataset", dataset), xlabel="passes for one image", ylabel="%")
        ax.xaxis.set_major_locator(FixedLocator([1, 2, 4, 8]))
        ax.xaxis.set_major_formatter("{x:g}")
        for number, method in enumerate(METHODS, 1):
            ax.plot([], [], " ", label=f"{number} {names.value('method', method)}")
        for group in groups:
            ax.plot([], [], _MARKS[group], color="black", mfc="none", label=group)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=1)
        ax.grid(True, axis="y")
    return fig
