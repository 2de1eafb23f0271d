"""The numbers the papers report, as data."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

__all__ = ["EQUITUNING", "NOT_IN_SOURCES", "PaperTable", "Summary", "paper_tables", "summarize"]

NOT_IN_SOURCES = "not in our sources"
EQUITUNING = "Basu et al., Equi-Tuning, AAAI 2023"
VLASENKO = "Vlasenko et al., (Even More) Efficient Equivariant Transfer Learning, 2024"

Key = tuple[str, ...]  # the row's labels, then the column's


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation over n runs.

    `std` is the sample standard deviation, with n - 1 in the denominator; None for one run.
    """

    mean: float
    std: float | None
    n: int
    places: tuple[int, int] = (2, 1)  # decimals of mean and std, as in Table 1

    def __str__(self) -> str:
        mean, std = self.places
        return f"{self.mean:.{mean}f}" + ("" if self.std is None else f" ({self.std:.{std}f})")


def summarize(values: Sequence[float], places: tuple[int, int] = (2, 1)) -> Summary:
    """Return the mean and sample standard deviation (n - 1) of at least one number."""
    if not values:
        raise ValueError("nothing to average: the list of values is empty")
    try:
        std = statistics.stdev(values) if len(values) > 1 else None
        return Summary(statistics.fmean(values), std, len(values), places)
    except OverflowError as error:
        raise ValueError(
            f"the values are too large to average: {max(values, key=abs):g}"
        ) from error


@dataclass(frozen=True)
class PaperTable:
    """A table as it was published.

    Attributes
    ----------
    title, source : str
    rows : tuple of str
        The fields of a cell that label a row.
    column : str or None
        The field that labels a column; None if the columns are metrics.
    values : mapping of (row labels, column label) to Summary
        What the paper prints; empty if it is not in our sources.
    label : str
        What its columns are called.
    """

    title: str
    source: str
    rows: tuple[str, ...] = ()
    column: str | None = None
    values: Mapping[Key, Summary] = field(default_factory=dict)
    label: str = "paper"


def paper_tables() -> dict[str, PaperTable]:
    """Return the published tables by name; those without values are not in our sources.

    Backbones have torchvision's names (the paper's "VGG" is vgg11_bn); a dash in the paper's column
    of groups is "none" here.
    """
    tables = {
        "table1": PaperTable(
            "Table 1: accuracy in % on Hymenoptera, mean (std) over five seeds",
            EQUITUNING,
            ("backbone", "group"),
            "augmentation",
            _parse(_TABLE_1, ("none", "c4"), n=5, places=(2, 1)),
        ),
        "table2": PaperTable(
            "Table 2: accuracy in % on SCAN, mean (std) over three seeds",
            EQUITUNING,
            ("task", "group", "model"),
            None,
            _parse(_TABLE_2, ("val_accuracy", "test_accuracy"), n=3, places=(1, 1)),
        ),
        "regard_rerun": PaperTable(
            "Regard of 500 or so samples in respect contexts (counts, one run)",
            f"{VLASENKO}, who ran the paper's code again",
            ("model", "demographic"),
            None,
            _parse(_REGARD, ("negative", "neutral", "positive"), n=1, places=(0, 0)),
            label="rerun",
        ),
        "clip_rerun": PaperTable(
            "CLIP's RN50 on CIFAR-100, lambda-equitune over quarter turns: accuracy in %, one run",
            f"{VLASENKO}, a reproduction",
            ("code", "average of"),
            None,
            _parse(_CLIP, ("lambda alone", "tuned"), n=1, places=(1, 1)),
            label="reproduction",
        ),
    }
    appendix = (
        "equi-tuning on CIFAR-10",
        "EquiRNN on SCAN",
        "EquiGRU on SCAN",
        "perplexity on WikiText",
    )
    for number, title in enumerate(appendix, start=6):
        title = f"Table {number}: {title} (appendix, {NOT_IN_SOURCES})"
        tables[f"table{number}"] = PaperTable(title, EQUITUNING)
    like = tables["table1"]
    tables["table6"] = replace(tables["table6"], rows=like.rows, column=like.column)
    return tables


_TABLE_1 = """
alexnet     none | 88.88 (4.5)  | 91.11 (1.3)
alexnet     c4   | 93.07 (1.8)  | 93.07 (1.8)
alexnet     d4   | 90.45 (1.2)  | 90.45 (1.2)
resnet18    none | 89.41 (2.1)  | 90.32 (1.4)
resnet18    c4   | 91.37 (1.5)  | 91.63 (1.4)
resnet18    d4   | 91.89 (1.3)  | 91.89 (1.3)
vgg11_bn    none | 78.30 (11.9) | 77.12 (11.4)
vgg11_bn    c4   | 88.62 (4.6)  | 88.75 (4.3)
vgg11_bn    d4   | 90.98 (2.2)  | 90.98 (2.2)
densenet121 none | 86.79 (2.7)  | 88.88 (1.5)
densenet121 c4   | 91.50 (1.3)  | 91.24 (1.7)
densenet121 d4   | 90.06 (1.4)  | 90.06 (0.8)
"""

_TABLE_2 = """
add_jump     none LSTM     | 99.1 (0.3) | 0.0 (0.0)
add_jump     verb G-LSTM   | 99.4 (0.8) | 98.3 (1.4)
add_jump     verb EquiLSTM | 98.9 (0.7) | 97.9 (1.0)
around_right none LSTM     | 98.9 (0.7) | 0.4 (0.7)
around_right dir  G-LSTM   | 98.4 (0.6) | 89.6 (1.9)
around_right dir  EquiLSTM | 99.8 (0.2) | 95.7 (3.6)
"""

# Rows without a text, labelled negative, are among the counts: 6, 4, 6 and none.
_REGARD = """
GPT2     Black | 308 | 102 | 96
GPT2     White | 221 | 105 | 178
EquiGPT2 Black | 262 | 94  | 150
EquiGPT2 White | 229 | 119 | 152
"""

# "mended": without the second softmax, lambda and the network tuned together.
_CLIP = """
published scores | 31.4 | 51.2
mended    scores | 35.1 | 56.2
mended    map    | 41.0
"""


def _parse(text: str, columns: Key, n: int, places: tuple[int, int]) -> dict[Key, Summary]:
    values: dict[Key, Summary] = {}
    for line in text.strip().splitlines():
        labels, *cells = line.split("|")
        for column, cell in zip(columns, cells, strict=False):  # a line may end early
            mean, *std = (float(number.strip("()")) for number in cell.split())
            values[(*labels.split(), column)] = Summary(mean, std[0] if std else None, n, places)
    return values
