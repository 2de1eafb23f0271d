"""Weightings and losses, by values known by hand."""

import math

import pytest
import torch
from torch import nn

import equitutor as eq
from equitutor.weights import AttentionWeights, LearnedWeights, LeastLoss, Uniform, shared_by_ties


def logits(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


# -- losses -----------------------------------------------------------------------------------


def test_entropy_is_minus_sum_p_log_p():
    p = [0.5, 0.25, 0.25]
    by_hand = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))  # 1.5 log 2 = 1.0397
    assert by_hand == pytest.approx(1.5 * math.log(2))
    assert eq.entropy(logits(*p)).item() == pytest.approx(by_hand, rel=1e-6)
    # and not, as in published code, log p * log p
    assert sum(math.log(q) ** 2 for q in p) != pytest.approx(by_hand, rel=0.1)
    assert eq.entropy(torch.zeros(3, 8)).tolist() == pytest.approx([math.log(8)] * 3)
    assert eq.entropy(torch.tensor([[100.0, 0.0]])).item() == pytest.approx(0.0, abs=1e-30)


def test_entropy_takes_logits_and_masked_ones():
    y = torch.randn(4, 5, dtype=torch.float64)
    torch.testing.assert_close(eq.entropy(y), eq.entropy(y + 7))  # a softmax is inside
    expected = torch.distributions.Categorical(logits=y).entropy()
    torch.testing.assert_close(eq.entropy(y), expected)
    masked = torch.cat([y, torch.full((4, 1), -torch.inf)], 1).requires_grad_()  # 0 log 0 = 0
    torch.testing.assert_close(eq.entropy(masked), expected)
    eq.entropy(masked).sum().backward()
    assert masked.grad.isfinite().all()


def test_the_other_losses():
    y = logits(0.5, 0.3, 0.2)
    assert eq.top_probability(y).item() == pytest.approx(-0.5)
    assert eq.top_probability(y + 3).item() == pytest.approx(-0.5)
    assert eq.max_value(torch.tensor([[-3.0, 2.0], [5.0, 1.0]])).tolist() == [-2.0, -5.0]


def test_each_loss_prefers_the_confident_view():
    """Less is better: equizero that picks the least confident g is a known mistake."""
    sure, unsure = logits(0.9, 0.05, 0.05), logits(0.4, 0.3, 0.3)
    for loss in (eq.entropy, eq.top_probability, eq.max_value):
        assert loss(sure) < loss(unsure)


# -- weightings -------------------------------------------------------------------------------


def test_uniform_is_none():
    assert Uniform()(torch.ones(4, 2), (), 4, 1) is None


def test_least_loss_by_hand():
    """Three views (rows) of two inputs (columns), the views slowest."""
    losses = torch.tensor([[3.0, 1.0], [2.0, 1.0], [4.0, 5.0]])
    weighting = LeastLoss(lambda y: y[:, 0])
    weights = weighting(losses.reshape(6, 1), (), 3, 2)
    assert weights.tolist() == [[0.0, 0.5], [1.0, 0.5], [0.0, 0.0]]
    assert not weights.requires_grad and weighting.straight_through


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.int64, torch.float32),
    ],
)
def test_a_shared_weight_is_not_rounded_more_than_it_must(dtype, expected):
    weights = LeastLoss(lambda y: y[:, 0])(torch.zeros(3, 1, dtype=dtype), (), 3, 1)
    assert weights.dtype == expected
    assert weights.sum().item() == pytest.approx(1, abs=torch.finfo(expected).eps)


def test_learned_weights_by_hand():
    weights = LearnedWeights(nn.Identity())(torch.tensor([[1.0], [3.0], [3.0], [1.0]]), (), 2, 2)
    assert weights.tolist() == [[0.25, 0.75], [0.75, 0.25]]
    # a lambda of zero for some views is allowed
    weights = LearnedWeights(nn.Identity())(torch.tensor([[0.0], [2.0]]), (), 2, 1)
    assert weights.tolist() == [[0.0], [1.0]]


def test_attention_weights_by_hand():
    """softmax_g of <query of the mean, key of the view> / sqrt(key_dim)."""
    torch.manual_seed(0)
    weighting = AttentionWeights(5, key_dim=3)
    views = torch.randn(4, 2, 5)
    got = weighting(views.flatten(0, 1), (), 4, 2)
    for b in range(2):
        query = weighting.query(views[:, b].mean(0))
        scores = torch.stack([weighting.key(views[g, b]) @ query / 3**0.5 for g in range(4)])
        torch.testing.assert_close(got[:, b], scores.softmax(0))
    order = torch.tensor([2, 0, 3, 1])  # the weights follow the views
    torch.testing.assert_close(weighting(views[order].flatten(0, 1), (), 4, 2), got[order])


# -- the lambda net ---------------------------------------------------------------------------


def test_features_inside_an_average_are_refused():
    """It runs them on views of its own, in its own order: the rows would be another sample's."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.Linear(6, 2))
    points = eq.Regular(eq.dihedral(4))
    inner = eq.canonicalize(net, points, chooser=nn.Linear(8, 1))
    head = nn.Sequential(inner, nn.Linear(2, 3))

    def wrap(model, features, width):
        net = eq.LambdaNet(width)
        return eq.lambda_equitune(model, points, weight_net=net, features=features).eval()

    for model, features, said in (
        (inner, "model.1", "the model's own average.*leave out features"),
        (head, "0.model.1", "name the average itself, '0'"),
    ):
        with pytest.raises(ValueError, match=f"is inside .*{said}"):
            wrap(model, features, 6)
    x = torch.randn(5, 8)
    for model, features, width in ((inner, None, 2), (head, "0", 2), (head, "1", 3)):
        assert eq.equivariance_error(wrap(model, features, width), x) < 1e-5


def test_the_lambda_net():
    net = eq.LambdaNet(12)
    widths = [m.out_features for m in net.modules() if isinstance(m, nn.Linear)]
    assert widths == [100, 100, 1]
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    y = net.eval()(torch.randn(7, 3, 2, 2))
    assert y.shape == (7,) and (y > 0).all()
    assert not torch.equal(net.train()(torch.ones(7, 12)), net(torch.ones(7, 12)))  # dropout
    narrow = eq.LambdaNet(12, hidden=4, dropout=0.0)
    assert [m.out_features for m in narrow.modules() if isinstance(m, nn.Linear)] == [4, 4, 1]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_lambda_stays_positive_in_every_precision(dtype, expected):
    net = eq.LambdaNet(2).to(dtype).eval()
    with torch.no_grad():
        net.net[-1].bias.fill_(-200)
    y = net(torch.randn(3, 2, dtype=dtype))
    assert y.dtype == expected and (y > 0).all()


@pytest.mark.parametrize("entries", [1, 127, 128, 129, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.int64, torch.bool])
def test_views_tie_if_they_agree_in_every_entry(dtype, entries):
    """In one entry, which is another in each row, the third view differs; in the last the fourth is NaN."""
    torch.manual_seed(0)
    one = (torch.rand(3 * entries, entries) * 9).to(dtype)
    tells = dtype.is_floating_point or dtype.is_complex
    rows = torch.arange(len(one))
    views = torch.stack([one, one * (1 + 1e-7) if tells else one, one, one])
    other = one.logical_not() if dtype is torch.bool else one + 1
    views[2, rows, rows % entries] = other[rows, rows % entries]
    views[1, ::2] = other[::2]
    if tells:
        views[3, :, -1] = math.nan
    same = torch.ones(4, len(one))
    same[2], same[1, ::2], same[3] = 0, 0, not tells
    loss = torch.arange(4.0)[:, None].expand(4, len(one))  # the first view has the least
    weights = shared_by_ties(loss, 0.0, (views.flatten(0, 1),), 4)
    assert torch.equal(weights, same / same.sum(0))
