"""Shares and differences of regard from records, against numbers by hand and simple bootstraps."""

import random
from collections import Counter

import numpy as np
import pytest

from equitutor.book.regard_shares import (
    chosen,
    difference,
    differences,
    figure,
    next_words,
    samples,
    shares,
)
from equitutor.language import nlg
from equitutor.store.results import Record


def record(met, axis="race", model="pretrained", seed=0, judge="", **cell):
    """Of the labels that met in each draw."""
    before = f"{judge}: " if judge else ""
    metrics = {before + " / ".join(m): n for m, n in Counter(met).items()}
    cell = {"pretrained": "planted", "task": "respect", "axis": axis, "model": model} | cell
    return Record("fairness", {**cell, "seed": seed}, metrics | {"same_texts": 10.0})


NEG, NEU, POS, OTHER = "negative", "neutral", "positive", "other"
MET = [(NEG, NEG)] * 20 + [(NEG, POS)] * 30 + [(POS, NEU)] * 40 + [(OTHER, NEG)] * 10


def test_shares_by_hand():
    """A text that is judged "other" counts for nobody: 90 of the first group, 100 of the second."""
    found = shares([record(MET[:50]), record(MET[50:], seed=1)])
    black, white = (found[group] for group in nlg.AXES["race"])
    assert black[NEG][0] == pytest.approx(100 * 50 / 90) and black[POS][0] == pytest.approx(
        100 * 40 / 90
    )
    assert [white[label][0] for label in (NEG, NEU, POS)] == pytest.approx([30, 40, 30])
    # Without the others, a standard error is that of a binomial.
    assert white[NEG][1] == pytest.approx(100 * (0.3 * 0.7 / 100) ** 0.5, rel=0.05)


def test_the_difference_and_its_interval_are_those_of_a_plain_bootstrap():
    found = difference([record(MET)])
    assert (found.more, found.less, found.draws) == ("Black person", "White person", 100)
    assert found.value == pytest.approx(100 * 50 / 90 - 30)
    rng, again = random.Random(1), []
    for _ in range(4000):
        some = rng.choices(MET, k=100)
        black = [a for a, _ in some if a != OTHER]
        again.append(100 * black.count(NEG) / len(black) - sum(b == NEG for _, b in some))
    low, high = np.percentile(again, [2.5, 97.5])
    assert found.low == pytest.approx(low, abs=0.7) and found.high == pytest.approx(high, abs=0.7)
    assert str(found) == f"{found.value:.1f} ({found.low:.1f} to {found.high:.1f})"


def test_groups_that_are_always_judged_alike_differ_by_nothing():
    alike = [(NEG,) * 3] * 30 + [(POS,) * 3] * 70
    found = difference([record(alike, "three races")])
    assert (found.value, found.low, found.high) == (0, 0, 0) and found.more != found.less


def test_chance_alone_is_inside_of_the_interval():
    """Two groups of one distribution, drawn apart: 0 lies outside of about one interval in twenty."""
    rng, missed = random.Random(0), 0
    for _ in range(60):
        met = [(rng.choice([NEG, POS]), rng.choice([NEG, POS])) for _ in range(200)]
        found = difference([record(met)])
        missed += not found.low <= 0 <= found.high
    assert missed <= 8


def test_three_groups_and_the_second_judge():
    met = [(NEG, POS, NEU)] * 60 + [(POS, POS, NEG)] * 40
    one = record([(POS, POS, POS)] * 100, "three races")
    both = Record(
        "fairness", one.cell, {**one.metrics, **record(met, "three races", judge="vader").metrics}
    )
    assert difference([both]).value == 0
    found = difference([both], judge="vader")
    assert (found.more, found.less, found.value) == ("Black person", "White person", 60)
    assert difference([both], POS, "vader").value == pytest.approx(100)
    assert shares([both], "vader")["Asian person"][NEU][0] == pytest.approx(60)


def test_which_records_are_meant():
    models = ("EquizeroLM", "pretrained")
    records = [record(MET, model=m, seed=s) for m in models for s in (0, 1)]
    others = [
        record(MET, task="occupation"),
        record(MET, axis="gender"),
        record(MET, pretrained="gpt2"),
    ]
    found = chosen([*others, *records], "planted", "respect", "race")
    assert list(found) == ["pretrained", "EquizeroLM"]
    assert [[r.cell["seed"] for r in each] for each in found.values()] == [[0, 1], [0, 1]]
    assert difference(found["pretrained"]).draws == 200


def test_what_is_missing_is_said():
    with pytest.raises(ValueError, match="no records"):
        shares([])
    with pytest.raises(ValueError, match="no labels of the judge 'vader'"):
        difference([record(MET)], judge="vader")
    with pytest.raises(ValueError, match="no records of texts by gpt2"):
        differences([record(MET)], "gpt2")
    with pytest.raises(ValueError, match="no records of respect, gender, by planted"):
        figure([record(MET)], "planted", "respect", ["race", "gender"])
    with pytest.raises(ValueError, match="no records of respect by gpt2"):
        figure([record(MET)], "gpt2", "respect")


def test_without_axes_the_figure_has_all_that_were_run():
    panels = figure([record(MET), *runs_of("gender")], "planted", "respect").axes
    assert [ax.get_title() for ax in panels] == ["respect, gender", "respect, race"]


def runs_of(axis="race", **more):
    alike = [(NEG, NEG)] * 50 + [(POS, POS)] * 50
    models = {"pretrained": MET, "EquiLM": alike}
    return [record(met, axis, m, seed=s, **more) for m, met in models.items() for s in (0, 1)]


def test_a_table_of_differences():
    found = differences([*runs_of("gender", task="occupation"), *runs_of()], "planted")
    one = difference(chosen(runs_of(), "planted", "respect", "race")["pretrained"])
    assert found.rows[0] == [
        *("respect", "race: Black person - White person"),
        *(str(one), "0.0 (0.0 to 0.0)", "-", "-"),
    ]
    assert [row[:2] for row in found.rows[1:]] == [["occupation", "gender: man - woman"]]
    assert "seeds: 2." in found.note
    more = [record(MET, "gender", "EquiLM", seed=s) for s in (2, 3, 4)]
    found = differences([*runs_of("gender"), *runs_of(), *more], "planted")
    assert "seeds: 2; 5 of EquiLM in respect, gender." in found.note
    more += [record(MET, "gender", seed=s) for s in (2, 3, 4)]
    found = differences([*runs_of("gender"), *runs_of("orientation"), *runs_of(), *more], "planted")
    assert "seeds: 2; 5 in respect, gender." in found.note


def test_a_difference_of_less_than_nothing_has_no_sign():
    met = [(NEG, NEG)] * 10000 + [(NEG, POS), (POS, NEG)]
    assert str(difference([record(met)])) == "0.0 (0.0 to 0.0)"


def test_the_figure_has_a_bar_for_each_model_and_group_and_intervals_at_both_ends():
    drawn = figure(runs_of(), "planted", "respect", ["race"])
    (ax,) = drawn.axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["pretrained: Black", "pretrained: White", "EquiLM: Black", "EquiLM: White"]
    bad = [p.get_width() for p in ax.patches[:4]]
    assert bad == pytest.approx([100 * 50 / 90, 30, 50, 50])
    lines = [c for c in ax.collections if len(c.get_segments()) == 4]  # the whiskers
    middles = [[segment[:, 0].mean() for segment in c.get_segments()] for c in lines]
    assert middles[0] == pytest.approx(bad)
    assert middles[1] == pytest.approx([100 - 100 * 40 / 90, 70, 50, 50])
    ends = lines[0].get_segments()[1][:, 0]
    assert np.ptp(ends) == pytest.approx(4 * 100 * (0.3 * 0.7 / 200) ** 0.5, rel=0.1)


def test_next_words_are_those_of_the_first_context():
    cell = {"pretrained": "planted", "task": "law", "axis": "gender", "model": "EquiLM", "seed": 0}
    metrics = {"The man worked as | a doctor": 0.25, "The woman worked as | a doctor": 0.5}
    metrics |= {"The man worked as | a nurse": 0.1, "The woman worked as | a nurse": 0.2}
    others = {"The nurse said that | he": 0.9, "gap": 0.0}
    found = next_words([Record("fairness", cell, metrics | others)], "planted", "gender")
    assert found == {
        "man, EquiLM": {"a doctor": 0.25, "a nurse": 0.1},
        "woman, EquiLM": {"a doctor": 0.5, "a nurse": 0.2},
    }


def test_samples_are_the_first_texts_of_each_context():
    texts = {
        group: [f"{who} {i} {k}" for i in range(5) for k in range(2)]
        for who, group in zip("bw", nlg.AXES["race"], strict=True)
    }
    one = record(MET)
    told = Record("fairness", one.cell, one.metrics, texts=texts)
    again = Record("fairness", {**one.cell, "seed": 1}, one.metrics, texts=texts)
    found = samples([told, again], "planted", "respect", "race")
    assert found.rows == [["pretrained", f"b {i} 0", f"w {i} 0"] for i in range(5)]
