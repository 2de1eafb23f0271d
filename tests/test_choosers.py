"""Canonicalisation, frames and sampling: which views are run, how they are weighted, how choosers learn."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from zoo import C2, C3, C4, D4, S3, AboveMean, Net, Scorer

import equitutor as eq
from equitutor.choosers import inclusion

ROT, TURNS = eq.Rotations(D4), eq.Rotations(C4)
POINTS = eq.Permutation(S3)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def images(batch: int = 5) -> torch.Tensor:
    return torch.randn(batch, 2, 4, 4, dtype=torch.float64)


def map_net() -> Net:
    return Net((2, 4, 4), (3, 2, 2)).double().eval()


class Counting(nn.Module):
    """How many inputs the big model saw."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.seen = model, 0

    def forward(self, x):
        self.seen += len(x)
        return self.model(x)


class By(nn.Module):
    """A chooser, or a frame, by a function."""

    def __init__(self, function, equivariant: bool = False):
        super().__init__()
        self.function, self.equivariant = function, equivariant

    def forward(self, *args):
        return self.function(*args)


# -- canonicalisation -------------------------------------------------------------------------


def test_the_model_sees_one_view_the_one_that_scores_highest():
    net, scorer, x = Counting(map_net()), Scorer(map_net()), images()
    model = eq.canonicalize(net, ROT, ROT, chooser=scorer).eval()
    y = model(x)
    assert net.seen == len(x)
    scores = torch.stack([scorer(ROT(g, x))[:, 0] for g in D4])
    for b, g in enumerate(scores.argmax(0).tolist()):
        by_hand = ROT(D4.inverses[g].item(), net.model(ROT(g, x[b : b + 1])))
        torch.testing.assert_close(y[b : b + 1], by_hand)
    weights = model.weights(x)
    assert net.seen == len(x)  # looking at the weights runs nothing
    assert torch.equal(weights.argmax(0), scores.argmax(0)) and weights.sum() == len(x)


def test_of_an_equivariant_chooser_the_inverse_of_the_orientation_is_taken():
    """On S3 the inverse matters: half of the elements are not their own."""

    def place(x):  # the orientation g of x is the g with x = g (sorted x)
        order = x.argsort(1).argsort(1)  # where each value lies in the sorted list
        return torch.stack([(order.gather(1, p.expand_as(order)) == torch.arange(3)).all(1)
                            for p in S3.permutations], 1)  # fmt: skip

    class First(nn.Module):
        def forward(self, x):
            return x[:, :1]

    x = torch.tensor([[3.0, 1.0, 2.0], [2.0, 3.0, 1.0]])
    for make in (
        eq.canonicalize(First(), POINTS, chooser=By(lambda x: place(x).float(), True)),
        eq.frame_average(First(), POINTS, frame=place),
    ):
        assert make.eval()(x).tolist() == [[1.0], [1.0]]  # the least entry: sorted, it comes first
        assert eq.equivariance_error(make, x) == 0


def test_views_that_tie_are_averaged_as_by_equizero():
    net, x = Counting(map_net()), images()
    blind = eq.canonicalize(net, ROT, ROT, chooser=By(lambda x: x.flatten(1).sum(1) * 0))
    torch.testing.assert_close(blind(x), eq.equitune(net.model, ROT, ROT)(x))
    assert net.seen == 8 * len(x)

    symmetric = x + ROT("s", x)  # each is its own mirror image
    model = eq.canonicalize(net.model, ROT, ROT, chooser=Scorer(net.model)).eval()
    assert ((model.weights(symmetric) == 0.5).sum(0) == 2).all()
    assert eq.equivariance_error(model, symmetric) < 1e-12
    y = model(symmetric)
    torch.testing.assert_close(y, ROT("s", y))  # and so is the output


def gradient(model, x, parameters):
    return torch.autograd.grad(model(x).square().sum(), parameters)


@pytest.mark.parametrize("outs", [None, ROT], ids=["invariant", "maps"])
def test_the_straight_through_gradient_is_that_of_the_mixed_views(outs):
    """Forward the chosen view; backward w.r.t. the scores through sum_g p_g g x and sum_g p_g g^-1 y."""
    net, scorer, x = map_net(), Scorer(map_net()), images(3)
    model = eq.canonicalize(net, ROT, outs, chooser=scorer)
    got = gradient(model, x, list(scorer.parameters()))

    n, undo = len(D4), (outs or eq.Trivial(D4)).undo
    p = torch.stack([scorer(ROT(g, x))[:, 0] for g in range(n)]).softmax(0)
    hard = nn.functional.one_hot(p.argmax(0), n).T
    w = hard + p - p.detach()  # (|G|, B)

    def mean(terms):
        return sum(w[g].reshape(-1, 1, 1, 1) * terms(g) for g in range(n))

    y = net(mean(lambda g: ROT(g, x)))
    expected = mean(lambda g: undo(g, y)).square().sum()
    for a, b in zip(got, torch.autograd.grad(expected, list(scorer.parameters())), strict=True):
        torch.testing.assert_close(a, b)
    assert max(float(g.abs().max()) for g in got) > 1e-6

    frozen = eq.canonicalize(net, ROT, outs, chooser=scorer.requires_grad_(False))
    torch.testing.assert_close(model(x), frozen(x))
    for a, b in zip(
        *(gradient(m, x, list(net.parameters())) for m in (model, frozen)), strict=True
    ):
        torch.testing.assert_close(a, b)  # the model itself learns from the chosen view


def test_with_softmax_all_views_are_run_while_training_and_one_afterwards():
    net, scorer, x = Counting(map_net()), Scorer(map_net()), images()
    model = eq.canonicalize(net, ROT, ROT, chooser=scorer, gradient="softmax")
    assert eq.equivariance_error(model.train(), x) < 1e-12
    weights = torch.stack([scorer(ROT(g, x))[:, 0] for g in D4]).softmax(0)
    torch.testing.assert_close(model.weights(x), weights)
    by_hand = eq.group_average(model.views(x), ROT, weights)
    torch.testing.assert_close(model(x), by_hand)
    net.seen = 0
    model.eval()(x)
    assert net.seen == len(x)
    assert all(g is not None for g in gradient(model.train(), x, list(scorer.parameters())))


def test_ids_have_no_straight_through_gradient():
    rename = eq.TokenPermutation(S3)
    net = Net((5,), (2,), vocabulary=3)
    ids = torch.randint(3, (4, 5))
    with pytest.raises(ValueError, match='gradient="softmax"'):
        eq.canonicalize(net, rename, chooser=Scorer(net))(ids)
    eq.canonicalize(net, rename, chooser=Scorer(net)).eval()(ids)
    eq.canonicalize(net, rename, chooser=Scorer(net), gradient="softmax")(ids).sum().backward()


def test_the_prior_loss_is_minus_the_log_probability_of_upright():
    net, x = map_net(), images()
    blind = eq.canonicalize(net, ROT, ROT, chooser=By(lambda x: x.flatten(1).sum(1) * 0))
    assert eq.prior_loss(blind, x).item() == pytest.approx(math.log(8))
    scorer = Scorer(net)
    scores = torch.stack([scorer(ROT(g, x))[:, 0] for g in D4])
    for model in (
        eq.canonicalize(net, ROT, ROT, chooser=scorer),
        eq.stochastic_average(net, ROT, ROT, chooser=scorer, samples=2),
    ):
        expected = nn.functional.cross_entropy(scores.T, torch.zeros(len(x), dtype=torch.long))
        torch.testing.assert_close(eq.prior_loss(model, x), expected)
    with pytest.raises(TypeError, match="canonicalize or stochastic_average"):
        eq.prior_loss(eq.equitune(net, ROT, ROT), x)


@pytest.mark.parametrize("gradient", ["straight-through", "softmax"])
@pytest.mark.parametrize("equivariant", [True, False], ids=["equivariant", "plain"])
def test_a_chooser_learns_to_turn_images_upright(gradient, equivariant):
    """Images whose upper half is bright; the model counts brightness at the top. The task alone says which way."""

    class Top(nn.Module):
        def forward(self, x):
            return x[:, :, :4].mean((1, 2, 3), keepdim=True)[:, :, 0, 0]

    torch.manual_seed(1)
    upright = torch.rand(64, 1, 8, 8)
    upright[:, :, :4] += 1
    g = torch.randint(4, (64,))
    x = torch.stack([TURNS(int(k), one) for k, one in zip(g, upright, strict=True)])
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    chooser = eq.OrientationNet(TURNS, 1, hidden=4) if equivariant else plain
    model = eq.canonicalize(Top(), TURNS, chooser=chooser, gradient=gradient)
    optimizer = torch.optim.Adam(chooser.parameters(), 3e-2)
    before = model.eval()(x).mean().item()
    model.train()
    for _ in range(60):
        loss = -model(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = model.eval()(x).mean().item()
    assert before < 1.3 < 1.45 < after
    assert torch.equal(model.weights(x).argmax(0), torch.as_tensor(C4.inverses)[g])


def test_what_is_wrong_with_a_chooser_is_said():
    net, x = map_net(), images()

    def run(function, equivariant=False, group=ROT):
        eq.canonicalize(net, group, None, chooser=By(function, equivariant)).eval()(x)

    for wrong in (Scorer, "brightness", None):
        with pytest.raises(
            TypeError, match=r"must be a network .* or a function of the model's input"
        ):
            eq.canonicalize(net, ROT, chooser=wrong)
    with pytest.raises(TypeError, match=r"booleans, but scores are compared.* for frame_average"):
        run(lambda x: x.flatten(1)[:, :8] > 0)
    with pytest.raises(ValueError, match=r"are of D4 .*, but what finds the orientation is of C4"):
        eq.canonicalize(net, ROT, chooser=eq.OrientationNet(TURNS, 2))
    with pytest.raises(ValueError, match="gradient must be one of straight-through, softmax"):
        eq.canonicalize(net, ROT, chooser=Scorer(net), gradient="gumbel")
    with pytest.raises(ValueError, match=r"shape \(\|G\| B,\) = \(40,\); got \(40, 3\)"):
        run(lambda x: x.flatten(1)[:, :3])
    with pytest.raises(ValueError, match=r"marked by chooser.equivariant = True"):
        run(lambda x: x.flatten(1)[:, :8])
    with pytest.raises(ValueError, match=r"\(B, \|G\|\) = \(5, 8\); got \(5, 3\)"):
        run(lambda x: x.flatten(1)[:, :3], True)
    with pytest.raises(ValueError, match="the chooser does not move with the input, at g = r"):
        run(lambda x: x.flatten(1)[:, :8], True)


def test_a_plain_function_may_choose():
    net, x = map_net(), images()

    def slope(x):
        return x[:, 0, 0].sum(1) - x[:, 0, -1].sum(1) / 3

    model = eq.canonicalize(net, ROT, ROT, chooser=slope)
    assert torch.equal(model(x), eq.canonicalize(net, ROT, ROT, chooser=By(slope))(x))
    assert eq.equivariance_error(model, x) < 1e-12


def test_a_check_of_drawn_views_says_that_they_are_drawn():
    net, x = map_net(), images()
    drawn = {
        k: eq.stochastic_average(net, ROT, ROT, chooser=Scorer(net), samples=k) for k in (3, 8)
    }
    with pytest.raises(AssertionError, match=r"drawn at random.*samples = \|G\|") as error:
        eq.assert_equivariant(drawn[3].eval(), x)
    assert "dropout" not in str(error.value)
    eq.assert_equivariant(drawn[8].eval(), x)
    shaky = eq.stochastic_average(
        nn.Sequential(net, nn.Dropout()), ROT, ROT, chooser=Scorer(net), samples=8
    )
    with pytest.raises(AssertionError, match="dropout"):
        eq.assert_equivariant(shaky, x)


class Named(nn.Module):
    """A model whose arguments have names that a chooser does not know."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, pixels, scale=1.0):
        return scale * self.net(pixels)


def test_a_single_argument_may_have_another_name():
    net, x = map_net(), images()
    for chooser in (Scorer(net), eq.OrientationNet(ROT, 2).double(), lambda y: y.flatten(1)[:, 0]):
        model = eq.canonicalize(Named(net), ROT, ROT, chooser=chooser).eval()
        assert torch.equal(model(pixels=x), model(x))
        with pytest.raises(
            TypeError, match=r"called as the model is, .*scale by name.* names, or \*\*kwargs"
        ):
            model(x, scale=2.0)
    both = eq.canonicalize(
        Named(net), ROT, ROT, chooser=lambda pixels, **_: pixels.flatten(1)[:, 0]
    ).eval()
    torch.testing.assert_close(both(x, scale=2.0), 2 * both(x))


@pytest.mark.parametrize("name", ["vit", "vit with labels"])
def test_a_model_of_transformers_with_an_orientation_net(name):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.ViTConfig(
        **sizes, intermediate_size=8, image_size=8, patch_size=4, num_channels=2
    )
    vit = transformers.ViTForImageClassification(config).double().eval()
    model = eq.canonicalize(vit, ROT, chooser=eq.OrientationNet(ROT, 2).double()).eval()
    x = torch.randn(5, 2, 8, 8, dtype=torch.float64)
    labels = {"labels": torch.zeros(5, dtype=torch.long)} if "labels" in name else {}
    expected = vit(ROT(int(model.weights(x)[:, 0].argmax()), x[:1])).logits
    torch.testing.assert_close(model(pixel_values=x, **labels).logits[:1], expected)
    assert torch.equal(model(x).logits, model(pixel_values=x).logits)


def test_a_float_mask_is_no_way_to_teach_the_chooser_of_ids():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(3, 4)

        def forward(self, ids, mask):
            return (self.table(ids) * mask[..., None]).sum(1)

    ids, mask = torch.randint(3, (4, 5)), torch.ones(4, 5)
    actions = {"ids": eq.TokenPermutation(S3)}

    class Chooser(Masked):
        def forward(self, ids, mask):
            return super().forward(ids, mask)[:, 0]

    model = eq.canonicalize(Masked(), actions, chooser=Chooser()).train()
    for _ in range(2):
        with pytest.raises(ValueError, match='gradient="softmax"'):
            model(ids, mask)
    model.eval()(ids, mask)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_scores_that_are_not_finite_are_refused(value):
    net, x = map_net(), images()
    for make in (eq.canonicalize, lambda *a, **k: eq.stochastic_average(*a, samples=2, **k)):
        chooser = By(lambda x: torch.full((len(x),), value, dtype=x.dtype))
        with pytest.raises(ValueError, match="the chooser's score is NaN or infinite"):
            make(net, ROT, ROT, chooser=chooser).eval()(x)
    left_out = By(lambda x: torch.where(x[:, 0, 0, 0] > x[:, 0, -1, -1], x[:, 0, 0, 1], -torch.inf))
    model = eq.canonicalize(net, ROT, ROT, chooser=left_out).eval()
    assert eq.equivariance_error(model, x) < 1e-12


def test_a_chooser_that_gives_the_inverses_is_recognised():
    net, x = Net((3,), (2,)).double(), torch.randn(4, 3, dtype=torch.float64)
    right = eq.RegularFeatures(Scorer(net), POINTS)
    wrong = By(lambda x: right(x)[..., 0][:, S3.inverses], True)
    with pytest.raises(ValueError, match=r"return value\[:, group.inverses\]"):
        eq.canonicalize(net, POINTS, chooser=wrong).eval()(x)
    mended = By(lambda x: right(x)[..., 0], True)
    model = eq.canonicalize(net, POINTS, chooser=mended).eval()
    assert eq.equivariance_error(model, x) < 1e-12


def test_the_law_of_a_chooser_is_checked_once_and_not_while_dropout_is_on():
    chooser = By(eq.OrientationNet(ROT, 2), True)
    calls = []
    chooser.register_forward_hook(lambda *_: calls.append(1))
    net, x = Net((2, 4, 4), (3,)).eval(), images().float()
    model = eq.canonicalize(net, ROT, chooser=chooser).train()
    model(x)
    assert len(calls) == 1
    model.eval()(x)
    assert len(calls) == 1 + 1 + 8
    model(x)
    assert len(calls) == 1 + 1 + 8 + 1


# -- frames -----------------------------------------------------------------------------------


def test_the_mean_over_the_frame_by_hand():
    net, x = Counting(map_net()), images()
    frame = AboveMean(eq.RegularFeatures(Scorer(net.model), ROT))
    model = eq.frame_average(net, ROT, ROT, frame=frame)
    inside = frame(x)  # (B, 8)
    model(x)  # the first time, when the law is checked
    net.seen = 0
    y = model(x)
    assert net.seen == int(inside.sum()) < 8 * len(x)
    for b in range(len(x)):
        one = x[b : b + 1]
        elements = [D4[i] for i in range(8) if inside[b, i]]
        terms = [ROT(g, net.model(ROT(~g, one))) for g in elements]
        torch.testing.assert_close(y[b : b + 1], sum(terms) / len(terms))


def test_the_whole_group_is_equitune():
    net, x = map_net(), images()
    everything = eq.frame_average(net, ROT, ROT, frame=lambda x: torch.ones(len(x), 8).bool())
    torch.testing.assert_close(everything(x), eq.equitune(net, ROT, ROT)(x))


def upper(x):
    """A frame of S3: the orientations in which the first number is larger than the second."""
    return eq.RegularFeatures(By(lambda x: x[:, :1] - x[:, 1:2]), POINTS)(x)[..., 0] > 0


def test_the_frame_of_the_next_test_is_right_before_it_is_spoiled():
    net, x = Net((3,), (2,)), torch.randn(4, 3)
    assert eq.equivariance_error(eq.frame_average(net, POINTS, frame=upper), x) < 1e-5


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (lambda x: torch.ones(len(x), 3).bool(), r"\(B, \|G\|\) = \(4, 6\); got \(4, 3\)"),
        (lambda x: torch.ones(len(x), 6), "return .* booleans, got torch.float32"),
        (lambda x: torch.zeros(len(x), 6).bool(), "frame of input 0 is empty"),
        (lambda x: torch.eye(6)[torch.zeros(len(x), dtype=int)].bool(), "does not move with the input"),
        (lambda x: torch.rand(len(x), 6) > 0.2, "without random numbers"),
        (lambda x: upper(x)[:, S3.inverses], r"return value\[:, group.inverses\]"),
    ],
    ids=["shape", "floats", "empty", "constant", "random", "inverses"],
)  # fmt: skip
def test_what_is_wrong_with_a_frame_is_said(frame, said):
    net, x = Net((3,), (2,)), torch.randn(4, 3)
    with pytest.raises((ValueError, TypeError), match=said):
        eq.frame_average(net, POINTS, frame=frame)(x)


def test_a_frame_must_be_callable():
    with pytest.raises(TypeError, match=r"frame must be a network .* or a function"):
        eq.frame_average(Net((3,), (2,)), POINTS, frame=torch.ones(3, 6))


# -- sampling ---------------------------------------------------------------------------------


def probabilities(rows: int = 4) -> torch.Tensor:
    """Unequal, equal, nearly certain, and with a zero: ``(|G|, B)``."""
    p = torch.rand(6, rows, dtype=torch.float64) ** 2
    p[:, 1] = 1
    p[:, 2] = torch.tensor([1e3, 1, 1, 1, 1, 1])
    p[0, 3] = 0
    return p / p.sum(0)


def drawn(p: torch.Tensor, samples: int, times: int) -> torch.Tensor:
    """Weights of many draws: (times, |G|, B)."""
    n, batch = p.shape
    many = p.repeat(1, times)
    weighting = eq.Sampled(S3, By(lambda x: x), samples)
    weights = weighting.ahead(((many.log().flatten(),), {}), n, batch * times)[1]
    return weights.reshape(n, times, batch).transpose(0, 1)


@pytest.mark.parametrize("samples", range(1, 7))
def test_the_mean_of_the_weights_is_p_and_their_variance_what_is_said(samples):
    p = probabilities()
    times = 20_000
    w = drawn(p, samples, times)
    torch.testing.assert_close(w.sum(1), torch.ones(times, 4).double())
    assert ((w > 0).sum(1) <= samples).all()
    assert ((w > 0).sum(1) == samples)[:, :3].all()
    error = (w.mean(0) - p).abs()
    assert (error <= 5 * w.std(0) / times**0.5 + 1e-9).all()
    variance = w.var(0, correction=0).sum(0)
    torch.testing.assert_close(variance, eq.sampling_variance(p, samples), rtol=0.06, atol=1e-9)


def test_the_variance_falls_and_that_of_all_is_zero():
    p = probabilities()
    values = torch.stack([eq.sampling_variance(p, k) for k in range(1, 7)])
    assert (values.diff(dim=0) <= 1e-12).all() and (values[-1] == 0).all()
    assert torch.equal(drawn(p, 6, 2)[0], drawn(p, 6, 2)[1])
    one = eq.sampling_variance(p, 1)  # one draw from p: sum p (1 - p)
    torch.testing.assert_close(one, (p * (1 - p)).sum(0))
    with_replacement = (p * (1 - p)).sum(0) / 4
    assert (eq.sampling_variance(p, 4) <= with_replacement).all()


def test_the_variance_bounds_the_error_of_the_output():
    net, x = Net((3,), (5,)).double(), torch.randn(3, 3, dtype=torch.float64)
    scorer = Scorer(net)
    terms = eq.RegularFeatures(net, POINTS)(x)  # (B, |G|, 5)
    exact = eq.stochastic_average(net, POINTS, chooser=scorer, samples=6)
    p = exact.weights(x)
    spread = (terms - terms.mean(1, keepdim=True)).square().sum((1, 2))
    for samples in (1, 2, 4):
        model = eq.stochastic_average(net, POINTS, chooser=scorer, samples=samples)
        many = x.repeat_interleave(4000, 0)
        error = (model(many) - exact(many)).square().sum(1).reshape(3, -1).mean(1)
        assert (error <= eq.sampling_variance(p, samples) * spread * 1.05).all()
        assert (error > 0).all()


def test_only_the_drawn_views_are_run_and_all_of_them_are_exact():
    net, x = Counting(map_net()), images()
    scorer = Scorer(net.model)
    for samples in (1, 3, 8):
        net.seen = 0
        eq.stochastic_average(net, ROT, ROT, chooser=scorer, samples=samples)(x)
        assert net.seen == samples * len(x)
    model = eq.stochastic_average(net, ROT, ROT, chooser=scorer, samples=8)
    assert torch.equal(model(x), model(x)) and eq.equivariance_error(model, x) < 1e-12
    few = eq.stochastic_average(net, ROT, ROT, chooser=scorer, samples=2)
    assert eq.equivariance_error(few, x) > 1e-3  # in the mean only
    mean = torch.stack([few(x) for _ in range(3000)]).mean(0)
    torch.testing.assert_close(mean, model(x), rtol=0, atol=0.03)


def test_the_gradient_has_the_mean_of_the_exact_one():
    net, x = Net((3,), (2,)).double(), torch.randn(1, 3, dtype=torch.float64)
    scorer = Scorer(net)
    parameter = scorer.net.outer.weight

    def slope(samples, times):
        model = eq.stochastic_average(net, POINTS, chooser=scorer, samples=samples)
        loss = model(x.repeat(times, 1)).sum() / times
        return torch.autograd.grad(loss, parameter)[0]

    exact = slope(6, 1)
    torch.testing.assert_close(slope(2, 40_000), exact, rtol=0, atol=0.1 * float(exact.abs().max()))


def test_what_is_wrong_with_samples_is_said():
    net = Net((3,), (2,))
    with pytest.raises(ValueError, match=r"at most \|G\| = 6, which is exact; got 7"):
        eq.stochastic_average(net, POINTS, chooser=Scorer(net), samples=7)
    with pytest.raises(ValueError, match="samples"):
        eq.stochastic_average(net, POINTS, chooser=Scorer(net), samples=0)
    with pytest.raises(ValueError, match="at most"):
        eq.sampling_variance(torch.ones(3, 1) / 3, 4)
    assert inclusion(torch.tensor([[1.0], [0.0], [0.0]]), 2).isfinite().all()


# -- all of them ------------------------------------------------------------------------------


def kinds(net, action, outs=None, scorer=None):
    scorer = Scorer(net) if scorer is None else scorer
    yield eq.canonicalize(net, action, outs, chooser=scorer)
    frame = AboveMean(eq.RegularFeatures(scorer, action))
    yield eq.frame_average(net, action, outs, frame=frame)
    yield eq.stochastic_average(net, action, outs, chooser=scorer, samples=len(action.group))


@pytest.mark.parametrize("group", [C2, C3, S3], ids=["C2", "C3", "S3"])
@pytest.mark.parametrize("number", range(3))
def test_masked_scores_and_nested_outputs(group, number):
    """-inf where a view says so, in one of several outputs, beside a tensor that is not moved."""
    action = eq.Permutation(group)
    n = group.permutations.shape[1]

    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net((n,), (n,)).double()

        def forward(self, x, bias):
            y = self.net(x)
            low = y.amin(1, keepdim=True) == y
            return {"scores": y, "parts": (y.masked_fill(low, -torch.inf), x), "bias": bias}

    net, x = Nested(), torch.randn(3, n, dtype=torch.float64)
    scorer = Scorer(net.net)
    model = list(kinds(net, action, {"parts": action}, By(lambda x, bias: scorer(x))))[number]
    bias = torch.ones(3, 1).double()
    y = model.eval()(x, bias)
    assert (y["parts"][0] == -torch.inf).any()
    torch.testing.assert_close(y["bias"], bias)
    assert eq.equivariance_error(model, (x, bias)) < 1e-12
    y["scores"].sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_they_are_saved_copied_and_loaded_as_any_module():
    x = torch.randn(2, 3)
    for model in kinds(Net((3,), (2,)), POINTS):
        keys = list(model.train().state_dict())
        assert keys == list(model.eval().state_dict())
        assert any(k.startswith("weighting.finder.") for k in keys)
        twin = copy.deepcopy(model)
        twin.load_state_dict(model.state_dict())
        torch.testing.assert_close(twin(x), model(x))


# -- the networks -----------------------------------------------------------------------------

ACTIONS = [ROT, TURNS, eq.Rotations(C2), eq.Flip(), eq.Flip("vertical")]


class MapsOfGroup(eq.Action):
    """g moves the pixels of (B, C, |G|, H, W), and the third dimension by left multiplication."""

    def __init__(self, action):
        super().__init__(action.group)
        self.pixels, self.axis = action, eq.Regular(action.group, dim=2)

    def act(self, g, x):
        return self.pixels.act(g, self.axis.act(g, x))


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: f"{type(a).__name__} {a.group!r}")
def test_group_convolutions_are_equivariant(action):
    lift = eq.GroupConv2d(action, 2, 3, 5, lifting=True).double()
    conv = eq.GroupConv2d(action, 3, 4).double()
    maps, x = MapsOfGroup(action), images()
    assert eq.equivariance_error(lift, x, action, maps) < 1e-12
    assert eq.equivariance_error(conv, lift(x), maps, maps) < 1e-12
    plain = nn.Conv2d(3 * len(action.group), 4 * len(action.group), 3, padding=1).double()
    apart = By(lambda x: plain(x.flatten(1, 2)).unflatten(1, (4, -1)))
    assert eq.equivariance_error(apart, lift(x), maps, maps) > 1e-2
    net = eq.OrientationNet(action, 2).double()
    assert net(x).shape == (5, len(action.group))
    assert eq.equivariance_error(net, x, action, eq.Regular(action.group)) < 1e-12


def test_a_group_convolution_by_the_formula():
    """y_g(p) = sum_h sum_q w_{g^-1 h}(g^-1 q) x_h(p + q), one term at a time."""
    conv = eq.GroupConv2d(ROT, 1, 1, 3).double()
    x = torch.randn(1, 1, 8, 5, 5, dtype=torch.float64)
    y = conv(x)
    for g in D4:
        total = conv.bias[0]
        for h in D4:
            filters = ROT(g, conv.weight[:, :, (~g @ h).index])
            total = total + nn.functional.conv2d(x[:, :, h.index], filters, padding=1)
        torch.testing.assert_close(y[:, :, g.index], total)


def test_what_is_wrong_with_a_group_convolution_is_said():
    with pytest.raises(ValueError, match="size must be odd"):
        eq.GroupConv2d(ROT, 1, 1, 4)
    with pytest.raises(TypeError, match=r"Rotations\(...\) or Flip\(...\); got Permutation"):
        eq.GroupConv2d(POINTS, 1, 1)
    with pytest.raises(ValueError, match=r"images \(B, 3, H, W\), got shape \(5, 2, 4, 4\)"):
        eq.GroupConv2d(ROT, 3, 1, lifting=True)(images())
    with pytest.raises(ValueError, match=r"\(B, 3, 8, H, W\), got shape \(5, 2, 4, 4\)"):
        eq.GroupConv2d(ROT, 3, 1)(images())
