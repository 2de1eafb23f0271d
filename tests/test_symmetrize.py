"""The group average: equivariant for every action and method, and wrong where it is made wrong."""

import copy
import io
from collections import namedtuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel
from zoo import (
    C2,
    C3,
    C4,
    CASES,
    D3,
    D4,
    METHODS,
    S3,
    S4,
    TOLERANCE,
    Net,
    flat_entropy,
    permutation_groups,
)

import equitutor as eq
from equitutor.methods import RegularFeaturesAction
from equitutor.symmetrize import GroupAverage, uniform_average
from equitutor.weights import Weighting

ROT, ROT8 = eq.Rotations(C4), eq.Rotations(D4)
cases = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
methods = pytest.mark.parametrize("method", METHODS)
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def wrap(method: str, case, dtype: torch.dtype = torch.float32) -> GroupAverage:
    return METHODS[method](case.net(dtype), case.ins, case.outs).eval()


def images(batch: int = 3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(batch, 2, 4, 4, dtype=dtype)


def map_net(dtype: torch.dtype = torch.float32) -> Net:
    return Net((2, 4, 4), (3, 2, 2)).to(dtype).eval()


def score_net(dtype: torch.dtype = torch.float32) -> Net:
    return Net((2, 4, 4), (5,)).to(dtype).eval()


# -- it is equivariant ------------------------------------------------------------------------


@dtypes
@methods
@cases
def test_every_method_with_every_action(case, method, dtype):
    model, x = wrap(method, case, dtype), case.x(dtype)
    assert eq.equivariance_error(model, x) <= TOLERANCE[dtype]
    y = model(x)
    assert y.dtype == dtype
    assert y.shape == (3, *[len(case.ins.group)] * (method == "regular features"), *case.out_shape)


@cases
def test_the_bare_nets_are_not_equivariant(case):
    """Otherwise the test above would show nothing."""
    if len(case.ins.group) == 1:
        return
    error = eq.equivariance_error(case.net(), case.x(), case.ins, case.outs)
    assert error > 1e-2


@settings(deadline=None, max_examples=15)
@given(permutation_groups(), st.sampled_from(list(METHODS)), st.integers(0, 2**16))
def test_random_permutation_groups(group, method, number):
    torch.manual_seed(number)
    points = group.permutations.shape[1]
    action = eq.Permutation(group)
    model = METHODS[method](Net((points,), (points,)).double(), action, action).eval()
    assert eq.equivariance_error(model, torch.randn(2, points, dtype=torch.float64)) <= 1e-12


@methods
@pytest.mark.parametrize("batch", [0, 1, 5])
def test_every_batch_size(method, batch):
    case = CASES[1]
    model = wrap(method, case)
    assert len(model(case.x(batch=batch))) == batch


def test_each_input_is_averaged_by_itself():
    for method in METHODS:
        model, x = wrap(method, CASES[3], torch.float64), CASES[3].x(torch.float64)
        alone = torch.cat([model(one[None]) for one in x])
        torch.testing.assert_close(model(x), alone)


# -- it is the formula ------------------------------------------------------------------------


@cases
def test_equitune_is_the_mean_of_the_moved_back_views(case):
    """Written out once more, one g at a time, with the inverse searched for in the table."""
    net, x = case.net(torch.float64), case.x(torch.float64)
    group, outs = case.ins.group, case.outs or eq.Trivial(case.ins.group)
    total = 0
    for g in group:
        inverse = next(h for h in group if h @ g == group.identity)
        total = total + outs(inverse, net(case.ins(g, x)))
    torch.testing.assert_close(eq.equitune(net, case.ins, case.outs)(x), total / len(group))


def test_an_average_by_hand():
    """C3 turns three numbers around; the model keeps the first and doubles the second."""

    class First(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0], 2 * x[:, 1], torch.zeros(len(x))], 1)

    turn = eq.Permutation(C3)
    x = torch.tensor([[1.0, 10.0, 100.0]])
    assert eq.equitune(First(), turn, turn)(x).tolist() == [[1.0, 10.0, 100.0]]  # (1 + 2 + 0) / 3
    # views 1 10 100, 100 1 10, 10 100 1 give first entries 1, 100, 10, each an equal part
    assert eq.equitune(First(), turn)(x)[0].tolist() == pytest.approx([37.0, 74.0, 0.0])


def test_an_equivariant_model_is_left_as_it_is():
    for net, action, x in [
        (nn.Conv2d(2, 3, 1), ROT8, images()),
        (nn.Tanh(), eq.Permutation(S4), torch.randn(3, 4)),
        (nn.Softmax(-1), eq.Permutation(S4), torch.randn(3, 4)),
    ]:
        net, x = net.double(), x.double()
        for make in (eq.equitune, METHODS["equizero entropy"]):
            torch.testing.assert_close(make(net, action, action)(x), net(x), rtol=0, atol=1e-14)
        terms = eq.RegularFeatures(net, action, action)(x)
        for h in range(len(action.group)):
            torch.testing.assert_close(terms[:, h], net(x), rtol=0, atol=1e-14)


@cases
def test_averaging_is_a_projection(case):
    once = eq.equitune(case.net(torch.float64), case.ins, case.outs)
    twice = eq.equitune(once, case.ins, case.outs)
    x = case.x(torch.float64)
    torch.testing.assert_close(twice(x), once(x), rtol=0, atol=1e-14)


def test_averaging_over_a_subgroup_first_changes_nothing():
    """C4 in D4: the average over D4 of the average over C4 is the average over D4."""
    net, x = map_net(torch.float64), images(dtype=torch.float64)
    part, whole = eq.equitune(net, ROT, ROT), eq.equitune(net, ROT8, ROT8)
    torch.testing.assert_close(eq.equitune(part, ROT8, ROT8)(x), whole(x))
    torch.testing.assert_close(eq.equitune(whole, ROT, ROT)(x), whole(x))
    assert eq.equivariance_error(part, x, ROT, ROT) < 1e-12
    assert eq.equivariance_error(part, x, ROT8, ROT8) > 1e-2


@methods
def test_the_model_runs_once_on_all_views(method):
    model, seen = wrap(method, CASES[3]), []
    model.model.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape))
    model(CASES[3].x())
    if "canonicalize" in method or "frame" in method:
        assert len(seen) == 1 and 3 <= seen[0][0] < 8 * 3  # test_choosers.py counts them
    else:
        assert seen == [(8 * 3, 2, 4, 4)]


# -- made wrong, it fails ---------------------------------------------------------------------


class Pair(nn.Module):
    def forward(self, y):
        return y, y


class Wrong(nn.Module):
    """A group average as one might get it wrong."""

    def __init__(self, net, ins, outs, back="inverse", forget=None):
        super().__init__()
        self.net, self.ins, self.outs, self.back, self.forget = net, ins, outs, back, forget

    def forward(self, x):
        group = self.ins.group
        back = {"inverse": lambda g: ~g, "g itself": lambda g: g, "nothing": lambda g: group[0]}
        used = [g for g in group if g.index != self.forget]
        return sum(self.outs(back[self.back](g), self.net(self.ins(g, x))) for g in used) / len(
            used
        )


WRONG = [
    (eq.Rotations(C4), (2, 4, 4)),
    (eq.Rotations(D4), (2, 4, 4)),
    (eq.Permutation(C3), (3,)),
    (eq.Permutation(D3), (3,)),
    (eq.Permutation(S3), (3,)),
    (eq.Permutation(S4), (4,)),
    (eq.MatrixAction(D3, eq.rotation_matrices(D3)), (2,)),
]


@pytest.mark.parametrize(("action", "shape"), WRONG, ids=[repr(a.group) for a, _ in WRONG])
@pytest.mark.parametrize("mistake", [{"back": "g itself"}, {"back": "nothing"}, {"forget": 1}])
def test_a_wrong_average_is_not_equivariant(action, shape, mistake):
    net, x = Net(shape, shape).double(), torch.randn(3, *shape, dtype=torch.float64)
    assert eq.equivariance_error(Wrong(net, action, action), x, action, action) < 1e-12
    wrong = Wrong(net, action, action, **mistake)
    assert eq.equivariance_error(wrong, x, action, action) > 1e-2
    with pytest.raises(AssertionError, match="not equivariant"):
        eq.assert_equivariant(wrong, x, action, action)


def test_with_two_elements_the_wrong_inverse_hides():
    """Why the tests above use larger groups: in C2, g is its own inverse."""
    flip = eq.Flip()
    wrong = Wrong(map_net(), flip, flip, back="g itself")
    assert eq.equivariance_error(wrong, images(), flip, flip) < 1e-6


class ByName(Weighting):
    """Weights that depend on the number of g, not on the view."""

    def forward(self, outputs, inputs, n, batch):
        weights = torch.arange(1.0, n + 1)
        return (weights / weights.sum())[:, None].expand(n, batch)


class ByView(Weighting):
    """Weights that depend on the view alone."""

    def forward(self, outputs, inputs, n, batch):
        return outputs.flatten(1).sum(1).reshape(n, batch).softmax(0)


def test_weights_must_depend_on_the_view_not_on_the_name_of_g():
    net, x = map_net(torch.float64), images(dtype=torch.float64)
    assert eq.equivariance_error(GroupAverage(net, ROT8, ROT8, ByView()), x) < 1e-12
    assert eq.equivariance_error(GroupAverage(net, ROT8, ROT8, ByName()), x) > 1e-2


def test_dropout_breaks_it():
    net = nn.Sequential(map_net(), nn.Dropout(0.5))
    model = eq.equitune(net, ROT, ROT)
    assert eq.equivariance_error(model.train(), images()) > 1e-2
    assert eq.equivariance_error(model.eval(), images()) < 1e-5


# -- equizero ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [eq.entropy, eq.top_probability, eq.max_value])
def test_equizero_takes_the_view_of_least_loss(loss):
    case = CASES[4]  # D4 images to scores of the corners
    net, x = case.net(), case.x(batch=16)
    y = eq.equizero(net, case.ins, case.outs, loss=loss)(x)
    chosen = set()
    for b in range(16):
        losses = [loss(net(case.ins(g, x[b : b + 1]))).item() for g in D4]
        best = D4[losses.index(min(losses))]
        chosen.add(best.name)
        expected = case.outs(~best, net(case.ins(best, x[b : b + 1])))
        torch.testing.assert_close(y[b : b + 1], expected)
    assert len(chosen) > 2  # not always the same one


def test_views_of_equal_loss_are_averaged():
    net, x = map_net(), images()
    constant = eq.equizero(net, ROT, ROT, loss=lambda y: torch.zeros(len(y)))
    torch.testing.assert_close(constant(x), eq.equitune(net, ROT, ROT)(x))
    two_best = eq.equizero(
        net, ROT, ROT, loss=lambda y: torch.tensor([1.0, 0, 1, 0]).repeat_interleave(3)
    )
    expected = (ROT("r3", net(ROT("r", x))) + ROT("r", net(ROT("r3", x)))) / 2
    torch.testing.assert_close(two_best(x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_ties_keep_the_precision_of_the_output(dtype):
    net, turn = Net((3,), (3,)).double(), eq.Permutation(C3)
    x = torch.randn(4, 3, dtype=torch.float64)
    model = eq.equizero(net, turn, turn, loss=lambda y: torch.zeros(len(y), dtype=dtype))
    mean = eq.equitune(net, turn, turn)(x)
    torch.testing.assert_close(
        model(x), mean, rtol=1e-6 if dtype != torch.float64 else 1e-14, atol=0
    )


def test_an_input_with_a_symmetry_of_its_own():
    """Its views are equal in pairs, so equizero has to break a tie without losing equivariance."""
    x = images(dtype=torch.float64)
    x = x + ROT("r2", x)
    model = eq.equizero(map_net(torch.float64), ROT8, ROT8, loss=flat_entropy)
    assert eq.equivariance_error(model, x) < 1e-12
    torch.testing.assert_close(ROT("r2", model(x)), model(x))


def test_straight_through_gradients():
    """The value is the chosen branch's to the last bit, the gradient is the mean's."""
    zero = eq.equizero(map_net(), ROT8, ROT8, loss=flat_entropy)
    mean = eq.equitune(copy.deepcopy(zero.model), ROT8, ROT8)
    x, cotangent = images(), torch.randn(3, 3, 2, 2)
    with torch.no_grad():
        chosen = zero(x)
    value = zero(x)
    assert value.requires_grad and torch.equal(value, chosen)
    assert not torch.allclose(chosen, mean(x))
    (value * cotangent).sum().backward()
    (mean(x) * cotangent).sum().backward()
    for p, q in zip(zero.parameters(), mean.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
        assert q.grad.abs().max() > 0


def test_equizero_reads_nested_outputs():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = score_net()

        def forward(self, x):
            return {"logits": self.net(x)}

    named = Named()
    x = images()
    model = eq.equizero(named, ROT, loss=lambda y: eq.entropy(y["logits"]))
    plain = eq.equizero(named.net, ROT, loss=eq.entropy)
    assert torch.equal(model(x)["logits"], plain(x))


# -- lambda-equitune and attention ------------------------------------------------------------


def test_lambda_weights_are_normalised_and_weigh_the_views():
    net, x = map_net(), images()
    lam = eq.LambdaNet(12, hidden=8).eval()
    model = eq.lambda_equitune(net, ROT8, ROT8, weight_net=lam)
    views = net(ROT8.views(x))
    weights = model.weighting(views, (), 8, 3)
    assert weights.shape == (8, 3) and (weights > 0).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(3))
    value = lam(views).reshape(8, 3)
    torch.testing.assert_close(weights, value / value.sum(0))
    expected = sum(weights[g.index].reshape(3, 1, 1, 1) * ROT8(~g, net(ROT8(g, x))) for g in D4)
    torch.testing.assert_close(model(x), expected)


def test_constant_lambda_is_equitune():
    class Constant(nn.Module):
        def forward(self, y):
            return torch.full((len(y), 1), 3.0)

    net, x = map_net(), images()
    model = eq.lambda_equitune(net, ROT, ROT, weight_net=Constant())
    torch.testing.assert_close(model(x), eq.equitune(net, ROT, ROT)(x))


@pytest.mark.parametrize("method", ["lambda on output", "lambda on hidden", "equiattention"])
def test_the_weighting_and_the_model_learn(method):
    model = wrap(method, CASES[2]).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    x, y = CASES[2].x(batch=8), torch.randint(0, 5, (8,))
    before = copy.deepcopy(model.state_dict())
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < sum(losses[:3])
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    parameters = {k for k, _ in model.named_parameters()}
    # a bias of attention's keys shifts all scores of an input alike, so softmax does not see it
    assert parameters - moved <= {"weighting.key.bias"}
    assert any(k.startswith("weighting") for k in moved) and any(
        k.startswith("model") for k in moved
    )


def test_features_of_a_layer_that_did_not_run():
    class Detour(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.unused = score_net(), nn.Linear(2, 2)

        def forward(self, x):
            return self.net(x)

    model = eq.lambda_equitune(Detour(), ROT, weight_net=eq.LambdaNet(2), features="unused")
    with pytest.raises(RuntimeError, match="'unused' did not run in this forward pass"):
        model(images())


# -- regular features -------------------------------------------------------------------------


def test_regular_features_are_the_terms_kept_apart():
    net, x = map_net(), images()
    terms = eq.RegularFeatures(net, ROT8, ROT8)(x)
    for h in D4:
        torch.testing.assert_close(terms[:, h.index], ROT8(h, net(ROT8(~h, x))))
    torch.testing.assert_close(terms.mean(1), eq.equitune(net, ROT8, ROT8)(x))


def test_regular_features_move_by_the_groups_multiplication():
    """F(k x)[k h] = k F(x)[h], and it is not the right multiplication."""
    model = eq.RegularFeatures(map_net(), ROT8, ROT8)
    x = images()
    for k in D4:
        moved, terms = model(ROT8(k, x)), model(x)
        for h in D4:
            torch.testing.assert_close(moved[:, (k @ h).index], ROT8(k, terms[:, h.index]))
        torch.testing.assert_close(model.out_action(k, terms), moved)
    assert isinstance(model.out_action, RegularFeaturesAction)
    with pytest.raises(ValueError, match="permutes 8 entries along dimension 1"):
        model.out_action("r", torch.randn(3, 7, 3, 2, 2))


def test_regular_features_of_several_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps, self.scores = map_net(), score_net()

        def forward(self, x):
            return {"maps": self.maps(x), "scores": self.scores(x)}

    model = eq.RegularFeatures(Two(), ROT8, {"maps": ROT8})
    y = model(images())
    assert y["maps"].shape == (3, 8, 3, 2, 2) and y["scores"].shape == (3, 8, 5)
    assert eq.equivariance_error(model, images()) < 1e-5


# -- nested inputs and outputs ----------------------------------------------------------------

Named = namedtuple("Named", ["maps", "scores"])


class Nested(nn.Module):
    """Feature maps and scores of an image, in any container."""

    def __init__(self, container):
        super().__init__()
        self.maps, self.scores, self.container = map_net(), score_net(), container

    def forward(self, x):
        return self.container(self.maps(x), self.scores(x))


@pytest.mark.parametrize(
    ("container", "action"),
    [
        (lambda m, s: (m, s), {0: ROT}),
        (lambda m, s: [s, m, None], {1: ROT}),
        (lambda m, s: {"maps": m, "scores": s}, {"maps": ROT}),
        (Named, {"maps": ROT}),
        (lambda m, s: {"deep": {"maps": [m, m]}, "scores": (s, s)}, {"deep": ROT}),
    ],
)
def test_outputs_may_be_any_nested_structure(container, action):
    model, x = eq.equitune(Nested(container), ROT, action), images()
    y = model(x)
    maps = eq.equitune(model.model.maps, ROT, ROT)(x)
    expected = container(maps, eq.equitune(model.model.scores, ROT)(x))
    assert type(y) is type(expected)
    torch.testing.assert_close(y, expected)
    assert eq.equivariance_error(model, x) < 1e-5


def test_one_output_action_serves_all_tensors():
    model = eq.equitune(Nested(lambda m, s: (m, m.sum((1), keepdim=True))), ROT, ROT)
    assert eq.equivariance_error(model, images()) < 1e-5


class TwoInputs(nn.Module):
    """A net of an image, a mask and a number that is no tensor."""

    def __init__(self):
        super().__init__()
        self.net = map_net()

    def forward(self, image, mask=None, *, scale=1.0, extra=None):
        y = self.net(image if mask is None else image * mask[:, None])
        return scale * (y if extra is None else y + extra["bias"][:, None, None, None])


def test_other_arguments_are_moved_repeated_or_left_alone():
    inner, x = TwoInputs(), images()
    mask, bias = (torch.rand(3, 4, 4) > 0.5).float(), torch.randn(3)
    both = eq.equitune(inner, {"image": ROT8, "mask": ROT8}, ROT8)
    y = both(image=x, mask=mask, scale=2.0, extra={"bias": bias})
    expected = 0
    for g in D4:
        view = inner(ROT8(g, x), ROT8(g, mask), scale=2.0, extra={"bias": bias})
        expected = expected + ROT8(~g, view) / 8
    torch.testing.assert_close(y, expected)
    call = {"image": x, "mask": mask, "extra": {"bias": bias}}
    assert eq.equivariance_error(both, call) < 1e-5
    assert torch.equal(both(image=x, mask=None), both(image=x, mask=torch.ones(3, 4, 4)))

    by_position = eq.equitune(inner, {0: ROT8, 1: ROT8}, ROT8)
    torch.testing.assert_close(by_position(x, mask, scale=2.0, extra={"bias": bias}), y)
    assert eq.equivariance_error(by_position, (x, mask)) < 1e-5

    # a single action moves the first tensor only; a mask that stays is not equivariant
    first = eq.equitune(inner, ROT8, ROT8)
    assert eq.equivariance_error(first, (x,)) < 1e-5
    assert torch.equal(first(x), first(image=x))
    assert eq.equivariance_error(first, (x, mask), {0: ROT8, 1: ROT8}, ROT8) > 1e-2


WORDS = {"(1 2)": [0, 2, 1, *range(3, 11)], "(0 1)": [1, 0, 2, *range(3, 11)]}


def tiny_gpt2() -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return GPT2LMHeadModel(config).eval()


def tiny_bert() -> BertForSequenceClassification:
    config = BertConfig(
        vocab_size=11,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=8,
    )
    return BertForSequenceClassification(config).eval()


def test_a_hugging_face_language_model():
    words = eq.TokenPermutation(S3, WORDS)
    net = tiny_gpt2()
    model = eq.equitune(net, {"input_ids": words}, {"logits": eq.Permutation(S3, WORDS)})
    ids, mask = torch.randint(0, 11, (2, 5)), torch.ones(2, 5, dtype=torch.long)
    mask[0, :2] = 0
    call = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    out = model(**call)
    assert type(out) is type(net(**call)) and list(out.keys()) == ["logits"]
    assert out.logits.shape == (2, 5, 11)
    assert eq.equivariance_error(model, call) < 1e-5
    assert eq.equivariance_error(net, call, model.in_actions, model.out_actions) > 1e-2
    with pytest.raises(ValueError, match=r"past_key_values.*use_cache=False"):
        model(input_ids=ids)


def test_a_hugging_face_classifier_with_hidden_states():
    words = eq.TokenPermutation(S3, WORDS)
    model = eq.equizero(tiny_bert(), {"input_ids": words}, loss=lambda out: eq.entropy(out.logits))
    ids = torch.randint(0, 11, (2, 5))
    call = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "output_hidden_states": True}
    out = model(**call)
    assert out.logits.shape == (2, 2) and len(out.hidden_states) == 2
    assert eq.equivariance_error(model, call) < 1e-5


# -- it is a module like any other ------------------------------------------------------------


@methods
def test_the_model_is_registered(method):
    model = wrap(method, CASES[2])
    inner = {f"model.{k}" for k, _ in model.model.named_parameters()}
    outer = {k for k, _ in model.named_parameters()}
    assert inner <= outer and all(k.startswith("weighting.") for k in outer - inner)
    keys = list(model.train().state_dict())
    assert keys == list(model.eval().state_dict())
    assert not any("action" in key for key in keys)
    assert not model.train(False).model.training and model.train().model.training
    doubled = model.double()
    assert doubled(CASES[2].x(torch.float64)).dtype == torch.float64


@methods
def test_copies_and_files(method):
    case = CASES[3]
    model, x = wrap(method, case), case.x()
    model.model(x)  # a run of the bare model, with gradients, must leave nothing that hinders
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), model(x))
    with torch.no_grad():
        for p in twin.model.parameters():
            p.mul_(2)
    assert not torch.allclose(twin(x), model(x))  # its hooks look at its own layers

    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = wrap(method, case)
    assert not torch.allclose(other(x), model(x))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x), model(x))


@pytest.mark.parametrize("method", ["equitune", "lambda on hidden", "equiattention"])
def test_whole_modules_are_saved(method):
    case = CASES[3]
    model, x = wrap(method, case), case.x()
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), model(x))


def test_the_state_dict_of_the_model_loads_back_into_it():
    model = wrap("lambda on hidden", CASES[2])
    fresh = score_net()
    fresh.load_state_dict(model.model.state_dict())
    x = images()
    assert torch.equal(fresh(x), model.model(x))


def test_apply_reaches_every_module():
    """The actions among a model's modules leave nn.Module.apply alone."""
    seen = []
    model = eq.equitune(score_net(), ROT)
    assert model.apply(lambda m: seen.append(m)) is model
    assert model in seen and model.model.outer in seen and len(seen) == len(list(model.modules()))


@methods
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(method, dtype):
    case = CASES[3]
    model, x = wrap(method, case), case.x()
    with torch.autocast("cpu", dtype):
        y = model(x)
        plain = model.model(x)
        y.float().sum().backward()
    assert y.dtype == plain.dtype == dtype
    assert all(p.grad is not None for p in model.model.parameters())
    if "equizero" not in method:  # rounding may change which view is the best
        full = model(x)
        assert (y.float() - full).abs().max() < 0.05 * full.abs().max()


@methods
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compile_without_a_graph_break(method, backend):
    case = CASES[3]
    model, x = wrap(method, case), case.x()
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(x), model(x))
    compiled(x).sum().backward()
    assert model.model.inner.weight.grad.abs().max() > 0


@methods
def test_compiled_under_autocast(method):
    """One graph, and what the same model gives under autocast without being compiled."""
    case = CASES[3]
    assert case.ins.group == D4
    model, x = wrap(method, case), case.x()
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        y, eager = compiled(x), model(x)
    assert y.dtype == eager.dtype == torch.bfloat16
    if "equizero" not in method:  # rounding may change which view is the best
        assert (y - eager).abs().max() <= 0.02 * eager.abs().max()


def test_a_graph_break_would_be_noticed():
    torch.compiler.reset()
    broken = lam(lambda x: torch._dynamo.graph_break() or x.exp()[:, 0])
    broken(images())
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(broken, fullgraph=True, backend="eager")(images())


def test_compile_with_tokens_and_keywords():
    words = eq.TokenPermutation(S3, WORDS)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net((5,), (11,), vocabulary=11)

        def forward(self, ids, mask):
            return {"logits": self.net(ids * mask)}

    torch.compiler.reset()
    model = eq.equitune(Model(), {"ids": words}, {"logits": eq.Permutation(S3, WORDS)})
    call = {"ids": torch.randint(0, 11, (2, 5)), "mask": torch.ones(2, 5, dtype=torch.long)}
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**call), model(**call))


# -- bad input --------------------------------------------------------------------------------


class Returns(nn.Module):
    """A model that returns what the function makes of its input."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, *rest):
        return self.function(x)


def lam(function):
    return eq.lambda_equitune(score_net(), ROT, weight_net=Returns(function))


def zero(function):
    return eq.equizero(score_net(), ROT, loss=function)


X = torch.randn(3, 2, 4, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: eq.equitune(map_net(), ROT, ROT8),
            ValueError,
            r"input action is of C4 \(order 4\) but the output action of D4 \(order 8\)",
        ),
        (
            lambda: eq.equitune(map_net(), {0: ROT, 1: ROT8}),
            ValueError,
            "actions of different groups, C4 .* and D4",
        ),
        (lambda: eq.equitune(map_net().forward, ROT), TypeError, "an nn.Module.*got method"),
        (lambda: eq.equitune(map_net(), C4), TypeError, "expected an Action.*got FiniteGroup"),
        (lambda: eq.equitune(map_net(), {}), TypeError, "expected an Action"),
        (lambda: eq.equitune(map_net(), ROT, {0: "rot"}), TypeError, "expected an Action"),
        (
            lambda: eq.equitune(map_net(), ROT)(torch.randn(3, 2, 4, 5)),
            ValueError,
            r"square images.*got shape \(3, 2, 4, 5\)",
        ),
        (
            lambda: eq.equitune(Returns(lambda x: x[..., :3]), ROT, ROT)(X),
            ValueError,
            r"the output action does not fit output: .*square.*got shape \(3, 2, 4, 3\)",
        ),
        (
            lambda: eq.equitune(
                Returns(lambda x: {"a": x[:, 0, 0]}), ROT, {"a": eq.Regular(C4, 2)}
            )(X),
            ValueError,
            r"does not fit output\['a'\]: this action permutes 4 entries along dimension 2",
        ),
        (
            lambda: eq.equitune(Returns(lambda x: {"a": x}), ROT, {"b": ROT})(X),
            ValueError,
            r"the output action names 'b', but the output has \['a'\]",
        ),
        (lambda: eq.equitune(map_net(), ROT, {"maps": ROT})(X), ValueError, r"output has \[0\]"),
        (
            lambda: eq.equitune(Returns(lambda x: x.mean()), ROT)(X),
            ValueError,
            r"output has shape \(\); .* \|G\| x B = 4 x 3 = 12.*a loss, say",
        ),
        (
            lambda: eq.equitune(Returns(lambda x: x.mean(0)), ROT)(X),
            ValueError,
            r"output has shape \(2, 4, 4\)",
        ),
        (lambda: eq.equitune(Returns(lambda x: 1.5), ROT)(X), ValueError, "output is a float"),
        (
            lambda: eq.equitune(Returns(lambda x: (x, ["ants"])), ROT)(X),
            ValueError,
            r"output\[1\]\[0\] is a str, which has no group average",
        ),
        (
            lambda: eq.equitune(Returns(lambda x: x.flatten(1).argmax(1)), ROT)(X),
            ValueError,
            "dtype torch.int64 has no average.*argmax after the average",
        ),
        (
            lambda: eq.equitune(map_net(), {"image": ROT})(X),
            ValueError,
            r"names argument 'image', but the call has \['x'\]",
        ),
        (
            lambda: eq.equitune(map_net(), ROT)([X[0], X[1]]),
            ValueError,
            r"argument 'x' is a list of 2: make it one tensor.*torch.stack\(images\)",
        ),
        (lambda: eq.equitune(map_net(), ROT)(), ValueError, "no tensor with a batch dimension"),
        (
            lambda: eq.equitune(map_net(), {0: ROT})(torch.tensor(1.0)),
            ValueError,
            "no tensor with a batch dimension",
        ),
        (
            lambda: eq.equitune(TwoInputs(), ROT)(X, torch.ones(2, 4, 4)),
            ValueError,
            "argument 'mask' has 2 rows but the input 3",
        ),
        (
            lambda: eq.equitune(TwoInputs(), {0: ROT, 1: ROT})(X, torch.ones(2, 4, 4)),
            ValueError,
            "argument 'mask' has 2 rows but the input 3",
        ),
        (lambda: zero("entropy"), TypeError, "loss must be a function.*got 'entropy'"),
        (
            lambda: zero(lambda y: eq.entropy(y).mean())(X),
            ValueError,
            r"loss of equizero must return one number per view, shape .* = \(12,\); got \(\)",
        ),
        (lambda: zero(lambda y: y)(X), ValueError, r"got \(12, 5\)"),
        (
            lambda: eq.equizero(nn.Sequential(score_net(), Pair()), ROT, loss=eq.entropy)(X),
            TypeError,
            r"whole output, of type tuple, .*loss=lambda out: entropy\(out.logits\), or out\[0\]",
        ),
        (lambda: zero(lambda y: y.logit_scale)(X), AttributeError, "^'Tensor' object has no"),
        (
            lambda: eq.equitune(map_net(), ROT, (ROT, None)),
            TypeError,
            r"position, such as \{0: Rot",
        ),
        (lambda: zero(lambda y: None)(X), ValueError, "got NoneType"),
        (lambda: zero(lambda y: y[:, 0] * torch.nan)(X), ValueError, "loss of equizero is NaN"),
        (lambda: lam(lambda y: y)(X), ValueError, r"the lambda net must.*got \(12, 5\)"),
        (lambda: lam(lambda y: -y[:, 0].abs())(X), ValueError, "finite numbers >= 0.*softplus"),
        (lambda: lam(lambda y: 0 * y[:, 0])(X), ValueError, "not 0 for all views"),
        (lambda: lam(lambda y: torch.nan * y[:, 0])(X), ValueError, "finite numbers >= 0"),
        (lambda: lam(lambda y: torch.inf + y[:, 0])(X), ValueError, "finite numbers >= 0"),
        (
            lambda: eq.lambda_equitune(
                score_net(), ROT, weight_net=nn.Identity(), features="avgpol"
            ),
            ValueError,
            r"no submodule 'avgpol'.*begin with \['embed', 'inner', 'hidden', 'outer'\]",
        ),
        (
            lambda: eq.lambda_equitune(
                Returns(lambda x: {"a": x}), ROT, weight_net=eq.LambdaNet(2)
            )(X),
            TypeError,
            "the features must be one tensor, got dict",
        ),
        (
            lambda: eq.lambda_equitune(
                nn.Sequential(Returns(lambda x: x.sum(0)), Returns(lambda x: X.repeat(4, 1, 1, 1))),
                ROT,
                weight_net=eq.LambdaNet(2),
                features="0",
            )(X),
            ValueError,
            r"the features must have one row per view, \|G\| x B = 12; got shape \(2, 4, 4\)",
        ),
        (
            lambda: eq.lambda_equitune(score_net(), ROT, weight_net=eq.LambdaNet(7))(X),
            ValueError,
            r"takes 7 features but got 5 .*make it with LambdaNet\(5\), or name a layer that gives 7",
        ),
        (
            lambda: eq.equiattention(score_net(), ROT, dim=7)(X),
            ValueError,
            "has dim=7, but one view has 5 features: make it with dim=5",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_group_average_by_itself():
    """The one formula, on outputs that someone else computed."""
    y = torch.randn(4 * 3, 2, 4, 4)
    torch.testing.assert_close(
        eq.group_average(y, ROT), eq.group_average(y, ROT, torch.full((4, 3), 0.25))
    )
    one_hot = torch.zeros(4, 3)
    one_hot[1] = 1
    assert torch.equal(eq.group_average(y, ROT, one_hot), ROT("r3", y[3:6]))
    assert eq.group_average(y, eq.Trivial(C2)).shape == (6, 2, 4, 4)


@pytest.mark.parametrize(
    "weights, got", [(torch.ones(3, 4), r"\(3, 4\)"), ([0.25] * 4, "list")], ids=["shape", "list"]
)
def test_weights_that_do_not_fit_are_named(weights, got):
    with pytest.raises(ValueError, match=rf"shape \(\|G\|, B\) = \(4, 3\); got {got}"):
        eq.group_average(torch.randn(4 * 3, 2, 4, 4), ROT, weights)


@pytest.mark.parametrize(
    "outputs, error, message",
    [
        ("scores", TypeError, "the outputs must be a tensor, got str"),
        (torch.ones(4, 2, dtype=torch.long), ValueError, "dtype torch.int64 has no average"),
        (torch.tensor(1.0), ValueError, r"with \|G\| = 4; got shape \(\)"),
        (torch.ones(6, 2, 2), ValueError, r"with \|G\| = 4; got shape \(6, 2, 2\)"),
        (torch.ones(4, 2, 3), ValueError, "square images"),
    ],
)
def test_outputs_without_an_average(outputs, error, message):
    with pytest.raises(error, match=message):
        eq.group_average(outputs, ROT)


MIXING = {
    "C4": ROT,
    "D4": eq.Rotations(eq.dihedral(4)),
    "half turn": eq.Rotations(C2),
    "left-right": eq.Flip(),
    "up-down": eq.Flip("vertical"),
    "product": eq.ProductAction(
        eq.direct_product(C2, C2), [eq.Flip(), eq.Flip("vertical")], torch.ones(1, 1, 3, 3)
    ),
}


@pytest.mark.parametrize("action", MIXING.values(), ids=MIXING)
def test_an_action_on_images_does_not_mix_the_rows_of_a_batch_of_scores(action):
    n = len(action.group)
    message = r"moves the last 2 dimensions, and the batch comes before.*\(5, 5\)"
    with pytest.raises(ValueError, match=message):
        eq.group_average(torch.randn(n * 5, 5), action)  # as many rows as scores: a square
    with pytest.raises(ValueError, match="the output action does not fit output: .*" + message):
        eq.equitune(Returns(lambda x: x[:, 0]), action, action)(torch.randn(5, 5, 5))
    with pytest.raises(ValueError, match=message):
        action.views(torch.randn(5, 5))
    assert action.views(torch.randn(5, 5)[None]).shape == (n, 5, 5)


def test_weights_elsewhere_are_refused():
    with pytest.raises(ValueError, match="the weights are on meta, the outputs on cpu"):
        eq.group_average(torch.ones(4, 2, 2), ROT, torch.ones(4, 1, device="meta"))


def test_a_wrapper_says_its_actions():
    model = eq.equitune(score_net(), {0: ROT})
    assert model.in_action is ROT
    assert isinstance(model.out_action, eq.Trivial) and model.out_action.group == ROT.group


def test_the_uniform_average_takes_one_output_after_the_other():
    """In the order of the elements; what it is given stays as it was, and gets its gradient."""
    y = torch.randn(4, 3, 2, 4, 4, requires_grad=True)
    before = y.detach().clone()
    alive = []

    def views():
        for g in range(4):
            alive.append(g)
            yield y[g]

    mean = uniform_average(views(), ROT)
    assert alive == [0, 1, 2, 3] and torch.equal(y, before)
    torch.testing.assert_close(mean, sum(ROT(~ROT.group[g], y[g]) for g in range(4)) / 4)
    mean.sum().backward()
    assert torch.equal(y.grad, torch.full_like(y, 0.25))
    assert (
        eq.group_average(y[:1].flatten(0, 1), eq.Trivial(eq.cyclic(1))).data_ptr() != y.data_ptr()
    )


def test_an_infinite_score_in_a_view_of_no_weight_does_no_harm():
    """Language models mask scores with -inf; 0 * inf would be NaN."""
    rename = eq.Permutation(eq.cyclic(3))
    scores = torch.tensor([[1.0, 2.0, -torch.inf], [0.0, 5.0, 1.0], [torch.inf, 0.0, 0.0]])
    weights = torch.tensor([[1.0], [0.0], [0.0]])
    assert torch.equal(eq.group_average(scores, rename, weights), scores[:1])
    scores.requires_grad_()
    eq.group_average(scores[:, :2], eq.Trivial(rename.group), weights).sum().backward()
    assert torch.equal(scores.grad, torch.tensor([[1.0, 1, 0], [0, 0, 0], [0, 0, 0]]))


def test_nor_does_it_where_the_gradient_is_straight_through():
    rename = eq.Permutation(eq.cyclic(3))
    scores = torch.tensor([[1.0, 2.0, 3.0], [0.0, 5.0, -torch.inf], [4.0, 0.0, 0.0]])
    scores.requires_grad_()
    weights = torch.tensor([[1.0], [0.0], [0.0]])
    chosen = eq.group_average(scores, rename, weights, straight_through=True)
    assert torch.equal(chosen, scores[:1])
    chosen.sum().backward()
    assert scores.grad.isfinite().all() and scores.grad[0].any()


@pytest.mark.parametrize("group", [eq.cyclic(3), eq.dihedral(4)], ids=repr)
def test_a_wrapper_says_its_weights(group):
    """They add up to 1, follow the views when x moves, and are those of the average."""
    torch.manual_seed(0)
    swap = eq.Regular(group)
    n = len(group)
    net = nn.Linear(n, 2, dtype=torch.float64)
    x = torch.randn(5, n, dtype=torch.float64)
    for model in (
        eq.equitune(net, swap),
        eq.equizero(net, swap, loss=eq.max_value),
        eq.lambda_equitune(net, swap, weight_net=eq.LambdaNet(2).double()),
    ):
        model.eval()
        w = model.weights(x)
        assert w.shape == (n, 5)
        torch.testing.assert_close(w.sum(0), torch.ones_like(w[0]))
        views = net(swap.views(x)).unflatten(0, (n, 5))
        torch.testing.assert_close((w[..., None] * views).sum(0), model(x))
        for h in range(n):  # the view g of h x is the view g h of x
            there = model.weights(swap.act(h, x))
            torch.testing.assert_close(there, w[group.table[:, h]])
