from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import equitutor as eq
from equitutor.sequences import decoding, scan_data
from equitutor.sequences.decoding import (
    attention,
    decode,
    decode_apart,
    loss,
    same,
    surprise,
    unroll,
)
from equitutor.sequences.layers import Attend, LSTMStep
from equitutor.sequences.scan_data import ACTIONS, COMMANDS
from equitutor.sequences.seq2seq import CELLS, EquiSeq2Seq, Seq2Seq, restore
from equitutor.sequences.vocabulary import EOS, SOS, lengths
from equitutor.sequences.wordgroups import word_symmetry
from equitutor.weights import LearnedWeights, LeastLoss

VERB = (("jump", "run"), ("JUMP", "RUN"))
DIRECTION = (("left", "right"), ("TURN_LEFT", "TURN_RIGHT"))
VERBS = (("walk", "look", "run", "jump"), ("WALK", "LOOK", "RUN", "JUMP"))
SYMMETRIES = {
    "verb": word_symmetry(COMMANDS, ACTIONS, VERB),
    "verbs C4": word_symmetry(COMMANDS, ACTIONS, VERBS),
    "verb x direction": word_symmetry(COMMANDS, ACTIONS, VERB, DIRECTION),
    "verbs C4 x direction": word_symmetry(COMMANDS, ACTIONS, VERBS, DIRECTION),
}
WEIGHTINGS = {
    "uniform": lambda: None,
    "equizero": lambda: LeastLoss(eq.entropy),
    "lambda": lambda: LearnedWeights(eq.LambdaNet(16, 8), "features"),
}


def small(cell="LSTM", symmetry=None, seed=0, **kw):
    """A small random network, livelier than a fresh one so that it says different things."""
    torch.manual_seed(seed)
    net = Seq2Seq(cell, embedding=8, hidden=8, symmetry=symmetry, **kw)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2)
    return net.eval()


def sentences(count=24, seed=0):
    found = scan_data.commands()
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))[:count]
    names = list(found)
    chosen = [names[i] for i in order.tolist()]
    return COMMANDS.encode(chosen), ACTIONS.encode([found[c] for c in chosen])


@lru_cache
@torch.enable_grad()
def trained(name=None):
    """A small LSTM, plain or G-, that has learned half of the short commands: it says many things."""
    found = {c: a for c, a in scan_data.commands().items() if len(c.split()) <= 4}
    source, target = COMMANDS.encode(list(found)), ACTIONS.encode(list(found.values()))
    symmetry = SYMMETRIES[name] if name else None
    torch.manual_seed(0)
    net = Seq2Seq("LSTM", embedding=12, hidden=12, dropout=0, symmetry=symmetry)
    optimizer = torch.optim.Adam(net.parameters(), 2e-2)
    for _ in range(100):
        rows = torch.randint(len(source), (48,))
        optimizer.zero_grad()
        loss(net, source[rows], target[rows, :14], torch.rand(48) < 0.5).backward()
        optimizer.step()
    return net.eval()


# -- the network, against a loop over one sentence and one word at a time ----------------------------


def torch_twin(net):
    """The same weights in torch's own recurrent layers."""
    size, cell = net.read.weight.shape[1], net.cell
    hidden = net.cell_on.weight.shape[1]
    encoder = getattr(nn, cell)(size, hidden // 2, bidirectional=True)
    for layer, end in (("forward", "l0"), ("backward", "l0_reverse")):
        for part, name in (("in", "ih"), ("on", "hh")):
            own = getattr(net, f"{layer}_{part}")
            getattr(encoder, f"weight_{name}_{end}").data = own.weight.data
            getattr(encoder, f"bias_{name}_{end}").data = own.bias.data
    decoder = getattr(nn, f"{cell}Cell")(hidden, hidden)
    for part, name in (("in", "ih"), ("on", "hh")):
        own = getattr(net, f"cell_{part}")
        getattr(decoder, f"weight_{name}").data = own.weight.data
        getattr(decoder, f"bias_{name}").data = own.bias.data
    return encoder.double(), decoder.double()


def one_by_one(net, source, target=None, steps=50):
    """Scores of one sentence, (T,) ids, fed the target or what it says itself."""
    encoder, decoder = torch_twin(net)
    keys, state = encoder(net.read(source))
    state = state if isinstance(state, tuple) else (state,)
    state = tuple(torch.cat([s[0], s[1]]) for s in state)
    word, scores = torch.tensor(SOS), []
    for step in range(steps if target is None else len(target)):
        attention = (keys @ state[0]).softmax(0)
        x = net.combine(torch.cat([net.write(word), attention @ keys])).relu()
        state = decoder(x, state if len(state) > 1 else state[0])
        state = state if isinstance(state, tuple) else (state,)
        scores.append(net.score(state[0]))
        word = scores[-1].argmax() if target is None else target[step]
        if word == EOS:
            break
    return torch.stack(scores)


@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_batched_equals_one_sentence_at_a_time(cell):
    net = small(cell).double()
    source, target = sentences()
    scores, fed = unroll(net, source, target)
    assert fed[:, 0].eq(SOS).all() and torch.equal(fed[:, 1:], target[:, :-1])
    said = decode(net, source)
    for i, (n, s) in enumerate(zip(lengths(source), lengths(target), strict=True)):
        expected = one_by_one(net, source[i, :n], target[i])
        assert torch.allclose(scores[i, :s], expected, atol=1e-12)
        words = one_by_one(net, source[i, :n]).argmax(1)
        assert torch.equal(said[i, : len(words)], words)
        assert said[i, len(words) :].eq(EOS).all()


@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_padding_makes_no_difference(cell):
    for net in (small(cell), small(cell, SYMMETRIES["verb"])):
        net = net.double()
        source, target = sentences()
        wide, long = (nn.functional.pad(x, (0, 5), value=EOS) for x in (source, target))
        narrow_scores, _ = unroll(net, source, target)
        scores, _ = unroll(net, wide, target)
        assert torch.allclose(narrow_scores, scores, atol=1e-12)
        assert loss(net, source, target).item() == pytest.approx(loss(net, wide, long).item())
        assert torch.equal(decode(net, source), decode(net, wide))


@torch.no_grad()
def test_small_batches_say_the_same():
    for net in (trained(), EquiSeq2Seq(trained(), SYMMETRIES["verbs C4"])):
        source, _ = sentences(40)
        said = decode(net, source)
        assert same(decode(net, source, batch_size=1), said).all()
        assert same(decode(net, source, batch_size=7), said).all()
        assert len(lengths(said).unique()) > 3  # so sentences left the batch one after another


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", SYMMETRIES)
def test_decoding_computes_what_training_does(cell, name):
    """Without gradients a step is computed in place: the same numbers, and nobody else's changed."""
    model = EquiSeq2Seq(small(cell), SYMMETRIES[name])
    source, target = sentences()
    trained = unroll(model, source, target)[0].detach()
    with torch.no_grad():
        decoded = unroll(model, source, target)[0]
        again = unroll(model, source, target)[0]
    torch.testing.assert_close(decoded, trained, rtol=1e-5, atol=1e-5)
    assert torch.equal(decoded, again)


@torch.no_grad()
def test_an_impatient_decoder_stops():
    net = small()
    net.score.bias[EOS] = -1e4
    assert decode(net, sentences(3)[0], steps=6).shape == (3, 6)
    net.score.bias[EOS] = 1e4
    assert decode(net, sentences(3)[0], steps=6).tolist() == [[EOS]] * 3


@pytest.mark.parametrize("share", [1.0, -0.1, float("nan")])
def test_a_dropout_that_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match=rf"from 0 up to 1 \(excluded\); got {share}"):
        Seq2Seq(dropout=share)


def test_dropout_keeps_the_mean_and_drops_its_share(monkeypatch):
    net = Seq2Seq(embedding=200, hidden=4, dropout=0.3).train()
    with torch.no_grad():
        net.write.weight.fill_(1)
    seen = []
    monkeypatch.setattr(torch.nn.functional, "linear", lambda x, w, b: (seen.append(x), x @ w.T)[1])
    run = net.begin(sentences(50)[0])
    net.step(run, torch.zeros(50, dtype=torch.long))
    word = next(x for x in seen if x.shape == (50, 400))
    assert word.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (word == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_decoding_turns_dropout_off_and_back_on():
    net = small(dropout=0.9).train()
    source, _ = sentences()
    assert torch.equal(decode(net, source), decode(net, source))
    assert net.training


# -- the loss ---------------------------------------------------------------------------------------


def test_the_loss_counts_each_word_once():
    net = small().double()
    source, target = sentences(6)
    scores, _ = unroll(net, source, target)
    parts = [
        cross_entropy(s[:n], t[:n], reduction="sum")
        for s, t, n in zip(scores, target, lengths(target), strict=True)
    ]
    expected = sum(parts) / lengths(target).sum()
    assert loss(net, source, target).item() == pytest.approx(expected.item(), rel=1e-12)


def test_without_teacher_forcing_the_model_is_fed_what_it_said():
    net = small().double()
    source, target = sentences(40)
    forced = torch.arange(40) % 2 == 0
    scores, fed = unroll(net, source, target, forced)
    assert torch.equal(fed[forced, 1:], target[forced, :-1])
    free, words = fed[~forced, 1:], scores[~forced, :-1].argmax(-1)
    there = torch.arange(1, fed.shape[1]) < lengths(target)[~forced, None]
    assert torch.equal(free[there], words[there])
    # A sentence that the model ended is judged no further.
    total = words = 0
    for s, f, t, n in zip(scores, fed, target, lengths(target), strict=True):
        end = min([n, *(f == EOS).nonzero()[:, 0].tolist()])
        total, words = total + cross_entropy(s[:end], t[:end], reduction="sum"), words + end
    assert loss(net, source, target, forced).item() == pytest.approx((total / words).item())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("weighting", [None, *WEIGHTINGS])
def test_sentences_that_leave_the_batch_change_nothing(cell, weighting, monkeypatch):
    model = small(cell)
    if weighting:
        model = EquiSeq2Seq(model, SYMMETRIES["verbs C4"], WEIGHTINGS[weighting]())
    model.double().eval()
    source, target = sentences(40)
    forced = torch.arange(40) % 3 > 0
    words, step = [], type(model).step
    monkeypatch.setattr(type(model), "step", lambda *a: (words.append(a[2]), step(*a))[1])
    counts, found = [], []
    # Nobody leaves; many at once; each as its target ends.
    for share in (0, decoding.COMPACT_BELOW, 1):
        monkeypatch.setattr(decoding, "COMPACT_BELOW", share)
        words.clear()
        model.zero_grad()
        value = loss(model, source, target, forced)
        value.backward()
        counts.append(sum(map(len, words)))
        found.append([value.detach(), *(p.grad.clone() for p in model.parameters())])
    assert counts[0] == target.numel() > counts[1] > counts[2] == lengths(target).sum()
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_reach_every_parameter(cell):
    source, target = sentences(16)
    forced = torch.arange(16) % 2 == 0
    models = [small(cell), small(cell, SYMMETRIES["verbs C4"])]
    models += [EquiSeq2Seq(small(cell), SYMMETRIES["verb"], make()) for make in WEIGHTINGS.values()]
    for model in models:
        model.train()
        loss(model, source, target, forced).backward()
        for name, p in model.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


def test_gradients_are_those_of_finite_differences():
    net = small("GRU").double()
    source, target = sentences(5)
    forced = torch.tensor([True, False, True, True, True])
    value = loss(net, source, target, forced)
    value.backward()
    for p in (net.read.weight, net.forward_on.weight, net.cell_in.weight, net.combine.bias):
        direction = torch.randn_like(p)
        with torch.no_grad():
            p.add_(direction, alpha=1e-6)
            after = loss(net, source, target, forced)
            p.sub_(direction, alpha=1e-6)
        slope = (after - value).item() / 1e-6
        assert slope == pytest.approx((p.grad * direction).sum().item(), rel=1e-3, abs=1e-6)


# -- equivariance -----------------------------------------------------------------------------------


def models(cell, symmetry):
    """All equivariant models of one symmetry."""
    found = {"G": small(cell, symmetry)}
    for name, make in WEIGHTINGS.items():
        found[name] = EquiSeq2Seq(small(cell), symmetry, make()).eval()
    return found


def moved_alike(say, symmetry, source, sentence=same):
    """For each g and sentence x whether say(g x) = g say(x)."""
    said = say(source)
    return torch.stack(
        [
            sentence(say(symmetry.read.act(g, source)), symmetry.write.act(g, said))
            for g in range(len(symmetry.group))
        ]
    )


def all_moved(symmetry, source, *others):
    """Sentences that every g but e moves: for the others some words, or views, have equal scores."""
    moved = [(symmetry.read.act(g, source) != source).any(1) for g in range(len(symmetry.group))]
    kept = torch.stack(moved[1:]).all(0)
    return tuple(x[kept] for x in (source, *others)) if others else source[kept]


@pytest.mark.parametrize("name", SYMMETRIES)
@pytest.mark.parametrize("cell", CELLS)
def test_scores_are_equivariant_to_rounding(cell, name):
    symmetry = SYMMETRIES[name]
    source, target = all_moved(symmetry, *sentences(40))
    assert len(source) > 5
    for model in models(cell, symmetry).values():
        model = model.double()

        def scores(x, y, model=model):
            return unroll(model, x, y)[0]

        ins = {0: symmetry.read, 1: symmetry.write}
        eq.assert_equivariant(scores, (source, target), ins, symmetry.score, tol=1e-12)


@pytest.mark.parametrize("name", SYMMETRIES)
@pytest.mark.parametrize("cell", CELLS)
def test_greedy_decoding_is_equivariant_token_for_token(cell, name):
    symmetry = SYMMETRIES[name]
    source = all_moved(symmetry, sentences(100)[0])
    assert len(source) > 10
    for model in models(cell, symmetry).values():
        assert moved_alike(lambda x, m=model: decode(m, x), symmetry, source).all()


@pytest.mark.parametrize("name", SYMMETRIES)
def test_so_is_that_of_trained_models(name):
    symmetry = SYMMETRIES[name]
    source = all_moved(symmetry, sentences(600)[0])
    assert len(source) > 80
    found = {key: EquiSeq2Seq(trained(), symmetry, make()) for key, make in WEIGHTINGS.items()}
    found["lambda"].weighting.net = eq.LambdaNet(24, 8)
    found["G"] = trained(name)
    for model in found.values():
        assert len(decode(model, source).unique(dim=0)) > 30
        assert moved_alike(lambda x, m=model: decode(m, x), symmetry, source).all()


@pytest.mark.parametrize("choose", [False, True])
def test_whole_sequences_decoded_apart_are_equivariant_but_not_the_same(choose):
    symmetry = SYMMETRIES["verb"]
    model = EquiSeq2Seq(trained(), symmetry)
    source = all_moved(symmetry, sentences(600)[0])

    def apart(x):
        return decode_apart(model, x, choose=choose)

    assert moved_alike(apart, symmetry, source).all()
    agree = same(decode(model, source), apart(source)).float().mean()
    assert 0.1 < agree < 1
    assert not same(apart(source), decode_apart(model, source, choose=not choose)).all()


def test_a_plain_model_is_not_equivariant():
    symmetry = SYMMETRIES["verb"]
    found = moved_alike(lambda x: decode(trained(), x), symmetry, sentences(300)[0])
    assert found[0].all()  # e moves nothing
    assert found[1].float().mean() < 0.9


def test_a_free_bias_of_the_scores_breaks_the_equivariance():
    """As in the published G- networks."""
    symmetry = SYMMETRIES["verb"]
    net = small(symmetry=symmetry).double()
    free = torch.randn(8, dtype=torch.float64)
    tied = net.scores
    source, target = sentences(20)
    ins = {0: symmetry.read, 1: symmetry.write}

    def scores(x, y):
        return unroll(net, x, y)[0]

    eq.assert_equivariant(scores, (source, target), ins, symmetry.score)
    net.scores = lambda run, hidden: tied(run, hidden) + free
    with pytest.raises(AssertionError, match="not equivariant"):
        eq.assert_equivariant(scores, (source, target), ins, symmetry.score)


def test_equal_scores_are_the_one_exception():
    """x = g x gives a word and its image the same score: no choice of one is equivariant."""
    symmetry = SYMMETRIES["verb"]
    model = EquiSeq2Seq(small(), symmetry).double()
    source = COMMANDS.encode(["walk left"])
    run = model.begin(source)
    scores = model.scores(run, model.step(run, torch.tensor([SOS])))[0]
    jump, go = ACTIONS.index("JUMP"), ACTIONS.index("RUN")
    assert scores[jump].item() == pytest.approx(scores[go].item(), abs=1e-12)


def test_equi_tuning_is_the_mean_of_the_views_moved_back():
    """By hand, view by view: each is fed the emitted word moved by its own g."""
    symmetry = SYMMETRIES["verbs C4"]
    net = small().double()
    source, _ = sentences(10)
    said = decode(EquiSeq2Seq(net, symmetry), source)
    runs = [net.begin(symmetry.read.act(g, source)) for g in range(4)]
    word, ended = torch.full((10,), SOS), torch.zeros(10, dtype=torch.bool)
    for emitted in said.unbind(1):
        views = [
            net.scores(r, net.step(r, symmetry.write.act(g, word))) for g, r in enumerate(runs)
        ]
        mean = sum(symmetry.score.undo(g, y) for g, y in enumerate(views)) / 4
        word = mean.argmax(1).masked_fill(ended, EOS)
        ended |= word == EOS
        assert torch.equal(word, emitted)


def test_equizero_takes_the_most_confident_view_at_each_step():
    symmetry = SYMMETRIES["verb"]
    net = small()
    model = EquiSeq2Seq(net, symmetry, LeastLoss(eq.entropy)).eval()
    source = all_moved(symmetry, sentences(20)[0])
    n = len(source)
    run = model.begin(source)
    hidden = model.step(run, torch.full((n,), SOS))
    views = net.scores(run, hidden).unflatten(0, (2, n))
    best = eq.entropy(views).argmin(0)
    expected = torch.stack([symmetry.score.undo(int(g), views[g, i]) for i, g in enumerate(best)])
    assert torch.allclose(model.scores(run, hidden), expected)


def test_lambda_weighs_by_the_decoders_features():
    symmetry = SYMMETRIES["verb"]
    weighting = LearnedWeights(eq.LambdaNet(16, 8), "features")
    model = EquiSeq2Seq(small(), symmetry, weighting).eval()
    source, _ = sentences(6)
    run = model.begin(source)
    hidden = model.step(run, torch.full((6,), SOS))
    lam = weighting.net(hidden).unflatten(0, (2, 6))
    lam = lam / lam.sum(0)
    views = model.model.scores(run, hidden).unflatten(0, (2, 6))
    expected = sum(lam[g, :, None] * symmetry.score.undo(g, views[g]) for g in range(2))
    assert torch.allclose(model.scores(run, hidden), expected, atol=1e-6)


def test_surprise_stops_at_the_end():
    scores = torch.zeros(1, 4, 8)
    scores[0, 0, 3] = 2.0
    scores[0, 1, EOS] = 3.0
    scores[0, 2:, 5] = 50.0  # padding: said with certainty, and of no account
    log_p = scores.log_softmax(-1)
    assert surprise(scores).item() == pytest.approx(-(log_p[0, 0, 3] + log_p[0, 1, EOS]).item())
    # In an ended sentence the padding costs nothing either.
    scores[0, 2:] = 0
    assert surprise(scores).item() == pytest.approx(-(log_p[0, 0, 3] + log_p[0, 1, EOS]).item())


def test_same_compares_whole_sentences():
    said = torch.tensor([[2, 3, EOS], [2, EOS, EOS], [2, 3, 4], [2, EOS, 5]])
    target = torch.tensor([[2, 3, EOS, EOS], [2, 3, EOS, EOS], [2, 3, 4, 5], [2, EOS, EOS, EOS]])
    assert same(said, target).tolist() == [True, False, False, True]
    assert same(target, said).tolist() == [True, False, False, True]


# -- the wrapper and checkpoints ----------------------------------------------------------------------


def test_the_wrapped_model_is_trained_moved_and_saved():
    net = small()
    model = EquiSeq2Seq(net, SYMMETRIES["verb"])
    assert {id(p) for p in model.parameters()} == {id(p) for p in net.parameters()}
    assert list(model.state_dict()) == [f"model.{name}" for name in net.state_dict()]
    fresh = EquiSeq2Seq(small(seed=1), SYMMETRIES["verb"])
    restore(fresh, model.state_dict())
    source, _ = sentences()
    assert torch.equal(decode(fresh, source), decode(model, source))


def test_the_shared_weights_are_few():
    plain, shared = small(), small(symmetry=SYMMETRIES["verbs C4"])
    run = shared.begin(sentences(2)[0])
    assert run.state[0].shape == (2, 16 * 4)
    free = sum(p.numel() for p in shared.cell_in.parameters())
    assert free < 4.1 * sum(p.numel() for p in plain.cell_in.parameters())  # not 16 times as many


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        ({"cell": "GRU"}, r"forward_in\.weight is .* in it but .* in the model"),
        ({"hidden": 4}, "of another architecture: "),
        ({"symmetry": SYMMETRIES["verb"]}, r"of another architecture: read\.weight"),
        ({"symmetry": SYMMETRIES["verbs C4"]}, r"of another architecture: read\.weight"),
    ],
)
def test_a_checkpoint_of_another_architecture_is_refused(kw, message):
    net = Seq2Seq(**{"embedding": 8, "hidden": 8, **kw})
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        restore(net, small().state_dict())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_wrapped_checkpoint_is_told_from_a_bare_one():
    with pytest.raises(ValueError, match=r"read\.weight is absent in it"):
        restore(small(), EquiSeq2Seq(small(), SYMMETRIES["verb"]).state_dict())


def test_other_bad_input():
    with pytest.raises(ValueError, match="RNN, GRU, LSTM; got 'lstm'"):
        Seq2Seq("lstm")
    with pytest.raises(ValueError, match="the symmetry moves 15 source words, the model has 9"):
        Seq2Seq(source=9, symmetry=SYMMETRIES["verb"])
    with pytest.raises(ValueError, match="outside the vocabulary"):
        decode(EquiSeq2Seq(small(), SYMMETRIES["verb"]), torch.tensor([[15, EOS]]))


def test_attention_is_on_the_words():
    source, _ = sentences(6)
    for model, views in ((trained(), 1), (EquiSeq2Seq(trained(), SYMMETRIES["verbs C4"]), 4)):
        said, looks = attention(model, source)
        assert same(said, decode(model, source)).all()
        assert looks.shape == (views, 6, said.shape[1], int(lengths(source).max()))
        assert torch.allclose(looks.sum(-1), torch.ones(()))
        assert not any(looks[:, i, :, n:].any() for i, n in enumerate(lengths(source)))


def test_runs_keep_what_they_are_told_to():
    net = small()
    run = net.begin(sentences(4)[0])
    kept = run.keep(torch.tensor([2, 0]))
    assert torch.equal(kept.keys, run.keys[[2, 0]])
    assert all(torch.equal(a, b[[2, 0]]) for a, b in zip(kept.state, run.state, strict=True))
    assert replace(kept).weights is run.weights


class TestAttentionGradient:
    """The attention's gradient is written by hand, gathered over the steps."""

    @staticmethod
    def start(seed: int = 0):
        draw = torch.Generator().manual_seed(seed)
        keys, values = (torch.randn(3, 4, 5, generator=draw).double() for _ in range(2))
        hidden, words = (torch.randn(*n, 3, 5, generator=draw).double() for n in ((), (3,)))
        mask = torch.zeros(3, 1, 4).double()
        mask[0, 0, 2:] = -torch.inf
        return [x.requires_grad_() for x in (keys, values, hidden, words)], mask

    @staticmethod
    def recur(keys, values, hidden, words, mask):
        tape, states = [], []
        for word in words:
            hidden = Attend.apply(word, hidden, keys, values, mask, tape)[0].tanh()
            states.append(hidden)
        return states

    def test_is_that_of_finite_differences(self):
        inputs, mask = self.start()
        torch.autograd.gradcheck(lambda *x: self.recur(*x, mask)[-1], inputs)
        torch.autograd.gradcheck(lambda *x: self.recur(*x, mask)[1], inputs)  # a step in between

    def test_is_that_of_the_plain_formula_for_every_step(self):
        (keys, values, hidden, words), mask = self.start(1)
        sum(s.square().sum() for s in self.recur(keys, values, hidden, words, mask)).backward()
        found = [x.grad.clone() for x in (keys, values, hidden, words)]
        again, _ = self.start(1)
        state, total = again[2], 0
        for word in again[3]:
            looks = (torch.einsum("bh,bth->bt", state, again[0]) + mask[:, 0]).softmax(-1)
            state = (word + torch.einsum("bt,bth->bh", looks, again[1])).tanh()
            total = total + state.square().sum()
        total.backward()
        for ours, plain in zip(found, again, strict=True):
            torch.testing.assert_close(ours, plain.grad, rtol=1e-12, atol=1e-12)

    def test_a_second_way_back_starts_anew(self):
        inputs, mask = self.start()
        states = self.recur(*inputs, mask)
        one = torch.autograd.grad(states[-1].sum(), inputs, retain_graph=True)
        torch.autograd.grad(states[0].sum(), inputs[0], retain_graph=True)
        two = torch.autograd.grad(states[-1].sum(), inputs)
        for a, b in zip(one, two, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


class TestLSTMStep:
    """The step of an LSTM with its own gradient."""

    @staticmethod
    def inputs(*lead: int) -> list[torch.Tensor]:
        draw = torch.Generator().manual_seed(0)
        shapes = (3, 20), (3, 5), (5, 20), (3, 5)
        made = [torch.randn(*lead, *s, generator=draw, dtype=torch.double) for s in shapes]
        return [x.requires_grad_() for x in made]

    @staticmethod
    def step(gates, *others):
        return LSTMStep.apply(gates.clone(), *others)

    def test_is_that_of_torch(self):
        gates, hidden, weight, memory = self.inputs()
        cell = nn.LSTMCell(20, 5, bias=False).double()
        with torch.no_grad():
            cell.weight_ih.copy_(torch.eye(20))
            cell.weight_hh.copy_(weight.T)
        found = self.step(gates, hidden, weight, memory)
        for ours, theirs in zip(found, cell(gates, (hidden, memory)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("lead", [(), (2,)])
    def test_its_gradient_is_that_of_finite_differences(self, lead):
        assert torch.autograd.gradcheck(self.step, self.inputs(*lead))

    def test_uses_up_the_gates_and_nothing_else(self):
        inputs = self.inputs()
        before = [x.detach().clone() for x in inputs]
        sum(self.step(*inputs)).sum().backward()
        for now, then in zip(inputs, before, strict=True):
            assert torch.equal(now, then)


# -- ties -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_sentences_that_no_element_moves_weigh_all_views_alike(cell, dtype):
    """Their views are equal until a word that is moved is fed; rounding must not choose among them.

    The batch is of many sizes, since the rounding of a row depends on its place in the batch.
    """
    symmetry = SYMMETRIES["verbs C4"]
    found = scan_data.commands()
    still = [c for c in found if not set(VERBS[0]) & set(c.split())]
    moved = ACTIONS.encode([" ".join(VERBS[1])])[0, :-1]
    for count in (1, 3, 17, 64):
        net = small(cell, seed=count).to(dtype)
        model = EquiSeq2Seq(net, symmetry, LeastLoss(eq.entropy)).eval()
        chosen = [still[i] for i in torch.randint(len(still), (count,)).tolist()]
        target = ACTIONS.encode([found[c] for c in chosen])
        with torch.no_grad():
            scores, _ = unroll(model, COMMANDS.encode(chosen), target)  # (B, S, words)
        equal = (~torch.isin(target, moved)).cumprod(1).bool()
        for g in range(4):
            differ = (symmetry.score.act(g, scores) - scores).abs()[equal]
            assert differ.max() <= 4 * torch.finfo(dtype).eps * scores.abs().max()


def test_whole_sequences_of_equal_views_tie_too():
    symmetry, net = SYMMETRIES["verbs C4"], small()
    model = EquiSeq2Seq(net, symmetry)
    source = COMMANDS.encode(["turn left", "turn opposite right twice"])
    chosen, mean = (decode_apart(model, source, 10, choose=choose) for choose in (True, False))
    assert torch.equal(chosen, mean)
