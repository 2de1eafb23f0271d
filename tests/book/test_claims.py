"""The papers' claims: a verdict follows from the records, and falls when they are others."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import t

import equitutor as eq
from equitutor.book import claims
from equitutor.book.claims import CLAIMS, Setting, verdict
from equitutor.store.results import Record, recorded

BOOK = Path(__file__).parents[2] / "book"
TRIED = [claim for claim in CLAIMS if claim.find]


@pytest.mark.parametrize(
    ("large", "small", "said"),
    [
        ([], [], "not run"),
        ([None], [], "one run only"),
        ([True, None], [True], "reproduced"),
        ([False], [False], "not reproduced"),
        ([True, False, None], [False, None], "in 1 of 2 pretrained, 0 of 1 trained here"),
        ([], [True, False, False], "in 1 of 3 trained here"),
    ],
)
def test_verdicts(large, small, said):
    found = [Setting("", 0.0, s, k) for k, some in ((True, large), (False, small)) for s in some]
    assert verdict(found) == said


@pytest.mark.parametrize(
    ("values", "above", "shown"),
    [
        ([1.0, 1.2, 0.8], 0, True),  # two standard errors are 0.23
        ([1.0, 1.2, 0.8], 0.76, True),
        ([1.0, 1.2, 0.8], 0.78, False),
        ([-1.0, -1.2, -0.8], 0, False),
        ([5.0, 5.0], 5, False),
        ([0.06, 0.06], 0, True),
        ([0.04, 0.04], 0, False),  # the table would show 0.0
        ([9.0], 0, None),
    ],
)
def test_what_shows_a_claim(values, above, shown):
    assert claims._setting("", values, True, above).shown is shown


def frozen(method, zero_shot, images, head="own", seed=0):
    group = "none" if method == "none" else "c4"
    cell = {"dataset": "digits", "backbone": "resnet18", "head": head, "group": group}
    config = {"tune_limit": 9} if "lambda" in method or head == "trained" else {}
    metrics = dict.fromkeys(("zero_shot", "zero_shot_upright", "accuracy"), zero_shot)
    metrics["images"] = images
    return Record("frozen", {**cell, "method": method, "seed": seed}, metrics, config)


@pytest.mark.parametrize(
    ("images", "head", "shown"),
    [(10_000, "own", True), (153, "own", False), (10_000, "trained", None)],
)
def test_what_no_seed_changes_is_counted_by_its_images(images, head, shown):
    """4 points: two standard errors are at most 1.4 of 10,000 images, 11 of 153; one trained head is one run."""
    runs = [frozen("none", 94.0, images, head), frozen("equitune", 90.0, images, head)]
    (found,) = claims._mean_is_poor(lambda name: runs * (name == "frozen"), "zero_shot", 0)
    assert (found.amount, found.shown) == (4.0, shown)


def test_every_seed_of_lambda_is_compared_with_the_one_run_of_the_mean():
    runs = [frozen("equitune", 60.0, 10**6)]
    for k, (accuracy, shown) in enumerate([(61.0, None), (62.0, True), (55.0, False)]):
        runs.append(frozen("lambda", accuracy, 10**6, seed=k))
        (found,) = claims._better(lambda name: runs * (name == "frozen"), "lambda", tuned=0)
        assert found.amount == pytest.approx(
            sum(r.metrics["zero_shot"] - 60 for r in runs) / (k + 1)
        )
        assert found.shown is shown


def test_what_is_not_tuned_is_not_counted_as_tuned():
    """A network's own classes have no head to tune: the accuracy after it is the one before."""
    for head, settings in (("own", (1, 0)), ("own 1000", (1, 0)), ("trained", (1, 1))):
        runs = [
            frozen(method, accuracy, 10**6, head, seed)
            for method, accuracy in (("equitune", 60.0), ("lambda", 69.0))
            for seed in (0, 1)
        ]
        found = [
            claims._better(lambda name, runs=runs: runs * (name == "frozen"), "lambda", tuned)
            for tuned in (0, 1)
        ]
        assert tuple(map(len, found)) == settings


def test_without_records_nothing_is_claimed():
    rows = claims.claims(lambda name: []).rows
    assert [row[2] for row in rows] == ["not run" if claim.find else "proved" for claim in CLAIMS]
    assert claims.tried(lambda name: []).summary == "All 0 settings"


def test_every_claim_leads_to_a_page_and_most_were_tried():
    for claim in CLAIMS:
        assert (BOOK / f"{claim.page[0]}.ipynb").is_file()
    said = [row[2] for row in claims.claims().rows]
    assert len(said) == len(CLAIMS) >= 15
    assert said.count("not run") <= 1 < said.count("proved") and "reproduced" in said
    assert len(claims.tried().items) > 100


@pytest.mark.parametrize("claim", TRIED, ids=lambda c: f"{c.said[:20]}, {c.read_as}")
def test_no_claim_is_reproduced_by_any_numbers(claim):
    """By numbers that are drawn there are settings that show nothing."""
    drawn = random.Random(0)

    def other(name):
        return [
            replace(r, metrics={k: drawn.randint(1, 10**6) for k in r.metrics})
            for r in recorded(name)
        ]

    assert verdict(claim.find(other)) not in ("reproduced", "proved")


def scan(model, accuracies, group="verb"):
    cell = {"task": "add_jump", "group": group, "model": model}
    return [
        Record("scan", {**cell, "seed": k}, {"test_accuracy": a}) for k, a in enumerate(accuracies)
    ]


def test_a_claim_by_hand():
    """G-LSTM 90, 92, 94; EquiLSTM 88, 91, 91: behind by 2 on the average, so competitive but no better."""
    runs = scan("G-LSTM", [90, 92, 94]) + scan("EquiLSTM", [88, 91, 91])
    runs += scan("LSTM", [0.0, 1.0, 2.0], "none")
    found = {
        claim.said: verdict(claim.find(lambda name: runs if name == "scan" else []))
        for claim in TRIED
        if claim.page[0] == "06_scan"
    }
    assert found == {
        "LSTMs fail miserably on SCAN tasks": "reproduced",
        "competitive results compared to G-LSTMs": "reproduced",
        "and even outperform them in several cases": "not reproduced",
    }


def test_what_the_page_says_of_chance_and_of_the_settings():
    text = (BOOK / "claims.ipynb").read_text(encoding="utf-8")
    assert (
        "a mean of three to ten seeds exceeds two of its standard errors in four to nine of a hundred"
        in text
    )
    assert [round(100 * t.sf(2, n - 1)) for n in (3, 10)] == [9, 4]
    before, after = (
        {s.label: s.amount for s in claim.find(recorded)}
        for claim in TRIED
        if "outperform equitune" in claim.said
    )
    assert "In most settings λ is less far ahead of the mean after tuning than before it" in text
    both = before.keys() & after.keys()
    assert len(both) < len(before) and sum(after[k] < before[k] for k in both) > len(both) / 2
    assert "and in CartPole it is behind by less than one standard error" in text
    world = eq.results.frame(recorded("dqn")).query("world == 'CartPole-v1'")
    world = world.pivot(index="seed", columns="method", values="after")
    behind = world["equitune"] - world["lambda"]
    assert 0 < behind.mean() == pytest.approx(-after["CartPole"]) and behind.mean() < behind.sem()
    assert "so the mean is not poor there, and λ gains less than three points" in text
    insects = [k for k in before if k.startswith("Hymenoptera")]
    assert len(insects) >= 4 and max(before[k] for k in insects) < 3
    poor = {s.label: s.shown for s in CLAIMS[12].find(recorded)}
    assert not any(poor[k] for k in insects)
    assert "Claim 4 rests on SqueezeNet alone: EfficientNet-Lite0 has one run in each" in text
    for setting in CLAIMS[3].find(recorded):
        one_run = setting.label.startswith("EfficientNet-Lite0")
        assert (setting.shown is None) is one_run and (not one_run or setting.amount < 0.5)
    assert "that is shown of AlexNet on digits alone (claim 14)" in text
    turned = CLAIMS[13].find(recorded)
    assert [s.label for s in turned if s.shown] == ["digits, AlexNet"]
