"""Exported, compiled, traced, vectorised and differentiated, every wrapper is what it is in eager mode."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from torch import nn
from zoo import C4, CASES, D4, METHODS

import equitutor as eq
from equitutor.weights import _OnFeatures

BATCH = torch.export.Dim("batch", min=1, max=64)
MADE_AT, RUN_AT = 3, (1, 7, 64)
TURNS, BY_NAME = eq.Rotations(D4), {case.name: case for case in CASES}
#: Every method with two actions, and every action with two methods.
PAIRS = [
    (case, method)
    for case in CASES
    for method in METHODS
    if case.name in ("d4 image to corners", "S3 words")
    or method in ("equitune", "equizero entropy")
]
pairs = pytest.mark.parametrize(
    ("case", "method"), PAIRS, ids=lambda p: p if isinstance(p, str) else p.name
)
methods = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(autouse=True)
def quiet():
    torch.manual_seed(0)
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def wrap(case, method):
    return METHODS[method](case.net(), case.ins, case.outs).eval()


def agree_with(model, other, inputs) -> None:
    """``other`` gives what the model gives, for batches of other sizes than it was made with."""
    for size in RUN_AT:
        x = inputs(size)
        torch.testing.assert_close(other(x), model(x).detach(), rtol=1e-5, atol=1e-5)


def run_in_onnx(model, x, path, dynamic_shapes):
    """The model as an ONNX file, run by onnxruntime."""
    import onnxruntime

    torch.onnx.export(model, (x,), path, dynamo=True, dynamic_shapes=dynamic_shapes, verbose=False)
    session = onnxruntime.InferenceSession(path)
    (asked,) = session.get_inputs()
    return lambda x: torch.from_numpy(session.run(None, {asked.name: x.numpy()})[0])


# -- export and compile -----------------------------------------------------------------------


@pairs
def test_export_with_a_dynamic_batch(case, method):
    model = wrap(case, method)
    shapes = {"args": ({0: BATCH},)}
    program = torch.export.export(model, (case.x(batch=MADE_AT),), dynamic_shapes=shapes).module()
    agree_with(model, program, lambda size: case.x(batch=size))
    actions = model.in_actions, model.result_actions
    assert eq.equivariance_error(program, (case.x(batch=7),), *actions) <= 1e-5


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_onnx_of_every_action(case, tmp_path):
    check_onnx(case, "equitune", tmp_path)


@methods
@pytest.mark.parametrize("name", ["d4 image to corners", "S3 words"])
def test_onnx_of_every_method(name, method, tmp_path):
    check_onnx(BY_NAME[name], method, tmp_path)


def check_onnx(case, method, folder):
    model, path = wrap(case, method), str(folder / "model.onnx")
    run = run_in_onnx(model, case.x(batch=MADE_AT), path, {"args": ({0: BATCH},)})
    agree_with(model, run, lambda size: case.x(batch=size))
    assert (
        eq.equivariance_error(run, case.x(batch=7), model.in_actions, model.result_actions) < 1e-5
    )


@pairs
def test_compile_with_a_dynamic_batch_and_no_graph_break(case, method):
    torch.compiler.reset()
    model = wrap(case, method)
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=True)
    compiled(case.x(batch=MADE_AT))
    agree_with(model, compiled, lambda size: case.x(batch=size))


LAYERS = {
    "EquivariantLinear": (
        lambda: eq.EquivariantLinear(eq.Regular(D4), eq.Regular(D4), 3, 2),
        (3, 8),
    ),
    "InvariantHead": (lambda: eq.InvariantHead(TURNS, 3, 4, 5), (3, 4, 4)),
    "RegularHead": (lambda: eq.RegularHead(D4, 3, 5), (8, 3)),
    "RegularHead of maps": (lambda: eq.RegularHead(D4, 3, 5), (8, 3, 4, 4)),
    "GroupConv2d": (lambda: eq.GroupConv2d(TURNS, 2, 3), (2, 8, 5, 5)),
    "OrientationNet": (lambda: eq.OrientationNet(TURNS, 2), (2, 9, 9)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("how", ["export", "onnx", "compile", "trace"])
def test_layers(name, how, tmp_path):
    make, shape = LAYERS[name]
    layer, x = make().eval(), torch.randn(MADE_AT, *shape)
    if how == "export":
        other = torch.export.export(layer, (x,), dynamic_shapes=({0: BATCH},)).module()
    elif how == "onnx":
        other = run_in_onnx(layer, x, str(tmp_path / "layer.onnx"), ({0: BATCH},))
    elif how == "compile":
        torch.compiler.reset()
        other = torch.compile(layer, fullgraph=True, backend="eager", dynamic=True)
    else:
        other = torch.jit.trace(layer, (x,))
    agree_with(layer, other, lambda size: torch.randn(size, *shape))


@methods
def test_tracing_is_refused(method):
    """It would keep the batch size of its example, and be wrong in silence for any other."""
    case = BY_NAME["c4 maps"]
    with pytest.raises(
        RuntimeError, match=r"keep the batch size of its example: use torch\.export"
    ):
        torch.jit.trace(wrap(case, method), (case.x(),))


def test_the_mark_is_that_of_torch():
    """Its decorator would import the compiler with the core."""
    assert vars(_OnFeatures._stay) == vars(torch.compiler.assume_constant_result(lambda: None))


def test_a_wrong_export_would_be_noticed():
    """One that keeps the size of its example, or computes something else, fails the comparison above."""

    def inputs(size):
        return torch.randn(size, 2)

    agree_with(nn.Tanh(), torch.tanh, inputs)
    for other in (lambda x: x[:MADE_AT].tanh(), torch.sigmoid):
        with pytest.raises(AssertionError):
            agree_with(nn.Tanh(), other, inputs)


# -- function transforms ----------------------------------------------------------------------


@methods
@pytest.mark.parametrize("name", ["d4 image to corners", "S3 words"])
def test_vmap(name, method):
    case = BY_NAME[name]
    model, x = wrap(case, method), case.x(batch=5)
    one_by_one = torch.func.vmap(lambda one: model(one[None])[0])
    torch.testing.assert_close(one_by_one(x), model(x))


@methods
def test_vmap_over_an_ensemble(method):
    case = BY_NAME["d4 image to corners"]
    models, x = [wrap(case, method) for _ in range(3)], case.x()
    weights, buffers = torch.func.stack_module_state(models)

    def run(weights, buffers):
        return torch.func.functional_call(models[0], (weights, buffers), (x,))

    outputs = torch.func.vmap(run)(weights, buffers)
    torch.testing.assert_close(outputs, torch.stack([model(x) for model in models]))


@methods
def test_gradients_by_transform(method):
    """torch.func.grad, also for each sample apart, is what backward gives."""
    case = BY_NAME["d4 image to corners"]
    model, x = wrap(case, method).double(), case.x(torch.float64, batch=4)
    cotangent = torch.randn_like(model(x))

    def loss(weights, x, cotangent):
        return (torch.func.functional_call(model, weights, (x,)) * cotangent).sum()

    weights = dict(model.named_parameters())
    got = torch.func.grad(loss)(weights, x, cotangent)
    expected = torch.autograd.grad(loss(weights, x, cotangent), weights.values(), allow_unused=True)
    for ours, theirs in zip(got.values(), expected, strict=True):
        torch.testing.assert_close(ours, torch.zeros_like(ours) if theirs is None else theirs)
    each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(
        weights, x[:, None], cotangent[:, None]
    )
    for name in weights:
        torch.testing.assert_close(each[name].sum(0), got[name])


@methods
def test_forward_derivatives(method):
    """jvp is the directional derivative; of equizero, whose gradient is the mean's, that of the mean."""
    case = BY_NAME["d4 image to corners"]
    net, x = case.net(torch.float64), case.x(torch.float64)
    model = METHODS[method](net, case.ins, case.outs).double().eval()
    direction = torch.randn_like(x)
    value, tangent = torch.func.jvp(model, (x,), (direction,))
    torch.testing.assert_close(value, model(x))
    smooth = eq.equitune(net, case.ins, case.outs) if "equizero" in method else model
    h = 1e-6
    expected = (smooth(x + h * direction) - smooth(x - h * direction)) / (2 * h)
    torch.testing.assert_close(tangent, expected, rtol=1e-6, atol=1e-7)
    assert tangent.abs().max() > 1e-3


def test_a_loss_that_cannot_be_read_is_still_checked_in_eager_mode():
    rot = eq.Rotations(C4)
    net = nn.Sequential(nn.Flatten(), nn.Linear(32, 5))
    broken = eq.equizero(net, rot, loss=lambda y: y[:, 0] * torch.nan)
    x = torch.randn(3, 2, 4, 4)
    torch.func.vmap(lambda one: broken(one[None])[0])(x)
    with pytest.raises(ValueError, match="NaN for some view"):
        broken(x)


def test_ids_outside_the_vocabulary_are_not_taken_from_its_end():
    """Where the values are not looked at (compiled, on a GPU), -100 must not become the 100th from the end."""
    words = eq.TokenPermutation(C4, {"r": [1, 2, 3, 0, *range(4, 200)]})
    torch.compiler.reset()
    compiled = torch.compile(words.views, fullgraph=True, backend="aot_eager")
    ids = torch.tensor([[5, 0, 199]])
    assert torch.equal(compiled(ids), words.views(ids))
    for bad in (-100, 200):
        with pytest.raises((IndexError, RuntimeError)):
            compiled(torch.tensor([[5, bad, 199]]))
