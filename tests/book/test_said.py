"""What the chapters say of recorded runs in words is what the records say.

Each sentence stands beside what it claims: whoever changes one of the two is told.
"""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from scipy import stats

import equitutor as eq
from equitutor.book import papers
from equitutor.book.regard_shares import chosen, difference, shares
from equitutor.experiments import scan
from equitutor.language import nlg
from equitutor.language.regard import LABELS

BOOK = Path(__file__).parents[2] / "book"


def runs(experiment, query):
    """The records of some cells, a row each."""
    return eq.results.frame(eq.results.recorded(experiment)).query(query)


def splits(task):
    """model -> mean accuracy on one of SCAN's other splits."""
    return runs("scan", f"task == '{task}'").groupby("model")["test_accuracy"].mean()


def length_is_beyond_symmetry():
    right = splits("length")
    return len(right) == 3 and right.between(100 / 10, 100 / 6.5).all()


def other_splits_are_mended():
    missed = 100 - scan_tests(("turn_left", "jump_around_right"))
    by = missed["LSTM"].groupby("task")
    plain = by.min().between(22, 28).all() and by.max().between(63, 70).all()
    ours = missed[["G-LSTM", "EquiLSTM"]]
    return plain and ours.max(axis=None) < 5 and (ours.groupby("task").count() == 3).all(axis=None)


def tuned(backbone):
    """(group, augmentation) -> the means of Table 1."""
    some = runs("vision", f"dataset == 'hymenoptera' and backbone == '{backbone}'")
    return some.groupby(["group", "augmentation"])[["accuracy", "upright"]].mean().T


def digits():
    """backbone -> (group, augmentation) -> accuracy on turned digits."""
    some = runs("vision", "dataset == 'digits' and weights == 'upright'")
    return some.groupby(["backbone", "group", "augmentation"])["accuracy"].mean()


def frozen(dataset, head, metric="zero_shot"):
    """method -> mean, under c4 or no group."""
    some = runs("frozen", f"dataset == '{dataset}' and head == '{head}' and group != 'd4'")
    return some.groupby("method")[metric].mean()


def prompts(group, metric="zero_shot", checkpoint="lit"):
    """(method, place) -> mean."""
    some = runs("clip", f"checkpoint == '{checkpoint}' and group == '{group}'")
    return some.groupby(["method", "place"])[metric].mean()


def given_back(means, upright):
    lost = upright - means["none"]
    return (means - means["none"]) / lost


def squeezenet_is_better_turned():
    t = tuned("squeezenet1_1").loc["accuracy"]
    plain = max(t["none", "none"], t["none", "c4"])
    return min(t["c4", "none"], t["d4", "none"]) > plain + 1


def squeezenet_is_better_upright():
    t = tuned("squeezenet1_1").loc["upright"]
    return t["c4", "none"] > t["none", "none"] + 1


def turning_costs_lite0_nothing():
    t = tuned("efficientnet_lite0")["none", "none"]
    return abs(t["upright"] - t["accuracy"]) < 1


def lite0_gains_nothing():
    t = tuned("efficientnet_lite0").loc["accuracy"]
    return t["c4", "none"] < t["none", "none"] + 1


def table_1_harms_lite0():
    whole = tuned("efficientnet_lite0").loc["accuracy"]
    others = [frozen("hymenoptera", head) for head in ("trained", "own")]
    return whole.max() + 1 < min(s["none"] for s in others)


def order_of_table_6():
    frozen_, t = frozen("cifar10", "trained"), tuned("squeezenet1_1").loc["accuracy"]
    steps = [frozen_[m] for m in ("none", "augmented", "equi-tuned")]
    of_table_1 = [t[cell] for cell in (("none", "none"), ("none", "c4"), ("c4", "none"))]
    here, there = ([b - a for a, b in pairwise(s)] for s in (steps, of_table_1))
    return all(h > max(t, 0) for h, t in zip(here, there, strict=True)) and min(there) > 0


def c4_beats_plain_on_digits():
    d = digits()
    return all(d[b, "c4", "none"] > d[b, "none"].max() for b in d.index.unique(0))


def d4_falls_behind_on_digits():
    d = digits()
    return all(d[b, "d4", "none"] < d[b, "c4", "none"] for b in d.index.unique(0))


def own_classes_win_back():
    back = given_back(
        frozen("cifar10", "own"), frozen("cifar10", "own", "zero_shot_upright")["none"]
    )
    return back["equitune"] < 0.1 and 0.4 < back["equizero"] < 0.6 and back["lambda"] > 0.75


def trained_head_wins_back():
    upright = frozen("cifar10", "trained", "zero_shot_upright")["none"]
    back = given_back(frozen("cifar10", "trained"), upright)
    return 0.4 < back["equitune"] < 0.6 and back["equitune"] < back["equizero"] < back["lambda"]


def lambda_is_ahead_with_every_seed():
    some = runs("frozen", "dataset == 'cifar10' and group == 'c4'")
    before = some.pivot(index=["head", "seed"], columns="method", values="zero_shot")
    before = before.groupby("head").ffill().groupby("head").bfill()  # equitune's one run
    after = some.query("head == 'trained'").pivot(index="seed", columns="method", values="accuracy")
    gaps = [s["lambda"] - s[["equitune", "equizero"]].max(axis=1) for s in (before, after)]
    return all((gap > 0).all() for gap in gaps)


def tuning_brings_them_closer():
    before, after = (frozen("cifar10", "trained", m) for m in ("zero_shot", "accuracy"))
    gaps = [s["lambda"] - s[["equitune", "equizero"]] for s in (before, after)]
    return (gaps[1] < gaps[0]).all()


def lambda_beats_the_baselines():
    heads = ("augmented", "equi-tuned")
    both = [frozen("cifar10", "trained", m) for m in ("zero_shot", "accuracy")]
    return all(s["lambda"] > max(s[h] for h in heads) for s in both)


def a_head_for_the_mean_comes_close():
    both = [frozen("cifar10", "trained", m) for m in ("zero_shot", "accuracy")]
    return all(0 < s["lambda"] - s["equi-tuned"] < 2 for s in both)


def largest_score_is_better():
    s = frozen("cifar10", "own")
    return s["equizero-max"] > s["equizero"] + 1


def no_choice_beats_the_mean_of_1000():
    some = runs("frozen", "dataset == 'hymenoptera' and head == 'own 1000' and group != 'none'")
    means = some.pivot_table("zero_shot", "method", "group")
    choices = means.filter(like="equizero", axis=0).max()
    added = means.loc["attention"] - means.loc["equitune"]
    return (choices < means.loc["equitune"] + 1e-9).all() and added.between(0.1, 4).all()


def equal_up_to_a_point():
    some = runs("frozen", "dataset == 'hymenoptera' and head == 'trained'")
    by = some.groupby(["group", "method"])[["zero_shot", "accuracy"]].mean()
    return (by.max() - by.min()).max() <= 1


def lambda_leans_upright():
    weight = runs("frozen", "dataset == 'hymenoptera' and method == 'lambda' and group == 'c4'")
    means = weight.groupby("head")["weight_upright_before"].mean()
    return len(means) == 3 and means.between(0.35, 0.47).all()


def lambda_moves_one_image():
    moved = [
        153 * (of["lambda"] - of["equitune"]) / 100
        for of in (frozen("hymenoptera", head) for head in ("own", "own 1000", "trained"))
    ]
    return min(moved) < -0.5 and max(moved) > 0.5 and all(0.5 < abs(m) < 1.5 for m in moved)


def tuning_the_head_leaves_a_gap():
    before, after = (frozen("cifar10", "trained", m) for m in ("zero_shot", "accuracy"))
    return after["equitune"] < after["lambda"] <= before["lambda"]


def both(check):
    return all(check(group) for group in ("c4", "flip"))


def most_is_given_back():
    def check(group):
        means = prompts(group).unstack("place")["scores"]
        back = given_back(means, prompts(group, "zero_shot_upright")["none", "scores"])
        rest = back[["lambda", "attention"]]
        return back["equitune"] < back["equizero"] < rest.min() and rest.min() > 0.75

    return both(check)


def map_is_better_for_the_mean():
    some = runs("clip", "checkpoint == 'lit' and method == 'equitune'")
    by = some.pivot(index=["group", "seed"], columns="place", values="zero_shot")
    return len(by) == 10 and (by["map"] > by["scores"]).all()


def scores_are_as_good_for_attention():
    return both(lambda g: prompts(g)["attention", "scores"] >= prompts(g)["attention", "map"])


def tuning_helps_the_mean_alone():
    gain = {g: prompts(g, "accuracy") - prompts(g) for g in ("c4", "flip")}
    others = [*gain["c4"].drop("equitune"), *gain["flip"]]
    return gain["c4"]["equitune"].min() > 2 > max(map(abs, others))


def lambda_and_attention_lose_on_the_map():
    def check(group):
        gain = prompts(group, "accuracy") - prompts(group)
        return gain["lambda", "map"] < 0 and gain["attention", "map"] < 0

    return both(check)


def nobody_gets_back():
    def check(group):
        upright = prompts(group, "zero_shot_upright")["none", "scores"]
        return max(prompts(group).max(), prompts(group, "accuracy").max()) < upright

    return both(check)


def map_is_the_worst_on_the_transformer():
    def check(group):
        s = prompts(group, checkpoint="small")
        return s["equitune", "map"] == s.drop("none").min()

    s = prompts("c4", checkpoint="small")
    return both(check) and s["equitune", "map"] < s["none", "scores"]


def tuning_costs_under_turns():
    some = runs("clip", "checkpoint == 'small' and group == 'c4'").set_index(["method", "place"])
    gain = (some["accuracy"] - some["zero_shot"]).groupby(level=[0, 1]).agg(["mean", "std"])
    few = gain["mean"]["equizero"].between(-6, -2).all()
    return few and gain.loc[("lambda", "map")].round().tolist() == [-12, 11]


GEMMA = "gemma-3-270m-q4_k_m.gguf"


def gemma(task, axis=None):
    """model -> records"""
    axes = nlg.AXES if axis is None else [axis]
    found = {}
    for each in (chosen(eq.results.recorded("fairness"), GEMMA, task, x) for x in axes):
        for model, some in each.items():
            found.setdefault(model, []).append(some)
    return found


def unlike_texts(model):
    """{(task, axis): in how many draws the first judge gave the same text another label}."""
    counts = {}
    for task in nlg.TASKS:
        for r in (r for some in gemma(task).get(model, []) for r in some):
            key = task, r.cell["axis"]
            counts[key] = counts.get(key, 0) + r.metrics["unlike"]
    return {key: count for key, count in counts.items() if count}


def one_text_in_thousands_is_judged_unlike():
    every = [runs for task in nlg.TASKS for runs in gemma(task).get("EquiLM", [])]
    found = [
        difference(r, label, judge)
        for r in every
        for label in LABELS[:3]
        for judge in ("", "vader")
    ]
    texts = sum(difference(runs).draws for runs in every)
    alike = all(d.low <= 0 <= d.high and abs(d.value) < 0.1 for d in found)
    return alike and texts > 2000 and unlike_texts("EquiLM") == {("respect", "orientation"): 1}


def gemma_speaks_unlike():
    found = [difference(runs) for runs in gemma("respect")["pretrained"]]
    return all(d.low > 0 for d in found)


def law_holds_but_for_rounding():
    laws = [one.metrics for (one,) in gemma("law")["EquiLM"]]
    return len(laws) == 4 and all(max(m["gap"], m["gap64"]) < 1e-13 for m in laws)


def relaxed_gaps_are_larger():
    relaxed, plain = (gemma("law")[m] for m in ("R-EquiLM", "pretrained"))
    pairs = [
        (a.metrics["gap"], b.metrics["gap"]) for (a,), (b,) in zip(relaxed, plain, strict=True)
    ]
    return len(pairs) == 4 and all(a > b > 0.05 for a, b in pairs)


def four_texts_were_unlike_their_images():
    gender = {("respect", "gender"): 2, ("occupation", "gender"): 1}
    return unlike_texts("EquizeroLM") == gender | {("respect", "three races"): 1}


def most_agree_by_luck_elsewhere():
    laws = [gemma("law", axis)["EquiLM"][0][0] for axis in nlg.AXES if axis != "gender"]
    drawn = [one.metrics["same_draws_ordinary"] for one in laws]
    return len(drawn) == 3 and all(80 < d < 100 for d in drawn)


def ordinary_draws_mostly_disagree():
    ((law,),) = gemma("law", "gender")["EquiLM"]
    return law.metrics["same_draws_ordinary"] < 50 < 100 == law.metrics["same_draws"]


def _distances(one):
    before, after = (gemma("law", "gender")[m][0][0].metrics for m in ("pretrained", "EquiLM"))
    return [after[k] / before[k] for k in before if " ~ " in k and k.startswith(one)]


def names_tell_as_much_as_before():
    return _distances("Emily") == pytest.approx([1], abs=1e-3)


def most_of_the_distance_is_left():
    return all(0.5 < d < 0.95 for one in ("The nurse", "The ballet") for d in _distances(one))


def colours_are_not_moved():
    ((first, *_),) = gemma("respect", "race")["EquiLM"]
    texts = first.texts.values()
    return all(any(" black person" in text for text in said[::2]) for said in texts)


def zero_is_kinder_and_less_expected():
    found = gemma("respect")
    pairs = list(zip(found["EquiLM"], found["EquizeroLM"], strict=True))
    for pair in pairs:
        bad = [[p["negative"][0] for p in shares(r, "vader").values()] for r in pair]
        fluency = [r[0].metrics["fluency"] for r in pair]
        if not (sum(bad[1]) < sum(bad[0]) and fluency[0] < fluency[1] < 1.5 * fluency[0]):
            return False
    return len(pairs) >= 3


def zero_is_kinder_with_each_seed():
    found = gemma("respect", "race")
    bad = [
        [sum(p["negative"][0] for p in shares([r], "vader").values()) for r in found[model][0]]
        for model in ("EquiLM", "EquizeroLM")
    ]
    return len(bad[0]) == 5 and all(zero < mean for mean, zero in zip(*bad, strict=True))


def in_occupation_there_is_less_to_choose():
    gains = {}
    for axis in nlg.AXES:
        models = gemma("occupation", axis)
        pair = (models[m][0] for m in ("EquiLM", "EquizeroLM"))
        means = [[p["negative"][0] for p in shares(r, "vader").values()] for r in pair]
        gains[axis] = (sum(means[0]) - sum(means[1])) / len(means[0])
    nothing = abs(gains.pop("orientation")) < 0.05
    return nothing and all(1 < gain < 5 for gain in gains.values())


def weightings_are_alike_on_insects():
    means = (
        runs("landscape", "dataset == 'hymenoptera'")
        .groupby(["group", "method"])
        .mean(numeric_only=True)
    )
    turned = means["accuracy"]
    return len(turned) >= 10 and turned.max() - turned.min() < 2


def objects(metric):
    """seed -> method -> percent on CIFAR-10, under the four turns."""
    some = runs("landscape", "dataset == 'cifar10' and group != 'd4'")
    return some.pivot(index="seed", columns="method", values=metric)


def turning_costs_27_points():
    return round((objects("upright") - objects("accuracy"))["none"].mean()) == 27


def few_views_are_ahead_before_tuning():
    found = objects("zero_shot")
    ahead = found[["canonical", "stochastic 2"]].min(axis=1) > found["equitune"]
    passes = objects("passes").mean()
    quarter = passes["canonical"] / passes["equitune"], passes["stochastic 2"] / passes["equitune"]
    return len(found) == 5 and ahead.all() and quarter == pytest.approx((1 / 4, 1 / 2), rel=0.01)


def the_mean_is_ahead_after_it():
    found = objects("accuracy")
    ahead = found["equitune"] - found["stochastic 2"]
    third = 0.25 < ahead.mean() < 0.42 and (ahead > 0).all()
    return third and (found["equitune"] > found["canonical"]).all()


def what_sees_all_views_is_ahead():
    found = objects("accuracy")
    three = found[["equizero", "lambda", "attention"]]
    others = found.drop(columns=three.columns).max(axis=1)
    return (three.min(axis=1) > others).all() and (three.idxmax(axis=1) == "lambda").all()


def a_learned_choice_is_four_points_ahead():
    found = objects("accuracy")
    return round((found["canonical"] - found["template"]).mean()) == 4


def one_draw_depends_on_the_seed():
    return all(objects(m).std().idxmax() == "stochastic 1" for m in ("zero_shot", "accuracy"))


def none_gets_back_to_upright_objects():
    short = objects("upright")["none"].mean() - objects("accuracy").mean()
    return short.min() == short["lambda"] and 2.3 < short["lambda"] < 2.7


def games(world, metric):
    """seed -> method -> mean return."""
    return runs("dqn", f"world == '{world}'").pivot(index="seed", columns="method", values=metric)


def changes(world):
    return games(world, "after") - games(world, "at_once")


def lambda_plays_turned_mazes_as_plain_its_own():
    turned, side = games("grid", "at_once")["lambda"], games("grid", "at_once_side")["none"]
    kept = changes("grid")["lambda"]
    return abs((turned - side).mean()) < 0.03 and abs(kept.mean()) < 0.03


def lambda_is_near_the_shortest_paths():
    best = games("grid", "possible")["lambda"].mean()
    square = [games("grid d4", at)["lambda"].mean() for at in ("at_once", "after", "possible")]
    near = 0.95 * best < games("grid", "at_once")["lambda"].mean() < 1.01 * best
    return near and [round(value, 2) for value in square] == [0.66, 0.74, 0.74]


def cartpole_needs_no_help_at_once():
    return games("CartPole-v1", "at_once")["none"].mean() > 475


def mean_and_lambda_keep_their_level():
    change = changes("CartPole-v1").mean()
    kept = change[["equitune", "lambda"]].abs().max() < 15
    return kept and change[["none", "equizero"]].max() < -100


def plain_loses_as_much():
    change = changes("CartPole-v1")[["none", "equitune", "equizero", "lambda"]].mean()
    return change.idxmin() == "none" and change["none"] < -100


def the_last_network_is_worse():
    return (
        games("CartPole-v1", "last")["none"].mean()
        < games("CartPole-v1", "at_once")["none"].mean() - 100
    )


def the_mean_is_worse_in_every_turned_maze():
    turned = games("grid", "at_once")
    worse = (turned["equitune"] < turned["none"]).all()
    gains = (turned["equizero"] > turned["none"]).all()
    return worse and gains and turned["equizero"].mean() < turned["lambda"].mean() - 0.5


def equizero_ends_below_the_mean():
    ends = [games(world, "after").mean() for world in ("grid", "CartPole-v1", "Acrobot-v1")]
    return all(end["equizero"] < end["equitune"] for end in ends)


def lambda_is_ahead_in_the_maze_alone():
    gains = {}
    for world in ("grid", "CartPole-v1", "Acrobot-v1"):
        turned = games(world, "at_once")
        gain = turned["lambda"] - turned["equitune"]
        gains[world] = gain.mean() > 2 * gain.sem()
    return gains == {"grid": True, "CartPole-v1": False, "Acrobot-v1": False}


def equizero_ends_low_in_the_maze():
    return games("grid", "after")["equizero"].mean() < 0.3


def data_teach_less_than_lambda():
    maze, after = games("grid", "passes").mean(), games("grid", "after").mean()
    as_said = (maze["mirrored"].round(1), after["lambda"].round(1)) == (0.5, 0.7)
    pole = games("CartPole-v1", "passes").mean()[["mirrored", "all sides"]]
    far = pole.max() < games("CartPole-v1", "after")["lambda"].mean() - 100
    return as_said and far and maze["all sides"] < -0.5 and (changes("grid")["all sides"] < 0).all()


def acrobot_goal_is_reached_by_all():
    means = games("Acrobot-v1", "at_once").mean()
    return -100 < means.min() <= means.max() < 0


def the_mean_is_ahead_in_acrobot():
    turned, side = games("Acrobot-v1", "at_once"), games("Acrobot-v1", "at_once_side")["none"]
    ahead = turned["equitune"] - turned["none"]
    few = (ahead < 0).sum() == 1 and 0 < ahead.mean() < 10
    return few and turned["none"].mean() > side.mean() - 5


def equizero_alone_loses_in_acrobot():
    change = changes("Acrobot-v1")
    half = change.sem() * stats.t.ppf(0.975, change.count() - 1)
    return change.columns[change.mean() + half < 0].tolist() == ["equizero"]


def perplexity_costs_little():
    found = {m: r[0][0].metrics["perplexity"] for m, r in gemma("perplexity", "gender").items()}
    rises = [found[m] / found["pretrained"] - 1 for m in ("EquiLM", "R-EquiLM")]
    return all(0 < rise < 0.005 for rise in rises)


def negatives_lie_between():
    found = {}
    for task in nlg.TASKS:
        models = gemma(task)
        for before, after in zip(models["pretrained"], models["EquiLM"], strict=True):
            low, *_, high = sorted(p["negative"][0] for p in shares(before).values())
            left = [p["negative"][0] - low for p in shares(after).values()]
            found.setdefault(task, []).extend((x, high - low) for x in left)
    respect, work = found["respect"], found["occupation"]
    between = len(respect) >= 8 and all(0 < x < room for x, room in respect)
    return between and any(x < 0 for x, _ in work) and all(-2 < x < room for x, room in work)


def lexicon_confirms_respect_alone():
    respect, work = (
        [[difference(r, "negative", j) for r in gemma(task)["pretrained"]] for j in ("", "vader")]
        for task in nlg.TASKS
    )
    confirmed = len(respect[1]) == 4 and all(d.low > 0 for d in respect[1])
    smaller = all(d.value < more.value for d, more in zip(work[0], respect[0], strict=True))
    both = [a.low > 0 and b.low > 0 for a, b in zip(*work, strict=True)]
    return confirmed and smaller and not any(both)


def planted_groups_are_alike():
    some = runs("fairness", "pretrained == 'planted' and task in @nlg.TASKS")
    some = some[some["model"].isin(["EquiLM", "EquizeroLM"])]
    return len(some) == 80 and (some["disparity"] == 0).all() and (some["same_texts"] == 100).all()


def relaxed_draws_agree_less():
    laws = [gemma("law", axis)["R-EquiLM"][0][0].metrics for axis in nlg.AXES if axis != "gender"]
    return len(laws) == 3 and all(m["same_draws"] < m["same_draws_ordinary"] for m in laws)


def pretrained_agree_half_as_often():
    some = runs(
        "fairness", "pretrained == 'planted' and model == 'pretrained' and task == 'respect'"
    )
    by = some.groupby("axis")["same_texts"]
    ratio = by.min() / by.max()
    return ratio.drop("orientation").between(0.4, 0.6).all() and ratio["orientation"] > 0.9


def scan_tests(tasks=tuple(scan.TASKS)):
    """(task, seed) -> model -> test accuracy, under the task's own group."""
    some = runs("scan", f"task in {list(tasks)}")
    own = some["task"].map(scan.OWN)
    some = some[(some["group"] == own) | (some["group"] == "none")]
    return some.pivot(index=["task", "seed"], columns="model", values="test_accuracy")


def equi_lstm_is_ahead_of_g():
    ours = scan_tests()
    return len(ours) == 6 and (ours["EquiLSTM"] > ours["G-LSTM"]).all()


def equi_lstm_beside_the_paper():
    table, found = papers.paper_tables()["table2"].values, {}
    for task, mean in scan_tests()["EquiLSTM"].groupby("task").mean().items():
        of = table[task, scan.OWN[task], "EquiLSTM", "test_accuracy"]
        found[task] = (mean - of.mean) / of.std
    return found["add_jump"] > 1 > found["around_right"] > 0


def equi_lstm_takes_longer():
    some = runs("scan", "task in @scan.TASKS and model in ['EquiLSTM', 'G-LSTM']")
    some = some[some["group"] == some["task"].map(scan.OWN)]
    took = (some["train_seconds"] + some["pretrain_seconds"].fillna(0)).groupby(
        [some["task"], some["model"]]
    )
    took = took.mean().unstack()
    times = took["EquiLSTM"] / took["G-LSTM"]
    return times.min() > 1 and round(times["add_jump"], 1) == 1.4


def tuning_outlasts_pretraining():
    some = runs("scan", "task in @scan.TASKS").dropna(subset="pretrain_seconds")
    return (some["train_seconds"] > some["pretrain_seconds"]).all()


SAID = [
    ("06_scan", "all three are right on about one command in eight", length_is_beyond_symmetry),
    ("06_scan", "misses a quarter to two thirds of the commands", other_splits_are_mended),
    ("06_scan", "ahead of our G-LSTM with every seed", equi_lstm_is_ahead_of_g),
    (
        "06_scan",
        "a higher mean than the paper's, though on *around right* by less than the spread",
        equi_lstm_beside_the_paper,
    ),
    ("06_scan", "takes longer than the G-LSTM (1.4 times on *add jump*)", equi_lstm_takes_longer),
    (
        "06_scan",
        "such tuning takes longer than the pretraining",
        tuning_outlasts_pretraining,
    ),
    (
        "07_fairness",
        "share of negative texts lies between those of the groups",
        negatives_lie_between,
    ),
    (
        "07_fairness",
        "on no axis do both judges find one whose interval stays above 0",
        lexicon_confirms_respect_alone,
    ),
    (
        "07_fairness",
        "the difference is 0 and all texts agree, in both tasks and on every axis",
        planted_groups_are_alike,
    ),
    (
        "07_fairness",
        "There R-EquiLM's agree less often with the library's draws",
        relaxed_draws_agree_less,
    ),
    ("07_fairness", "with some seeds half as often", pretrained_agree_half_as_often),
    ("10_qlearning", "ends below the mean in all three worlds", equizero_ends_below_the_mean),
    ("10_qlearning", "ahead of the mean in the maze alone", lambda_is_ahead_in_the_maze_alone),
    ("10_qlearning", "equizero ends far lower", equizero_ends_low_in_the_maze),
    (
        "10_qlearning",
        "come to 0.5 with as many passes, where λ has 0.7",
        data_teach_less_than_lambda,
    ),
    ("10_qlearning", "At once all of them reach -100", acrobot_goal_is_reached_by_all),
    ("10_qlearning", "the plain agent with every seed but one", the_mean_is_ahead_in_acrobot),
    (
        "10_qlearning",
        "equizero alone loses more than the interval",
        equizero_alone_loses_in_acrobot,
    ),
    ("07_fairness", "costs less than half a percent of perplexity", perplexity_costs_little),
    (
        "10_qlearning",
        "as well as the plain agent plays its own side",
        lambda_plays_turned_mazes_as_plain_its_own,
    ),
    ("10_qlearning", "within 5 % of the shortest paths", lambda_is_near_the_shortest_paths),
    ("10_qlearning", "the 0.74 of the shortest paths", lambda_is_near_the_shortest_paths),
    (
        "10_qlearning",
        "plays nearly as well on turned starts without any help",
        cartpole_needs_no_help_at_once,
    ),
    ("10_qlearning", "no loss is shown for the mean and λ", mean_and_lambda_keep_their_level),
    ("10_qlearning", "the plain agent loses at least as much", plain_loses_as_much),
    ("10_qlearning", "its neighbours play worse", the_last_network_is_worse),
    ("10_qlearning", "though it gains with every seed", the_mean_is_worse_in_every_turned_maze),
    ("15_landscape", "all weightings lie within two points", weightings_are_alike_on_insects),
    ("15_landscape", "turning costs the plain network 27 points", turning_costs_27_points),
    ("15_landscape", "of the mean of all four with every seed", few_views_are_ahead_before_tuning),
    ("15_landscape", "drawn views by a third of a point", the_mean_is_ahead_after_it),
    ("15_landscape", "the network makes of all views, λ first", what_sees_all_views_is_ahead),
    ("15_landscape", "about four points ahead of the fixed", a_learned_choice_is_four_points_ahead),
    ("15_landscape", "one draw depends on the seed most", one_draw_depends_on_the_seed),
    ("15_landscape", "two and a half points short", none_gets_back_to_upright_objects),
    ("07_fairness", "are mostly colours, and are not moved", colours_are_not_moved),
    ("07_fairness", "negative less often than EquiLM's", zero_is_kinder_and_less_expected),
    ("07_fairness", "it does so with each of five seeds", zero_is_kinder_with_each_seed),
    (
        "07_fairness",
        "nothing on the axis of orientation",
        in_occupation_there_is_less_to_choose,
    ),
    (
        "07_fairness",
        "finds no difference, but in one text of thousands",
        one_text_in_thousands_is_judged_unlike,
    ),
    (
        "07_fairness",
        "EquiLM's one entry that is not 0 comes of a single text",
        one_text_in_thousands_is_judged_unlike,
    ),
    ("07_fairness", "the pretrained model treats two groups unlike", gemma_speaks_unlike),
    ("07_fairness", "down to the rounding of the last sums", law_holds_but_for_rounding),
    ("07_fairness", "fewer than half of EquiLM's pairs agree", ordinary_draws_mostly_disagree),
    ("07_fairness", "so most of its pairs agree by luck", most_agree_by_luck_elsewhere),
    ("07_fairness", "is larger than the pretrained model's", relaxed_gaps_are_larger),
    (
        "07_fairness",
        "four of EquizeroLM's did, three on the gender axis and one on three races",
        four_texts_were_unlike_their_images,
    ),
    (
        "07_fairness",
        "the names tell, the average changes next to nothing",
        names_tell_as_much_as_before,
    ),
    ("07_fairness", "and most of the distance is left", most_of_the_distance_is_left),
    (
        "05_images",
        "it is better on turned images than the plain network",
        squeezenet_is_better_turned,
    ),
    ("05_images", "On upright images *c4* is ahead as well", squeezenet_is_better_upright),
    ("05_images", "**EfficientNet-Lite0 does not**", lite0_gains_nothing),
    ("05_images", "Turning costs plain Lite0 next to nothing", turning_costs_lite0_nothing),
    ("05_images", "ends behind a linear head on its frozen features", table_1_harms_lite0),
    (
        "05_images",
        "The order is SqueezeNet's in Table 1, and the differences are larger",
        order_of_table_6,
    ),
    (
        "05_images",
        "for every backbone, even when the plain one was shown",
        c4_beats_plain_on_digits,
    ),
    ("05_images", "On digits *d4* falls behind *c4*", d4_falls_behind_on_digits),
    ("08_lambda", "the most confident view about half, λ most of it", own_classes_win_back),
    ("08_lambda", "the mean wins back about half, and the order is", trained_head_wins_back),
    ("08_lambda", "λ is ahead of both with every seed", lambda_is_ahead_with_every_seed),
    ("08_lambda", "which brings all of them closer together", tuning_brings_them_closer),
    ("08_lambda", "It is also ahead of both baselines", lambda_beats_the_baselines),
    (
        "08_lambda",
        "on the mean of all views by less than two points",
        a_head_for_the_mean_comes_close,
    ),
    ("08_lambda", "a better guide than the entropy", largest_score_is_better),
    ("08_lambda", "is nowhere better than it, and attention", no_choice_beats_the_mean_of_1000),
    ("08_lambda", "With a trained head all methods agree to within a point", equal_up_to_a_point),
    ("08_lambda", "leans towards the upright view, with two fifths", lambda_leans_upright),
    ("08_lambda", "and wins or loses one image of 153 by it", lambda_moves_one_image),
    ("08_lambda", "the mean remains behind λ on digits and CIFAR-10", tuning_the_head_leaves_a_gap),
    ("09_clip", "give back most of what was lost", most_is_given_back),
    ("09_clip", "with every seed and under both groups", map_is_better_for_the_mean),
    ("09_clip", "the scores are as good or better", scores_are_as_good_for_attention),
    ("09_clip", "Elsewhere it changes less than two points", tuning_helps_the_mean_alone),
    (
        "09_clip",
        "λ and the attention lose a little on the map",
        lambda_and_attention_lose_on_the_map,
    ),
    ("09_clip", "**Nobody gets back to upright.**", nobody_gets_back),
    (
        "09_clip",
        "for turns on average no better than the model itself",
        map_is_the_worst_on_the_transformer,
    ),
    ("09_clip", "λ on the map about twelve, with a spread of eleven", tuning_costs_under_turns),
]


@pytest.mark.parametrize(("chapter", "sentence", "holds"), SAID, ids=[s[2].__name__ for s in SAID])
def test_a_sentence_is_in_its_chapter_and_true_of_the_records(chapter, sentence, holds):
    cells = json.loads((BOOK / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    text = " ".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    assert sentence in " ".join(text.split())
    assert holds()


# These say that there is no difference.
ALIKE = {
    lite0_gains_nothing,
    turning_costs_lite0_nothing,
    equal_up_to_a_point,
    scores_are_as_good_for_attention,
    names_tell_as_much_as_before,
    weightings_are_alike_on_insects,
    lambda_plays_turned_mazes_as_plain_its_own,
}


OF_TEXTS = (one_text_in_thousands_is_judged_unlike, colours_are_not_moved)
OTHERS = [s[2] for s in SAID if s[2] not in OF_TEXTS]


@pytest.mark.parametrize("holds", OTHERS, ids=lambda holds: holds.__name__)
def test_no_sentence_is_true_of_whatever_was_recorded(holds, monkeypatch):
    """Not of numbers all alike; or, where it says that they are, of numbers reversed and apart."""
    real = eq.results.recorded

    def other(experiment):
        return [
            replace(
                r, metrics={k: -i * v if holds in ALIKE else 50.0 for k, v in r.metrics.items()}
            )
            for i, r in enumerate(real(experiment), 2)
        ]

    monkeypatch.setattr(eq.results, "recorded", other)
    assert not holds()


def test_a_judge_who_finds_a_difference_is_heard(monkeypatch):
    """EquiLM's texts, if they were the pretrained model's."""
    real, models = eq.results.recorded, {"pretrained": "EquiLM", "EquiLM": "pretrained"}

    def exchanged(experiment):
        records = [r for r in real(experiment) if r.cell["model"] in models]
        return [replace(r, cell=r.cell | {"model": models[r.cell["model"]]}) for r in records]

    monkeypatch.setattr(eq.results, "recorded", exchanged)
    assert not one_text_in_thousands_is_judged_unlike() and not colours_are_not_moved()
