from dataclasses import replace

import pytest
import torch

from equitutor.__main__ import main
from equitutor.book.reports import report, scan_splits
from equitutor.experiments import scan
from equitutor.sequences import training as scan_fit
from equitutor.sequences.seq2seq import CELLS, EquiSeq2Seq, Seq2Seq
from equitutor.sequences.training import Recipe, accuracy, buckets, fit, load, moves_exactly
from equitutor.sequences.vocabulary import lengths
from equitutor.store.results import Record
from equitutor.weights import LearnedWeights


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUITUTOR_CACHE", str(tmp_path / "cache"))


def tiny(**changes):
    """A run of seconds."""
    settings = {"hidden": 8, "train_limit": 300, "test_limit": 60, "pretrain_epochs": 2}
    settings |= {"tune_steps": 6, "g_epochs": 1, "lambda_steps": 3, "checks": 2}
    return replace(scan.Config.quick(), **{**settings, **changes})


# -- data -------------------------------------------------------------------------------------------


def test_validation_is_drawn_out_of_training_by_the_seed():
    data = load("add_jump", 0)
    sizes = {part: len(pairs[0]) for part, pairs in data.items()}
    assert sizes == {"train": 11736, "valid": 2934, "test": 7706}
    again, other = load("add_jump", 0), load("add_jump", 1)
    assert torch.equal(data["valid"][0], again["valid"][0])
    assert not torch.equal(data["valid"][0], other["valid"][0])
    assert torch.equal(data["test"][0], other["test"][0])
    every = [torch.cat([d["train"][0], d["valid"][0]]) for d in (data, other)]
    assert torch.equal(*(x[_order(x)] for x in every))


def _order(ids):
    """Rows in the order of the numbers that their ids write."""
    return (ids * 15 ** torch.arange(ids.shape[1])).sum(1).argsort()


def test_limits():
    data = load("around_right", 0, train_limit=100, test_limit=10)
    assert {k: len(v[0]) for k, v in data.items()} == {"train": 80, "valid": 20, "test": 10}


def test_buckets_hold_every_row_once_and_like_lengths_together():
    sizes = torch.randint(1, 40, (1000,), generator=torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(0)
    found = buckets(sizes, 64, draw)
    assert torch.cat(found).sort().values.tolist() == list(range(1000))
    spread = [int(sizes[rows].max() - sizes[rows].min()) for rows in found]
    assert max(spread) <= 6
    firsts = [int(sizes[rows[0]]) for rows in found]
    assert firsts != sorted(firsts)  # short and long batches take turns
    assert [rows.tolist() for rows in buckets(sizes, 64, draw)] != [rows.tolist() for rows in found]


# -- measures ---------------------------------------------------------------------------------------


class Parrot(torch.nn.Module):
    """Says the target of the sentences that it knows; stands in for a model in ``decode``."""

    def __init__(self, source, target):
        super().__init__()
        self.known = {
            tuple(s[: lengths(s[None])[0]].tolist()): t
            for s, t in zip(source, target, strict=False)
        }

    def say(self, source):
        rows = [self.known.get(tuple(s[: lengths(s[None])[0]].tolist())) for s in source]
        return torch.stack(
            [torch.ones_like(next(iter(self.known.values()))) if r is None else r for r in rows]
        )


def test_accuracy_and_exactness_by_hand(monkeypatch):
    source, target = (x[:40] for x in load("add_jump", 0, test_limit=40)["test"])
    verb = scan.GROUPS["verb"]
    monkeypatch.setattr(scan_fit, "decode", lambda model, x: model.say(x))
    knows_half = Parrot(source[:20], target[:20])
    assert accuracy(knows_half, (source, target)) == 50
    assert moves_exactly(knows_half, verb, source).sum() < 40
    both = [torch.cat([x, act.act(1, x)]) for x, act in ((source, verb.read), (target, verb.write))]
    knows_all = Parrot(*both)
    assert accuracy(knows_all, (source, target)) == 100
    assert moves_exactly(knows_all, verb, source).all()


# -- training ---------------------------------------------------------------------------------------


def test_the_best_weights_are_kept(monkeypatch):
    """Of validation 10, 30, 30, 20 the second 30 is kept."""
    data = load("add_jump", 0, train_limit=100, test_limit=5)
    net, seen = Seq2Seq("RNN", embedding=8, hidden=8), []
    answers = iter([10.0, 30.0, 30.0, 20.0])

    def fake(model, pairs, device):
        assert pairs is data["valid"]
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return next(answers)

    monkeypatch.setattr(scan_fit, "accuracy", fake)
    steps = []
    assert fit(net, data, Recipe(8, 16, 1e-2, checks=4), 0, watch=steps.append) == 30
    assert steps == [2, 4, 6, 8]
    assert all(torch.equal(v, seen[2][k]) for k, v in net.state_dict().items())
    assert not torch.equal(seen[1]["read.weight"], seen[2]["read.weight"])


def test_training_learns_and_the_seed_decides():
    data = load("add_jump", 0, train_limit=200, test_limit=5)
    data["valid"] = data["train"]

    def trained(seed):
        torch.manual_seed(seed)
        net = Seq2Seq("GRU", embedding=24, hidden=24, dropout=0)
        return net, fit(net, data, Recipe(150, 32, 2e-2, checks=3), seed)

    net, best = trained(0)
    assert best > 10  # knows some sentences by heart
    again, _ = trained(0)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_frozen_parameters_stay():
    data = load("add_jump", 0, train_limit=50, test_limit=5)
    model = scan.tuned("Lambda", scan.plain("GRU", 8), "verb")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.model.requires_grad_(False)
    fit(model, data, Recipe(4, 16, 1e-2, checks=1), 0)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("model."), name


def test_encoder_and_decoder_are_clipped_each(monkeypatch):
    parts = []
    clip = torch.nn.utils.clip_grad_norm_

    def spy(parameters, norm):
        parts.append((list(parameters), norm))
        return clip(parts[-1][0], norm)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    data = load("add_jump", 0, train_limit=40, test_limit=5)
    model = scan.tuned("Equi", scan.plain("LSTM", 8), "verb")
    fit(model, data, Recipe(1, 16, 1e-2, checks=1), 0)
    (encoder, a), (decoder, b) = parts
    assert a == b == 5
    assert len(encoder) == 9 and len(encoder) + len(decoder) == len(list(model.parameters()))


# -- the experiment -----------------------------------------------------------------------------------


def test_the_paper_preset_has_all_cells_of_the_tables():
    cells = scan.Config.paper().cells()
    systems = {(c["task"], c["group"], c["model"]) for c in cells}
    for task, own in (("add_jump", "verb"), ("around_right", "dir")):
        for cell in CELLS:
            assert {
                (task, "none", cell),
                (task, own, f"G-{cell}"),
                (task, own, f"Equi{cell}"),
            } <= systems
    assert {c["seed"] for c in cells} == {0, 1, 2}
    assert len({tuple(c.values()) for c in cells}) == len(cells)
    assert {c["task"] for c in cells} == {"add_jump", "around_right"}
    assert ("add_jump", "verb x dir", "LSTM") not in systems  # no group, no second cell


def test_one_cell_of_each_kind():
    config = tiny(models=("GRU", "G-GRU", "EquiGRU", "ZeroGRU", "LambdaGRU"))
    records = []
    for cell in config.cells():
        metrics = scan.run_cell(config, cell)
        records.append(Record("scan", cell, metrics, config.settings()))
        assert metrics["test_commands"] == 60
        assert {"val_accuracy", "test_accuracy", "equivariant", "train_seconds"} <= set(metrics)
        # "verb" moves every test command of add_jump, so no two scores are equal.
        assert metrics["equivariant"] == 60 or cell["model"] == "GRU"
        apart = {k for k in metrics if k.startswith(("apart", "best"))}
        assert apart == APART.get(cell["model"], set())
        if cell["model"] in ("EquiGRU", "ZeroGRU", "LambdaGRU"):
            found = {k for k in metrics if k.startswith("test_at_")}
            assert found == {"test_at_0", "test_at_3", "test_at_6"}
            assert {"zero_shot_val", "zero_shot_test", "pretrain_seconds"} <= set(metrics)
    apart_from_the_paper = {"task": "mixed_verbs", "group": "dir", "model": "EquiGRU", "seed": 0}
    records.append(Record("scan", apart_from_the_paper, metrics, config.settings()))
    text = report("scan", records)
    assert "Table 2" in text and "λ-equitune GRU" in text and "mixed_verbs" not in text
    assert (
        "python -m equitutor run scan --preset paper --tasks around_right --models EquiRNN" in text
    )


def test_the_table_of_the_other_splits_waits_for_its_records():
    cell = {"task": "length", "group": "none", "model": "LSTM"}
    metrics = {"val_accuracy": 99.5, "test_accuracy": 12.5}
    others = [{**cell, "task": "add_jump"}, {**cell, "model": "GRU"}, {**cell, "group": "verb"}]
    records = [Record("scan", each | {"seed": 0}, metrics, {}) for each in (cell, *others)]
    lines = str(scan_splits(records)).splitlines()
    rows = [line.split() for line in lines[2:11]]
    assert rows.count(["length", "none", "LSTM", "99.5", "12.5"]) == 1
    assert sum(row[-2:] == ["-", "-"] for row in rows) == 8
    told = [line for line in lines if "python -m" in line]
    words = ["--tasks", ",".join(scan.SPLITS), "--models", "LSTM,G-LSTM,EquiLSTM"]
    assert len(told) == 1 and " ".join([*words, "--groups own"]) in told[0]
    assert str(scan_splits(records)) in report("scan", records)


#: Which models are measured on whole sequences decoded apart.
APART = {"EquiGRU": {"apart_val", "apart_test"}, "ZeroGRU": {"best_val", "best_test"}}


def test_pretraining_is_shared_and_read_again(monkeypatch):
    config = tiny(models=("LSTM", "EquiLSTM", "ZeroLSTM", "G-LSTM"), groups=("own", "verb x dir"))
    tasks = scan.prepare(config, config.cells(), "cpu")
    assert len(tasks) == 1
    task, *arguments = tasks[0]
    task(*arguments)
    monkeypatch.setattr(scan, "fit", lambda *_, **__: pytest.fail("trained again"))
    state, known = scan.pretrain(config, "add_jump", "LSTM", 0)
    assert known["seconds"] > 0 and 0 <= known["valid"] <= 100
    scan.restore(scan.plain("LSTM", 8), state)  # and nothing else is in it
    with pytest.raises(pytest.fail.Exception):
        scan.pretrain(replace(config, pretrain_lr=1e-3), "add_jump", "LSTM", 0)


def test_g_networks_need_no_pretraining():
    config = tiny(models=("G-LSTM",))
    assert scan.prepare(config, config.cells(), "cpu") == []


def test_equi_cells_start_from_the_pretrained_network():
    config = tiny()
    state, _ = scan.pretrain(config, "add_jump", "LSTM", 0)
    net = scan.plain("LSTM", 8)
    net.load_state_dict(state)
    model = EquiSeq2Seq(net, scan.GROUPS["verb"])
    sets = scan.data(config, "add_jump", 0)
    cell = {"task": "add_jump", "group": "verb", "model": "EquiLSTM", "seed": 0}
    metrics = scan.run_cell(config, cell)
    assert metrics["zero_shot_test"] == accuracy(model, sets["test"])
    assert metrics["zero_shot_val"] == accuracy(model, sets["valid"])


@pytest.mark.parametrize("group", scan.GROUPS)
def test_all_groups_make_models(group):
    config = tiny()
    sets = scan.data(config, "add_jump", 0)
    symmetry, source = scan.GROUPS[group], sets["test"][0]
    moved = [(symmetry.read.act(g, source) != source).any(1) for g in range(len(symmetry.group))]
    source = source[torch.stack(moved[1:]).all(0)]
    assert len(source) > 5
    for kind in ("Equi", "Zero", "Lambda"):
        model = scan.tuned(kind, scan.plain("RNN", 8), group)
        assert moves_exactly(model, symmetry, source).all()
        assert isinstance(model.weighting, LearnedWeights) == (kind == "Lambda")
    assert scan.shared("RNN", group, 8).dropout == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ("LSTM", "BiLSTM")}, r"models must be some of .*; got \['BiLSTM'\]"),
        ({"tasks": ()}, r"tasks must be some of add_jump, around_right, .*mixed_verbs; got \(\)"),
        ({"groups": ("c4",)}, "groups must be some of dir, own"),
        ({"validation": 0.0}, "validation must be more than 0 and less than 1, got 0.0"),
        ({"train_limit": 2}, "train_limit must leave pairs to train on and to validate with"),
        ({"checks": 0}, "checks must be at least 1, got 0"),
    ],
)
def test_a_config_says_what_it_takes(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(scan.Config.quick(), **changes)


def test_from_the_command_line(tmp_path, capsys):
    words = ["run", "scan", "--results", str(tmp_path), "--models", "RNN,EquiRNN", "--hidden", "8"]
    words += ["--train-limit", "100", "--test-limit", "20", "--pretrain-epochs", "1"]
    words += ["--tune-steps", "2", "--checks", "1"]
    assert main(words) == 0
    assert "2 cells" in capsys.readouterr().out
    before = (tmp_path / "scan.json").read_bytes()
    assert main(words) == 0  # nothing is run again
    assert (tmp_path / "scan.json").read_bytes() == before
    assert main(["results", "--results", str(tmp_path)]) == 0
    assert "Table 7" in capsys.readouterr().out
    assert main([*words, "--models", "XYZ"]) == 1
    assert "models must be some of" in capsys.readouterr().err
    other = [*words, "--models", "RNN", "--pretrain-epochs", "2"]
    assert main(other) == 1  # what was measured is not lost by a word left out
    message = capsys.readouterr().err
    assert "1 of the 1 cells" in message and "pretrain_epochs: 1 -> 2" in message
    assert "--results FOLDER" in message and (tmp_path / "scan.json").read_bytes() == before
    with pytest.warns(UserWarning, match="counts as not done"):
        assert main([*other, "--replace"]) == 0
    assert (tmp_path / "scan.json").read_bytes() != before


def test_a_record_holds_the_settings_its_cell_depends_on_and_no_others():
    config = scan.Config.paper()

    def changed(model: str, **other) -> bool:
        cell = {"task": "add_jump", "group": "verb", "model": model, "seed": 0}
        return config.settings(cell) != replace(config, **other).settings(cell)

    models = ("LSTM", "G-LSTM", "EquiLSTM", "LambdaLSTM")
    assert [changed(m, tune_lr=1.0) for m in models] == [False, False, True, True]
    assert [changed(m, pretrain_lr=1.0) for m in models] == [True, False, True, True]
    assert [changed(m, g_epochs=1) for m in models] == [False, True, False, False]
    assert [changed(m, lambda_steps=1) for m in models] == [False, False, False, True]
    assert [changed(m, weight_decay=1.0) for m in models] == [False, False, True, True]
    assert [changed(m, rnn_times=1) for m in ("RNN", "G-RNN", "EquiRNN", "GRU")] == [1, 1, 1, 0]
    assert all(changed(m, forcing=0.1) for m in models)


def test_the_checkpoint_that_the_chapter_starts_from_is_shipped_and_what_its_record_says(
    monkeypatch,
):
    def never(*args, **kwargs):
        raise AssertionError("the shipped checkpoint was not taken")

    monkeypatch.setattr(scan, "fit", never)
    config = scan.Config.quick()
    state, known = scan.pretrain(config, "add_jump", "LSTM", 0)
    said = known["valid"]
    model = scan.plain("LSTM")
    scan.restore(model, state)
    assert accuracy(model, scan.data(config, "add_jump", 0)["valid"]) == pytest.approx(
        said, abs=0.05
    )
    assert said > 98
