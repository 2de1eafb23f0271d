"""Which layer breaks the law, and the command that says so."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn
from transformers import ViTConfig, ViTForImageClassification
from zoo import C4, D4

import equitutor as eq
from equitutor.__main__ import main
from equitutor.diagnose import broken_layers, checkup

ROT = eq.Rotations(C4)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def pointwise(a, b):
    return nn.Conv2d(a, b, 1)


def symmetric_body():
    return nn.Sequential(pointwise(3, 4), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2))


BROKEN = {  # a model, and the names of the layers that break its law
    "a matrix": (
        lambda: nn.Sequential(symmetric_body(), nn.Flatten(), nn.Linear(64, 5), nn.ReLU()),
        ["2"],
    ),
    "the first layer": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), symmetric_body4()), ["0"]),
    "deep inside": (
        lambda: nn.Sequential(symmetric_body(), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3))),
        ["1.1"],
    ),
    "a grouped pooling": (
        lambda: nn.Sequential(nn.AvgPool2d((1, 2)), nn.Flatten(), nn.Linear(96, 2)),
        ["0"],
    ),
    "none": (
        lambda: nn.Sequential(
            symmetric_body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
        ),
        [],
    ),
    "an average in front": (
        lambda: nn.Sequential(
            eq.equitune(nn.Conv2d(3, 4, 3), ROT, ROT), nn.Flatten(), nn.Linear(144, 5)
        ),
        ["2"],
    ),
}


def symmetric_body4():
    return nn.Sequential(pointwise(4, 4), nn.ReLU())


@pytest.mark.parametrize("case", BROKEN)
def test_the_layers_that_break_the_law(case):
    make, names = BROKEN[case]
    found = broken_layers(make().eval(), torch.randn(2, 3, 8, 8), ROT)
    assert [layer.name for layer in found] == names
    for layer in found:
        assert layer.before < 1e-4 < 1e-2 < layer.after and layer.name in str(layer)


def test_networks_of_others():
    x = torch.randn(2, 3, 32, 32)
    resnet = torchvision.models.resnet18().eval()
    assert broken_layers(resnet, x, eq.Rotations(D4))[0].name == "conv1"
    vit = ViTForImageClassification(
        ViTConfig(
            image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=1,
            num_attention_heads=2, intermediate_size=16,
        )
    ).eval()  # fmt: skip
    found = [layer.name for layer in broken_layers(vit, {"pixel_values": x}, ROT)]
    assert found[0].endswith("patch_embeddings.projection")
    with torch.no_grad():  # a symmetric kernel: the positions that are added to the tokens remain
        vit.vit.embeddings.patch_embeddings.projection.weight.fill_(0.01)
        vit.vit.embeddings.position_embeddings.normal_()
    assert "projection" not in str(broken_layers(vit, {"pixel_values": x}, ROT))


def test_a_model_inside_another():
    model = BROKEN["deep inside"][0]().eval()
    x = torch.randn(2, 3, 8, 8)
    for outer in (
        torch.compile(model, backend="eager"),
        torch.optim.swa_utils.AveragedModel(model),
        nn.DataParallel(model),
    ):
        assert [layer.name for layer in broken_layers(outer.eval(), x, ROT)] == ["1.1"]


class Shift(nn.Module):
    def __init__(self, inplace):
        super().__init__()
        self.positions, self.inplace = nn.Parameter(torch.randn(4, 8, 8)), inplace

    def forward(self, x):
        return x.add_(self.positions) if self.inplace else x + self.positions


class ShiftsItself(Shift):
    """Between its layers, which keep the law."""

    def __init__(self, inplace):
        super().__init__(inplace)
        self.first, self.last = pointwise(3, 4), pointwise(4, 2)

    def forward(self, x):
        return self.last(super().forward(self.first(x)))


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_what_works_in_place_is_found_where_it_is(inplace, inference):
    chain = nn.Sequential(pointwise(3, 4), Shift(inplace), nn.ReLU(inplace), pointwise(4, 2))
    x = torch.randn(2, 3, 8, 8)
    with torch.inference_mode(inference):
        assert [layer.name for layer in broken_layers(chain, x, ROT)] == ["1"]
        assert broken_layers(ShiftsItself(inplace), x, ROT) == []


def test_nothing_stays_on_the_model():
    model = BROKEN["a matrix"][0]().eval()
    broken_layers(model, torch.randn(2, 3, 8, 8), ROT)
    with pytest.raises(RuntimeError):
        broken_layers(model, torch.randn(2, 3, 10, 10), ROT)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Counts(nn.Module):
    """Its buffer is another tensor after each call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count = self.count + 1
        return x


@pytest.mark.parametrize("check", [checkup, broken_layers, eq.equivariance_error])
def test_statistics_stay_as_they_were(check):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Counts()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    buffers = list(model.buffers())
    check(model, torch.randn(2, 3, 8, 8), ROT, *[ROT] * (check is not broken_layers))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(a is b for a, b in zip(model.buffers(), buffers, strict=True))


def test_a_model_that_chooses_its_layers():
    class Chooses(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Identity(), nn.Identity()

        def forward(self, x):
            return self.a(x) if x[0, 0, 0, 0] == 1 else self.b(x)

    x = torch.randn(1, 1, 4, 4)
    x[0, 0, 0, 0] = 1
    with pytest.raises(ValueError, match="other layers run for g = r than for e"):
        broken_layers(Chooses(), x, ROT)
    kept, told = checkup(Chooses(), x, ROT)  # the errors are told all the same
    assert not kept and "\n  r3 " in told and "not known: other layers run for g = r" in told


def test_a_report():
    model, x = BROKEN["a matrix"][0]().eval(), torch.randn(2, 3, 8, 8)
    kept, told = checkup(model, x, ROT)
    assert not kept and "2 (Linear)" in told and "not equivariant" in told
    kept, told = checkup(eq.equitune(model, ROT), x, ROT)
    assert kept and told.count("\n") == 5 and "layers" not in told
    kept, told = checkup(lambda_only(), x, ROT)
    assert not kept and "none by itself" in told
    kept, told = checkup(nn.Conv2d(3, 4, 3, padding=1), x, ROT, ROT)
    assert not kept and "\n  the model itself (Conv2d): 0.0e+00 before" in told


def test_a_report_of_a_function():
    kept, told = checkup(lambda x: x[:, :, 0, 0], torch.randn(2, 3, 8, 8), ROT)
    assert not kept and "\n  r3 " in told and "not known: a function shows no layers" in told
    with pytest.raises(TypeError, match=r"shows no layers: give an nn\.Module"):
        broken_layers(torch.relu, torch.randn(2, 3, 8, 8), ROT)


@pytest.mark.parametrize("error", [IndexError, KeyError, AttributeError, TypeError, ValueError])
def test_an_action_need_not_fit_what_the_layers_give(error):
    def turned(g, x):
        if x.shape[1] != 3:
            raise error("mine are pictures")
        return x.rot90(g.index, (-2, -1))

    x = torch.randn(2, 3, 8, 8)
    model = nn.Sequential(pointwise(3, 4), nn.Flatten(), nn.Linear(256, 5))
    kept, told = checkup(model, x, eq.FunctionAction(C4, turned, x))
    assert not kept and "0 (Conv2d): 0.0e+00 before" in told  # as far as this action can see


def test_a_report_says_what_shows_beside_the_layers():
    x = torch.randn(2, 3, 8, 8)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    drawn = eq.stochastic_average(net, ROT, chooser=eq.OrientationNet(ROT, 3), samples=2)
    _, told = checkup(drawn.eval(), x, ROT)
    assert "what to look at:\n  the views are drawn at random" in told
    assert "what to look at" not in checkup(net, x, ROT)[1]
    _, told = checkup(nn.Sequential(net, nn.Dropout()), x, ROT)
    assert "two runs on the same input differ: is dropout on?" in told


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("classes", [1, 4])
def test_a_report_of_an_output_that_never_changes(batch, classes):
    """As of torchvision's VisionTransformer with random weights, whose head is zero."""
    head = nn.Linear(4, classes)
    model = nn.Sequential(pointwise(3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    x = torch.randn(batch, 3, 8, 8)
    kept, told = checkup(model, x, ROT)
    assert kept and "note:" not in told
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    kept, told = checkup(model, x, ROT)
    assert kept and ("the output is the same for all inputs" in told) == (batch * classes > 1)
    maps = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.Threshold(100.0, 0.0))
    assert "the output is the same for all inputs" in checkup(maps, x, ROT, ROT)[1]


def lambda_only():
    class Look(nn.Module):
        def __init__(self):
            super().__init__()
            self.same = nn.Identity()

        def forward(self, x):
            return self.same(x)[:, :, 0, 0]

    return Look()


FILE = """
import torch, equitutor as eq
from torch import nn
from beside import SIZE

def broken():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 5), nn.Dropout(0.5))

good = eq.equitune(broken(), eq.Rotations(eq.dihedral(4)))
flipped = eq.equitune(broken(), eq.Flip()).eval()
averaged = torch.optim.swa_utils.AveragedModel(flipped)
def compiled(): return torch.compile(flipped, backend="eager")
maps = nn.Conv2d(3, 2, 1).double()
number = 7
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "beside.py").write_text("SIZE = 8\n")
    path = tmp_path / "models.py"
    path.write_text(FILE)
    yield path
    sys.path[:] = [place for place in sys.path if place != str(tmp_path)]
    for name in ("beside", "models"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "options", "status", "says"),
    [
        ("broken", [], 1, ["r2 ", "1 (Linear): 0.0e+00 before", "not equivariant", "C4"]),
        ("broken", ["--group", "flip"], 1, ["C2", "not equivariant"]),
        ("broken", ["--tol", "100"], 0, ["equivariant: the largest"]),
        ("good", [], 0, ["r3s ", "D4", "equivariant: the largest"]),
        ("good", ["--group", "c2", "--batch", "5"], 0, ["C2"]),
        ("averaged", [], 0, ["C2"]),
        ("compiled", [], 0, ["C2"]),
        ("good", ["--output", "maps"], 2, []),
        ("maps", ["--output", "maps", "--group", "d4"], 0, ["allowed 1.0e-12"]),
        ("maps", [], 1, ["not equivariant"]),
    ],
)
def test_the_command(file, capsys, name, options, status, says):
    assert main(["check", f"{file}:{name}", "--size", "3,8,8", *options]) == status
    printed = capsys.readouterr()
    for words in says:
        assert words in printed.out
    if status == 2:  # scores are no maps: it is said that the output is meant
        assert printed.err.startswith("error: the model's output does not fit its action: ")
    else:
        assert printed.err == ""


@pytest.mark.parametrize(
    ("place", "options", "says"),
    [
        ("{}:nothing", [], "has no 'nothing'; it has"),
        ("{}:number", [], "must be or return an nn.Module"),
        ("{}", [], "write FILE.py:NAME"),
        ("nowhere.py:model", [], "with a file that exists"),
        ("{}:broken", ["--size", "3,8,x"], "--size must be a whole number each, got '3,8,x'"),
        ("{}:broken", ["--size", "3,8,7"], "needs square images"),
        ("{}:broken", ["--size", "3,0,0"], "--size must be at least 1, got 0"),
        ("{}:broken", ["--batch", "0"], "--batch must be at least 1, got 0"),
        ("{}:broken", ["--seed", "-1"], "--seed must be at least 0 and at most 4294967295"),
        ("{}:broken", ["--tol", "nan"], "--tol must be a finite number, got nan"),
    ],
)
def test_what_the_command_cannot_do(file, capsys, place, options, says):
    if "number" in place:
        file.write_text(FILE.replace("number = 7", "def number():\n    return 7"))
    assert main(["check", place.format(file), "--size", "3,8,8", *options]) == 2
    assert says in capsys.readouterr().err


THEIRS = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn

@dataclass
class Setting:
    size: int = 8

class Model(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer
    def forward(self, x):
        return self.answer(x)

def asserting(x):
    assert x.shape[1] == 7

def nervous(x):  # about moved inputs alone
    nervous.calls += 1
    if nervous.calls > 2:
        raise LookupError("who turned it?")
    return x.mean()

nervous.calls = 0
good = Model(lambda x: x.mean((1, 2, 3)))
key = Model(lambda x: {}["scores"])
kind = Model(lambda x: x + None)
attribute = Model(lambda x: x.image)
asserts = Model(asserting)
quits = Model(lambda x: exit(0))
nan = Model(lambda x: x.mean((1, 2, 3)) * float("nan"))
nothing = Model(lambda x: None)
scares = Model(nervous)
number = 7
def zero(): return 1 / 0
def stops(): raise SystemExit(0)
def refuses(): raise ValueError("not today")
def needs(size): return good
def none(): return None
"""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("key", ", line 28: key cannot run on shape (2, 3, 8, 8): KeyError: 'scores'"),
        ("kind", ", line 29: kind cannot run on shape (2, 3, 8, 8): TypeError: "),
        ("attribute", ", line 30: attribute cannot run on shape (2, 3, 8, 8): AttributeError: "),
        ("asserts", ", line 18: asserts cannot run on shape (2, 3, 8, 8): AssertionError"),
        ("quits", ", line 32: quits cannot run on shape (2, 3, 8, 8): SystemExit: 0"),
        ("scares", ", line 23: scares cannot run on an input that was moved: LookupError: who"),
        ("nan", "the model returns NaN"),
        ("nothing", "the model must return a tensor"),
        ("number", "number must be or return an nn.Module, got int"),
        ("zero", ", line 37: zero() fails: ZeroDivisionError: division by zero"),
        ("stops", ", line 38: stops() fails: SystemExit: 0"),
        ("refuses", ", line 39: refuses() fails: ValueError: not today"),
        ("needs", ": needs() fails: TypeError: needs() missing 1 required positional argument"),
        ("Model", ": Model() fails: TypeError: Model.__init__() missing 1 required"),
        ("none", "none must be or return an nn.Module, got NoneType"),
    ],
)
def test_what_fails_in_somebodys_code_is_one_line(file, capsys, name, says):
    """And no verdict: neither 0 nor 1."""
    file.write_text(THEIRS)
    assert main(["check", f"{file}:good", "--size", "3,8,8"]) == 0
    assert capsys.readouterr().out.startswith(f"{file}:good")
    assert main(["check", f"{file}:{name}", "--size", "3,8,8"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith("error: ") and says in printed.err
    assert says[0] not in ",:" or f"error: {file}{says}" in printed.err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("import sys\nsys.exit(0)", ", line 2: it cannot be imported: SystemExit: 0"),
        ("def f(:", ": it cannot be imported: SyntaxError: invalid syntax (models.py, line 1)"),
        ("1 / 0", ", line 1: it cannot be imported: ZeroDivisionError: division by zero"),
        ("import timn", ", line 1: it cannot be imported: ModuleNotFoundError: No module named"),
        ("\0", ": it cannot be imported: "),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line(file, capsys, content, says):
    file.write_text(content)
    assert main(["check", f"{file}:model"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {file}{says}") and printed.count("\n") == 1


def test_it_can_be_used_in_a_script(file):
    """The exit status of the process, as continuous integration sees it."""
    for name, status in [("broken", 1), ("good", 0), ("none_such", 2)]:
        done = subprocess.run(
            [sys.executable, "-m", "equitutor", "check", f"{file}:{name}", "--size", "3,8,8"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        assert done.stdout.startswith(f"{file}:{name}, in eval mode") or status == 2
