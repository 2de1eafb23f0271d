"""What the two papers claim in words, and whether our records show it.

A claim is tried in settings: a network and a group, a task, a world. What has seeds shows it if the mean lies on
the right side of its bound by two standard errors; a single run shows nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from ..experiments import fairness
from ..experiments.scan import TASKS
from ..experiments.vision import BACKBONES
from ..language import nlg
from ..sequences.scan_models import OWN
from ..store.results import Record, recorded
from . import names
from .papers import Summary, summarize
from .regard_shares import chosen, difference
from .reports import pretrained
from .scoreboard import paired
from .sources import Read
from .tables import NONE, Folded, Linked, Table

__all__ = ["CLAIMS", "Claim", "Setting", "claims", "tried", "verdict"]


@dataclass(frozen=True)
class Setting:
    """One setting in which a claim was tried: what was measured, and whether that shows it.

    ``shown`` is None where it cannot be said, as of one run.
    """

    label: str
    amount: float
    shown: bool | None


@dataclass(frozen=True)
class Claim:
    """A claim of the papers.

    Attributes
    ----------
    said, where : the papers' words, and their place
    read_as : what is tried, where the words leave it open
    measured : the unit of the amounts
    page : the page that tells of it, and what it is called
    find : from the reader of records to the settings; None: a theorem, which the page proves
    """

    said: str
    where: str
    read_as: str
    measured: str
    page: tuple[str, str]
    find: Callable[[Read], list[Setting]] | None = None


def _setting(label: str, values: Sequence[float] | Summary, above: float = 0) -> Setting:
    """Shown if the mean is above a bound by two standard errors."""
    found = values if isinstance(values, Summary) else summarize(values)
    if found.std is None:
        return Setting(label, found.mean, None)
    return Setting(label, found.mean, found.mean - above > 2 * found.std / math.sqrt(found.n))


def _named(by: Sequence[str], key: Sequence[str]) -> str:
    return ", ".join(names.value(field, text) for field, text in zip(by, key, strict=True))


def _paired(
    records: Sequence[Record],
    metric: str,
    field: str,
    change: tuple[str, str],
    by: Sequence[str],
    above: float = 0,
    ignore: Sequence[str] = (),
) -> list[Setting]:
    found = paired(records, metric, field, change, by, ignore)
    return [_setting(_named(by, key), effect, above) for key, (effect, _) in found.items()]


def _images(ours: bool) -> Callable[[Read], list[Setting]]:
    """Equi-tuned networks against fine-tuned ones, on turned images, plain and augmented."""

    def find(read: Read) -> list[Setting]:
        some = [r for r in pretrained(read("vision")) if r.cell["dataset"] == "hymenoptera"]
        some = [r for r in some if (r.cell["backbone"] in BACKBONES) is not ours]
        found = []
        for trained, what in (("none", "plain"), ("c4", "augmented")):
            for group in ("c4", "d4"):
                cells = {("none", trained), (group, "none")}
                both = [r for r in some if (r.cell["group"], r.cell["augmentation"]) in cells]
                for one in _paired(
                    both,
                    "accuracy",
                    "group",
                    ("none", group),
                    ["backbone"],
                    ignore=["augmentation"],
                ):
                    found.append(replace(one, label=f"{one.label}, {group} against {what}"))
        return found

    return find


def _scan(read: Read) -> list[Record]:
    """The runs of Table 2: each task with its own group."""
    own = [r for r in read("scan") if r.cell["task"] in TASKS]
    return [r for r in own if r.cell["group"] in ("none", OWN[str(r.cell["task"])])]


def _lstms_fail(read: Read) -> list[Setting]:
    found: dict[str, list[float]] = {}
    for r in _scan(read):
        if r.cell["model"] == "LSTM":
            found.setdefault(str(r.cell["task"]), []).append(r.metrics["test_accuracy"])
    settings = []
    for task, values in found.items():
        below = _setting(names.value("task", task), [-v for v in values], above=-10)
        settings.append(replace(below, amount=fmean(values)))
    return settings


def _against_g_lstm(above: float) -> Callable[[Read], list[Setting]]:
    def find(read: Read) -> list[Setting]:
        change = ("G-LSTM", "EquiLSTM")
        return _paired(
            _scan(read), "test_accuracy", "model", change, ["task"], above, ignore=["group"]
        )

    return find


def _fairer(read: Read) -> list[Setting]:
    """Where groups differ: the points by which they come closer. Shown if the intervals of the bootstrap are apart."""
    records, found = read("fairness"), []
    runs = {(str(r.cell["pretrained"]), str(r.cell["task"]), str(r.cell["axis"])) for r in records}
    for name, task, axis in sorted(runs):
        models = chosen(records, name, task, axis)
        if task not in nlg.TASKS or "pretrained" not in models:
            continue
        before = difference(models["pretrained"])
        for model in ("EquiLM", "R-EquiLM"):
            if before.low > 0 and model in models:
                after = difference(models[model])
                label = f"{names.value('pretrained', name)}, {task}, {axis}, {model}"
                found.append(Setting(label, before.value - after.value, after.high < before.low))
    return found


def _perplexity(read: Read) -> list[Setting]:
    """Percent by which the perplexity rises; no seed is in it."""
    of = {}
    for r in read("fairness"):
        if r.cell["task"] == fairness.PERPLEXITY:
            of[str(r.cell["pretrained"]), str(r.cell["model"]), str(r.cell["axis"])] = r
    found = []
    for (name, model, axis), r in sorted(of.items()):
        plain = of.get((name, fairness.PRETRAINED, axis))
        if plain and model != fairness.PRETRAINED:
            rise = 100 * (r.metrics["perplexity"] / plain.metrics["perplexity"] - 1)
            label = f"{names.value('pretrained', name)}, {axis}, {model}"
            found.append(Setting(label, rise, rise < 5))
    return found


def _draws(metric: str) -> Callable[[Read], list[Setting]]:
    """Percent of EquiLM's draws that agree: all of them, or there is no law."""

    def find(read: Read) -> list[Setting]:
        some = [r for r in read("fairness") if r.cell["task"] == fairness.LAW]
        return [
            Setting(
                _named(("pretrained", "axis"), (str(r.cell["pretrained"]), str(r.cell["axis"]))),
                r.metrics[metric],
                r.metrics[metric] == 100,
            )
            for r in some
            if r.cell["model"] == "EquiLM"
        ]

    return find


#: Experiment, metrics before and after tuning, the fields that name a setting.
_LEARNED = (
    ("methods", ("zero_shot", "accuracy"), ["dataset", "backbone"]),
    ("frozen", ("zero_shot", "accuracy"), ["dataset", "backbone", "head", "group"]),
    ("clip", ("zero_shot", "accuracy"), ["checkpoint", "group", "place"]),
    ("dqn", ("at_once", "after"), ["world"]),
)


def _better(method: str, tuned: int) -> Callable[[Read], list[Setting]]:
    def find(read: Read) -> list[Setting]:
        change = ("equitune", method)
        return [
            setting
            for experiment, metrics, by in _LEARNED
            for setting in _paired(read(experiment), metrics[tuned], "method", change, by)
        ]

    return find


def _mean_is_poor(read: Read) -> list[Setting]:
    """Points that the mean of the views loses, without tuning, to the plain network on upright images."""
    found = []
    for experiment, _, by in _LEARNED[:3]:
        network = [k for k, name in enumerate(by) if name not in ("group", "place")]
        upright: dict[tuple, list[float]] = {}
        turned: dict[tuple, list[float]] = {}
        for r in read(experiment):
            key = tuple(names.value(name, str(r.cell[name])) for name in by)
            if r.cell["method"] == "none":
                same = tuple(key[k] for k in network)
                upright.setdefault(same, []).append(r.metrics["zero_shot_upright"])
            elif r.cell["method"] == "equitune":
                turned.setdefault(key, []).append(r.metrics["zero_shot"])
        for key, values in turned.items():
            if plain := upright.get(tuple(key[k] for k in network)):
                lost = [fmean(plain) - value for value in values]
                found.append(_setting(", ".join(key), lost, above=5))
    return found


_AAAI, _NEURIPS = "AAAI 2023", "NeurIPS 2023, abstract"
_GAIN = "points gained"
_IMAGES, _LAMBDA = ("05_images", "images"), ("08_lambda", "λ")
_SCAN, _FAIRNESS = ("06_scan", "SCAN"), ("07_fairness", "fairness")
_LANDSCAPE = ("15_landscape", "the landscape")

#: The claims of both papers that a proof or a run can decide.
CLAIMS = (
    Claim(
        "incurring minimum L2 loss between the feature representations",
        f"{_AAAI}, abstract",
        *("", "", ("03_equituning", "equi-tuning")),
    ),
    Claim("an universal approximator", f"{_AAAI}, Sec. 4", "", "", _LANDSCAPE),
    Claim(
        "equi-tuning outperforms fine-tuning with and without data augmentation",
        f"{_AAAI}, Sec. 6.1",
        *("on turned images, with the paper's networks", _GAIN, _IMAGES),
        _images(ours=False),
    ),
    Claim(
        "equi-tuning outperforms fine-tuning with and without data augmentation",
        f"{_AAAI}, Sec. 6.1",
        *("on turned images, with other networks", _GAIN, _IMAGES),
        _images(ours=True),
    ),
    Claim(
        "LSTMs fail miserably on SCAN tasks",
        f"{_AAAI}, Sec. 6.2",
        *("below 10 %", "% right", _SCAN),
        _lstms_fail,
    ),
    Claim(
        "competitive results compared to G-LSTMs",
        f"{_AAAI}, Sec. 6.2",
        *("less than 5 points behind", "points ahead", _SCAN),
        _against_g_lstm(-5),
    ),
    Claim(
        "and even outperform them in several cases",
        f"{_AAAI}, Sec. 6.2",
        *("", "points ahead", _SCAN),
        _against_g_lstm(0),
    ),
    Claim(
        "both R-EquiGPT2 and EquiGPT2 reduce the bias between each pair of demographic groups",
        f"{_AAAI}, Sec. 6.3",
        *("with other language models, where there is a bias", "points closer", _FAIRNESS),
        _fairer,
    ),
    Claim(
        "negligible drop in perplexity",
        f"{_AAAI}, Sec. 6.3",
        *("a rise of less than 5 %", "% higher", _FAIRNESS),
        _perplexity,
    ),
    Claim(
        "fixing the random seed results in perfect equivariance in generated texts",
        f"{_AAAI}, Sec. 6.3",
        *("with an ordinary sampler", "% of texts agree", _FAIRNESS),
        _draws("same_draws_ordinary"),
    ),
    Claim(
        "fixing the random seed results in perfect equivariance in generated texts",
        f"{_AAAI}, Sec. 6.3",
        *("with draws that follow the words", "% of texts agree", _FAIRNESS),
        _draws("same_draws"),
    ),
    Claim(
        "λ-equitune is equivariant and a universal approximator of equivariant functions",
        _NEURIPS,
        *("", "", _LANDSCAPE),
    ),
    Claim(
        "equitune performs poorly on equivariant zero-shot tasks",
        _NEURIPS,
        *("more than 5 points below the plain network upright", "points lost", _LAMBDA),
        _mean_is_poor,
    ),
    *(
        Claim(said, _NEURIPS, f"{when}: above equitune", _GAIN, _LAMBDA, _better(method, tuned))
        for method, said in (
            ("lambda", "excellent zero-shot and finetuned results that outperform equitune"),
            ("equizero", "equizero, also gives excellent zero-shot and finetuned performance"),
        )
        for tuned, when in enumerate(("zero-shot", "finetuned"))
    ),
)


def verdict(found: Sequence[Setting]) -> str:
    """Reproduced or not in all settings that can decide, or in how many of them; or not run."""
    decided = [s.shown for s in found if s.shown is not None]
    if not decided:
        return "one run only" if found else "not run"
    shown = sum(decided)
    if 0 < shown < len(decided):
        return f"in {shown} of {len(decided)} settings"
    return "reproduced" if shown else "not reproduced"


def _found(claim: Claim, read: Read) -> list[Setting]:
    return claim.find(read) if claim.find else []


def claims(read: Read = recorded) -> Table:
    """Every claim, whether our records show it, what was measured, and where the book tells of it.

    Parameters
    ----------
    read : callable
        From the name of an experiment to its records. Default: those that come with the book.
    """
    rows: list[list[str]] = []
    for k, claim in enumerate(CLAIMS, 1):
        found = _found(claim, read)
        amounts = sorted(s.amount + 0.0 for s in found)
        ends = dict.fromkeys(f"{end:.1f}" for end in amounts[:1] + amounts[-1:])
        page, name = claim.page
        rows.append(
            [
                f"{k}. “{claim.said}” ({claim.where})",
                claim.read_as or NONE,
                verdict(found) if claim.find else "proved",
                f"{' to '.join(ends)} {claim.measured}" if found else NONE,
                Linked((name, f"{page}.html")),
            ]
        )
    return Table(
        "The papers' claims, and what our records say",
        ["claim", "read as", "verdict", "ours, over the settings", "told in"],
        rows,
    )


def tried(read: Read = recorded) -> Folded:
    """Every setting in which a claim was tried, under the claim's number: one folded list."""
    said = {True: "shown", False: "not shown", None: "one run"}
    items = [
        f"{k}. {s.label}: {s.amount:.3g} {claim.measured}: {said[s.shown]}"
        for k, claim in enumerate(CLAIMS, 1)
        for s in _found(claim, read)
    ]
    return Folded(f"All {len(items)} settings", items)
