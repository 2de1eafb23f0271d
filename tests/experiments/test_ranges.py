"""Every option of every experiment: the last value that is taken, and the first that is not."""

import math
from dataclasses import fields, replace
from typing import get_args

import pytest

from equitutor import commands
from equitutor.__main__ import main
from equitutor.experiments import EXPERIMENTS
from equitutor.images.catalogue import BackboneName
from equitutor.images.pretrained import WeightsName
from equitutor.options import Choice, Filled, Range, split

OPTIONS = [
    (name, field, hint)
    for name, module in EXPERIMENTS.items()
    for field, hint in module.Config.options().items()
]
BESIDE = {"memory": {"copies": 1}}  # what an edge needs


def item_kind(kind):
    return (get_args(kind) or (kind,))[0]


def values(hint):
    """(values that are taken, values that are not), as single items."""
    kind, rule = split(hint)
    if isinstance(rule, Choice):
        return list(rule.names), ["no such name"]
    if isinstance(rule, BackboneName):
        return ["alexnet", "timm/resnet18", "efficientnet_lite0"], [
            "no such network",
            "timm/alexnet",
        ]
    if isinstance(rule, WeightsName):
        return [*rule.names, "x.safetensors"], ["weights.pth", ""]
    if isinstance(rule, Filled):
        return ["a"], [" "]
    if rule is None:
        return ["a"], []
    assert isinstance(rule, Range)
    number = item_kind(kind)
    edges = [(rule.low, -1, rule.ends[0] == "("), (rule.high, 1, rule.ends[1] == ")")]
    taken, refused = [], []
    for edge, outwards, is_open in edges:
        if not math.isfinite(edge):
            continue
        step = outwards if number is int else outwards * 1e-9
        (refused if is_open else taken).append(number(edge))
        (taken if is_open else refused).append(number(edge - step if is_open else edge + step))
    return taken, refused


def cases():
    for name, field, hint in OPTIONS:
        kind, _ = split(hint)
        several = not isinstance(kind, type)
        count = 2 if several and get_args(kind)[-1] is not ... else 1
        for is_taken, found in zip((True, False), values(hint), strict=True):
            for value in found:
                given = (value,) * count if several else value
                yield pytest.param(name, field, given, is_taken, id=f"{name}-{field}-{given}")
        if several and hint is not kind:  # with a rule there must be a value
            yield pytest.param(name, field, (), False, id=f"{name}-{field}-none")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_number_has_a_range_and_every_list_a_rule(name):
    config = EXPERIMENTS[name].Config
    assert set(config.options()) == {field.name for field in fields(config)}
    for field, hint in config.options().items():
        kind, rule = split(hint)
        if item_kind(kind) in (int, float):
            assert isinstance(rule, Range), field
        else:
            free = {"folder", "pretrain_on", "pretrain_folder", "classes", "templates", "text"}
            assert rule is not None or field in free, field


@pytest.mark.parametrize(("name", "field", "value", "is_taken"), list(cases()))
def test_the_edge_is_taken_and_what_lies_beyond_is_refused(
    name, field, value, is_taken, capsys, monkeypatch, tmp_path
):
    """In Python and on the command line, in one line that names the option; nothing is run."""
    ran = []
    monkeypatch.setattr(commands, "run", lambda config, *_: ran.append(config) or [])
    monkeypatch.setattr(commands, "report", lambda *_: "")
    beside = BESIDE.get(field, {}) if is_taken else {}
    config = EXPERIMENTS[name].Config.quick()
    option = "--" + field.replace("_", "-")
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    words = ["run", name, "--results", str(tmp_path), f"{option}={text}"]
    words += [f"--{other}={what}" for other, what in beside.items()]
    if is_taken:
        assert getattr(replace(config, **{field: value}, **beside), field) == value
        assert main(words) == 0
        assert getattr(ran[0], field) == value
        return
    with pytest.raises(ValueError, match=rf"^{field} must (be|have) "):
        replace(config, **{field: value})
    assert main(words) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {option} must ") and told.count("\n") == 1
    assert not ran and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--jobs", "0"], "--jobs must be at least 1, got 0"),
        (["--jobs", "two"], "--jobs must be a whole number, got 'two'"),
        (["--device", "cuda:99"], "device 'cuda:99' is unavailable"),
        (["--device", "abacus"], "device 'abacus' is unavailable"),
        (["--device", "meta"], "device 'meta' is unavailable"),
        (["--cluster", ""], "cluster must be a name or a path, got ''"),
    ],
)
def test_how_to_run_is_checked_first(words, says, capsys, monkeypatch):
    monkeypatch.setattr(EXPERIMENTS["dqn"], "prepare", lambda *_: pytest.fail("run"))
    assert main(["run", "dqn", *words]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {says}") and told.count("\n") == 1


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ({"jobs": 0}, ValueError, "jobs must be at least 1, got 0"),
        ({"jobs": -1}, ValueError, "jobs must be at least 1, got -1"),
        ({"jobs": "2"}, TypeError, "jobs must be a whole number, got '2'"),
        ({"jobs": 1.5}, TypeError, "jobs must be a whole number, got 1.5"),
        ({"device": "cuda:99"}, ValueError, "device 'cuda:99' is unavailable"),
        ({"device": 7.5}, ValueError, "device 7.5 is unavailable"),
        ({"cluster": ""}, ValueError, "cluster must be a name or a path"),
    ],
)
def test_how_to_run_is_checked_in_python(how, error, says, monkeypatch):
    monkeypatch.setattr(EXPERIMENTS["dqn"], "prepare", lambda *_: pytest.fail("run"))
    with pytest.raises(error, match=says):
        EXPERIMENTS["dqn"].run(EXPERIMENTS["dqn"].Config.quick(), **how)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_help_tells_the_ranges(name, capsys):
    with pytest.raises(SystemExit):
        main(["run", name, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    rules = [rule for _, rule in map(split, EXPERIMENTS[name].Config.options().values()) if rule]
    assert len(rules) > 3 and all(f"{rule}; default: the preset's" in told for rule in rules)
