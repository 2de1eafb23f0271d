"""What the two papers claim in words, and whether our records show it.

A claim is tried in settings: a network and a group, a task, a world. One shows it if the mean lies on the right
side of its bound by two standard errors, over the seeds; where nothing depends on a seed, over the test images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
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

    ``shown`` is None where it cannot be said, as of one run. ``pretrained``: on large data; the other networks were
    trained here, for minutes.
    """

    label: str
    amount: float
    shown: bool | None
    pretrained: bool


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


#: The least amount that a table with one decimal shows.
_LEAST = 0.05


def _setting(
    label: str, values: Sequence[float] | Summary, pretrained: bool, above: float = 0
) -> Setting:
    """Shown if the mean is above a bound by two standard errors, and by more than the rounding."""
    found = values if isinstance(values, Summary) else summarize(values)
    if found.std is None:
        return Setting(label, found.mean, None, pretrained)
    least = max(_LEAST, 2 * found.std / math.sqrt(found.n))
    return Setting(label, found.mean, found.mean - above > least, pretrained)


def _on_large_data(r: Record) -> bool:
    here = {"random", "upright", "small", fairness.PLANTED}
    return r.experiment not in ("scan", "dqn") and here.isdisjoint(r.cell.values())


def _paired(
    records: Sequence[Record],
    metric: str,
    field: str,
    change: tuple[str, str],
    by: Sequence[str],
    above: float = 0,
    ignore: Sequence[str] = (),
) -> list[Setting]:
    """A setting for each key of :func:`~equitutor.book.scoreboard.paired`.

    Of a network's own classes there is one run, which no seed changes. Each seed of what is trained on them is
    compared with it, and two such runs by their n test images: the difference of two shares has a standard error
    of at most 100 sqrt(1 / 2n) points, unless one run tends to be right where the other is wrong.
    """
    found = []
    for own in (False, True):
        some = [r for r in records if (r.cell.get("head", "trained") != "trained") is own]
        of = {tuple(str(r.cell[k]) for k in by): r for r in some if r.cell[field] == change[1]}
        pairs = paired(some, metric, field, change, by, [*ignore, "seed"] if own else ignore)
        for key, (effect, _) in pairs.items():
            if own and "tune_limit" not in of[key].config:
                effect = replace(effect, std=100 / math.sqrt(2), n=int(of[key].metrics["images"]))
            label = ", ".join(names.value(k, text) for k, text in zip(by, key, strict=True))
            found.append(_setting(label, effect, _on_large_data(of[key]), above))
    return found


def _images(read: Read, ours: bool) -> list[Setting]:
    """Equi-tuned networks against fine-tuned ones, on turned images, plain and augmented."""
    some = [r for r in pretrained(read("vision")) if r.cell["dataset"] == "hymenoptera"]
    some = [r for r in some if (r.cell["backbone"] in BACKBONES) is not ours]
    found = []
    for (trained, what), group in product((("none", "plain"), ("c4", "augmented")), ("c4", "d4")):
        cells, change = {("none", trained), (group, "none")}, ("none", group)
        both = [r for r in some if (r.cell["group"], r.cell["augmentation"]) in cells]
        found += [
            replace(one, label=f"{one.label}, {group} against {what}")
            for one in _paired(
                both, "accuracy", "group", change, ["backbone"], ignore=["augmentation"]
            )
        ]
    return found


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
        below = _setting(names.value("task", task), [-v for v in values], False, above=-10)
        settings.append(replace(below, amount=fmean(values)))
    return settings


def _against_g_lstm(read: Read, above: float) -> list[Setting]:
    change = ("G-LSTM", "EquiLSTM")
    return _paired(_scan(read), "test_accuracy", "model", change, ["task"], above, ["group"])


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
                apart, large = after.high < before.low, _on_large_data(models[model][0])
                found.append(Setting(label, before.value - after.value, apart, large))
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
            found.append(Setting(label, rise, rise < 5, _on_large_data(r)))
    return found


def _draws(read: Read, metric: str) -> list[Setting]:
    """Percent of EquiLM's draws that agree: all of them, or there is no law."""
    found = []
    for r in read("fairness"):
        if (r.cell["task"], r.cell["model"]) == (fairness.LAW, "EquiLM"):
            label = f"{names.value('pretrained', str(r.cell['pretrained']))}, {r.cell['axis']}"
            agree = r.metrics[metric]
            found.append(Setting(label, agree, agree == 100, _on_large_data(r)))
    return found


#: Experiment, metrics before and after tuning, the fields that name a setting, those that the plain network lacks.
_LEARNED = (
    ("methods", ("zero_shot", "accuracy"), ["dataset", "backbone"], ["group"]),
    ("frozen", ("zero_shot", "accuracy"), ["dataset", "backbone", "head", "group"], ["group"]),
    ("clip", ("zero_shot", "accuracy"), ["checkpoint", "group", "place"], ["place"]),
    ("dqn", ("at_once", "after"), ["world"], ()),
)


def _better(read: Read, method: str, tuned: int) -> list[Setting]:
    """Points that a method is ahead of the mean. Of a network's own classes nothing is tuned."""
    found = []
    for experiment, metrics, by, _ in _LEARNED:
        some = [
            r for r in read(experiment) if not tuned or r.cell.get("head", "trained") == "trained"
        ]
        found += _paired(some, metrics[tuned], "method", ("equitune", method), by)
    return found


def _mean_is_poor(read: Read, plain: str, above: float) -> list[Setting]:
    """Points that the mean of the views loses, without tuning, to a metric of the plain network."""

    def lost(r: Record) -> Record:
        metric = plain if r.cell["method"] == "none" else "zero_shot"
        return replace(r, metrics={**r.metrics, "lost": -r.metrics[metric]})

    found = []
    for experiment, _, by, ignore in _LEARNED[:3]:
        records, change = list(map(lost, read(experiment))), ("none", "equitune")
        found += _paired(records, "lost", "method", change, by, above, ignore)
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
    *(
        Claim(
            "equi-tuning outperforms fine-tuning with and without data augmentation",
            f"{_AAAI}, Sec. 6.1",
            *(f"on turned images, with {whose} networks", _GAIN, _IMAGES),
            partial(_images, ours=ours),
        )
        for ours, whose in ((False, "the paper's"), (True, "other"))
    ),
    Claim(
        "LSTMs fail miserably on SCAN tasks",
        f"{_AAAI}, Sec. 6.2",
        *("below 10 %", "% right", _SCAN),
        _lstms_fail,
    ),
    *(
        Claim(
            said,
            f"{_AAAI}, Sec. 6.2",
            *(read_as, "points ahead", _SCAN),
            partial(_against_g_lstm, above=above),
        )
        for said, read_as, above in (
            ("competitive results compared to G-LSTMs", "less than 5 points behind", -5),
            ("and even outperform them in several cases", "", 0),
        )
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
    *(
        Claim(
            "fixing the random seed results in perfect equivariance in generated texts",
            f"{_AAAI}, Sec. 6.3",
            *(f"with {sampler}", "% of texts agree", _FAIRNESS),
            partial(_draws, metric=metric),
        )
        for sampler, metric in (
            ("an ordinary sampler", "same_draws_ordinary"),
            ("draws that follow the words", "same_draws"),
        )
    ),
    Claim(
        "λ-equitune is equivariant and a universal approximator of equivariant functions",
        _NEURIPS,
        *("", "", _LANDSCAPE),
    ),
    *(
        Claim(
            "equitune performs poorly on equivariant zero-shot tasks",
            _NEURIPS,
            *(f"{below} images", "points lost", _LAMBDA),
            partial(_mean_is_poor, plain=plain, above=above),
        )
        for plain, above, below in (
            ("zero_shot_upright", 5, "more than 5 points below the plain network on upright"),
            ("zero_shot", 0, "below the plain network on turned"),
        )
    ),
    *(
        Claim(
            said,
            _NEURIPS,
            *(f"{when}: above equitune", _GAIN, _LAMBDA),
            partial(_better, method=method, tuned=tuned),
        )
        for method, said in (
            ("lambda", "excellent zero-shot and finetuned results that outperform equitune"),
            ("equizero", "equizero, also gives excellent zero-shot and finetuned performance"),
        )
        for tuned, when in enumerate(("zero-shot", "finetuned"))
    ),
)


def verdict(found: Sequence[Setting]) -> str:
    """Reproduced or not in all settings that can decide, or in how many of them; or not run."""
    decided = [s for s in found if s.shown is not None]
    if not decided:
        return "one run only" if found else "not run"
    if len({s.shown for s in decided}) == 1:
        return "reproduced" if decided[0].shown else "not reproduced"
    kinds = {"pretrained": True, "trained here": False}
    shown = {kind: [s.shown for s in decided if s.pretrained is k] for kind, k in kinds.items()}
    counts = [f"{some.count(True)} of {len(some)} {kind}" for kind, some in shown.items() if some]
    return f"in {', '.join(counts)}"


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
        amounts = sorted(s.amount + 0.0 for s in found if s.shown is not None)
        ends = dict.fromkeys(f"{end:.1f}" for end in amounts[:1] + amounts[-1:])
        page, name = claim.page
        rows.append(
            [
                f"{k}. “{claim.said}” ({claim.where})",
                claim.read_as or NONE,
                verdict(found) if claim.find else "proved",
                f"{' to '.join(ends)} {claim.measured}" if amounts else NONE,
                Linked((name, f"{page}.html")),
            ]
        )
    return Table(
        "The papers' claims, and what our records say",
        ["claim", "read as", "verdict", "ours, over the settings counted", "told in"],
        rows,
    )


def tried(read: Read = recorded) -> Folded:
    """Every setting in which a claim was tried, under the claim's number: one folded list."""
    said = {True: "shown", False: "not shown", None: "one run"}
    kind = {True: "", False: " (trained here)"}
    items = [
        f"{k}. {s.label}{kind[s.pretrained]}: {s.amount:.3g} {claim.measured}: {said[s.shown]}"
        for k, claim in enumerate(CLAIMS, 1)
        for s in _found(claim, read)
    ]
    return Folded(f"All {len(items)} settings", items)
