"""Recurrent encoder-decoders with attention: plain, equivariant by construction, and equi-tuned.

All have the same interface, so that one loop trains and one loop decodes them (decoding.py):

- ``run = model.begin(source)`` encodes a batch of sentences;
- ``hidden = model.step(run, words)`` feeds the decoder one word per sentence;
- ``model.scores(run, hidden)`` scores the candidates for the next word.

:class:`EquiSeq2Seq` moves the sentences in ``begin`` and the words in ``step``, and takes the group
average in ``scores``: at each step, every view is fed the emitted word moved by its own g.

Shapes: B sentences, T words, H channels of the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..symmetrize import group_average
from ..weights import Uniform, Weighting
from .layers import Attend, LSTMStep, PlainLayers, SharedLayers, dense
from .vocabulary import lengths
from .wordgroups import WordSymmetry

__all__ = ["CELLS", "EquiSeq2Seq", "Run", "Seq2Seq", "restore"]

#: The number of gates of each kind of cell.
CELLS = {"RNN": 1, "GRU": 3, "LSTM": 4}


@dataclass
class Run:
    """A batch of B sentences in decoding.

    Attributes
    ----------
    weights : dict, the decoder's matrices, computed once per batch
    keys, values : (B, T, H), what the attention looks at, and what it returns
    mask : (B, 1, T), 0 on words, -inf on padding
    state : tuple of (B, H), the hidden state, and the memory of an LSTM
    attention : (B, 1, T), that of the last step
    tape : list, what the gradient of the attention still needs, see :class:`Attend`
    """

    weights: dict[str, Tensor]
    keys: Tensor
    values: Tensor
    mask: Tensor
    state: tuple[Tensor, ...]
    attention: Tensor | None = None
    tape: list[tuple[Tensor, ...]] = field(default_factory=list)

    def keep(self, rows: Tensor) -> Run:
        """The run with these sentences only."""
        parts = {n: getattr(self, n).index_select(0, rows) for n in ("keys", "values", "mask")}
        state = tuple(s.index_select(0, rows) for s in self.state)
        return replace(self, **parts, state=state, attention=None, tape=[])


class Seq2Seq(nn.Module):
    """The network of Gordon et al. (2019), plain or with their symmetry.

    A bidirectional encoder, and a decoder that starts from the encoder's two last states and attends
    by dot products with its previous hidden state: [embedded word, context] -> linear -> ReLU -> cell
    -> linear.

    With a symmetry it is their G-RNN, G-GRU or G-LSTM: each channel is a function on the group, words
    are lifted to such functions, each gate is two group convolutions, and the attention runs over the
    flattened channel x group axes. It is computed as the plain network with ``|G|`` times the
    channels and weights shared over the orbits of index pairs (:class:`equitutor.EquivariantLinear`).
    The bias of the scores is shared too: the published one is free for each word, which breaks the
    equivariance.

    Parameters
    ----------
    cell : "RNN", "GRU" or "LSTM"
    source, target : int
        Sizes of the vocabularies.
    embedding : int
        Channels of an embedded word of the encoder; twice as many in the decoder.
    hidden : int
        Channels of the encoder's states in each direction; twice as many in the decoder.
    dropout : float
        On the decoder's embedded words in training; 0 <= dropout < 1.
    symmetry : WordSymmetry, optional

    Raises
    ------
    ValueError
        If there is no such cell, the dropout is out of range, or the symmetry moves another number of
        words.
    """

    def __init__(
        self,
        cell: str = "LSTM",
        source: int = 15,
        target: int = 8,
        embedding: int = 64,
        hidden: int = 64,
        dropout: float = 0.1,
        symmetry: WordSymmetry | None = None,
    ):
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}; got {cell!r}")
        if not 0 <= dropout < 1:
            raise ValueError(
                f"dropout is a share of the channels, from 0 up to 1 (excluded); got {dropout}"
            )
        layers = PlainLayers() if symmetry is None else SharedLayers(symmetry)
        gates, width = CELLS[cell], 2 * hidden
        self.cell, self.dropout = cell, dropout
        self.read = layers.words(source, embedding, "source")
        self.forward_in = layers.linear(embedding, gates * hidden)
        self.forward_on = layers.linear(hidden, gates * hidden)
        self.backward_in = layers.linear(embedding, gates * hidden)
        self.backward_on = layers.linear(hidden, gates * hidden)
        self.write = layers.words(target, 2 * embedding, "target")
        self.combine = layers.linear(2 * embedding + width, width)
        self.cell_in = layers.linear(width, gates * width)
        self.cell_on = layers.linear(width, gates * width)
        self.features = nn.Identity()  # the decoder's features pass through it, for hooks
        self.score = layers.scores(width, target)

    def begin(self, source: Tensor) -> Run:
        """Encode (B, T) ids, ended and padded by EOS."""
        weights = self._weights()
        keys, state = self._encode(source)
        padding = torch.arange(keys.shape[1], device=keys.device) >= lengths(source)[:, None]
        mask = keys.new_zeros(padding.shape).masked_fill_(padding, -torch.inf).unsqueeze(1)
        # W [word, context] = W1 word + W2 context, and W2 sum_t a_t key_t = sum_t a_t (W2 key_t).
        return Run(weights, keys, keys @ weights["context"], mask, state)

    def _encode(self, source: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The encoder's states at each word, (B, T, H), and the last of both directions, (B, H).

        Both directions run in one loop, the second over the sentences read backwards; sentences are
        sorted by length, so that those that have ended can be cut off (packed).
        """
        size = lengths(source)  # (B,)
        order = size.argsort(descending=True)
        back = order.argsort()
        steps = torch.arange(source.shape[1], device=size.device)
        counts = [n for n in (size > steps[:, None]).sum(1).tolist() if n]  # sentences at each step
        steps = steps[: len(counts)]  # (T,), T the length of the longest sentence
        backwards = torch.where(steps < size[:, None], size[:, None] - 1 - steps, steps)  # (B, T)
        source = source[:, : len(counts)]
        read, tables, on_weights, on_biases = dense(self.read)[0], [], [], []
        for layer, on in (
            (self.forward_in, self.forward_on),
            (self.backward_in, self.backward_on),
        ):
            (weight, bias), (on_weight, on_bias) = dense(layer), dense(on)
            tables.append(F.linear(read, weight, self._bias(bias, on_bias)))
            on_weights.append(on_weight.T)
            on_biases.append(on_bias)
        table, weight, bias = torch.cat(tables), torch.stack(on_weights), torch.stack(on_biases)
        # The input's part of the gates is a table: the words forward, then the words backward.
        words = torch.stack([source, source.gather(1, backwards) + len(read)])[
            :, order
        ]  # (2, B, T)
        zero = weight.new_zeros(2, counts[0], weight.shape[1])
        state = (zero, zero) if self.cell == "LSTM" else (zero,)
        states, last = [], []
        for n, ids in zip(counts, words.unbind(2), strict=True):
            if n < state[0].shape[1]:
                last.append([s[:, n:] for s in state])
                state = tuple(s[:, :n] for s in state)
            gates = F.embedding(ids[:, :n], table)  # (2, n, gates x hidden)
            state = _next(self.cell, gates, bias.unsqueeze(1), weight, state)
            states.append(state[0].flatten(0, 1))  # (2 n, hidden)
        last.append(list(state))
        whole = (torch.cat(parts[::-1], 1) for parts in zip(*last, strict=True))
        ends = tuple(F.embedding(back, torch.cat([s[0], s[1]], 1)) for s in whole)  # (B, H) each
        # The states are a table too, looked up in the order of the sentences and their words; its last
        # row is zero, for padding.
        states.append(zero[0, :1])
        table, count = torch.cat(states), torch.tensor(counts, device=size.device)
        first = 2 * (count.cumsum(0) - count)  # (T,): where each step's states begin
        rows = torch.stack([first.expand_as(backwards), (first + count)[backwards]], 2)  # (B, T, 2)
        rows += back[:, None, None]
        rows[steps >= size[:, None]] = len(table) - 1
        return F.embedding(rows, table, len(table) - 1).flatten(2), ends

    def _weights(self) -> dict[str, Tensor]:
        """The decoder's matrices, some of them transposed so that a batch multiplies from the left."""
        table, (combine, bias) = dense(self.write)[0], dense(self.combine)
        word, context = combine.split([table.shape[1], combine.shape[1] - table.shape[1]], 1)
        (w_in, b_in), (w_on, b_on) = dense(self.cell_in), dense(self.cell_on)
        weights = {"context": context.T, "score": dense(self.score)}
        weights |= {"in": w_in.T, "b_in": self._bias(b_in, b_on), "on": w_on.T, "b_on": b_on}
        if self.training and self.dropout:
            return weights | {"table": table / (1 - self.dropout), "word": word, "b_word": bias}
        return weights | {"combined": F.linear(table, word, bias)}

    def _bias(self, of_input: Tensor, of_hidden: Tensor) -> Tensor:
        """The bias of the input's part of the gates, with the hidden state's unless this is a GRU."""
        return of_input if self.cell == "GRU" else of_input + of_hidden

    def step(self, run: Run, words: Tensor) -> Tensor:
        """Feed the decoder one word per sentence, (B,); return its new hidden state, (B, H)."""
        w, hidden = run.weights, run.state[0]
        if "combined" in w:
            word = F.embedding(words, w["combined"])
        else:
            word = F.embedding(words, w["table"])
            word = word.masked_fill_(torch.rand_like(word) < self.dropout, 0)
            word = F.linear(word, w["word"], w["b_word"])
        x, run.attention = Attend.apply(word, hidden, run.keys, run.values, run.mask, run.tape)
        gates = torch.addmm(w["b_in"], x.relu(), w["in"])
        run.state = _next(self.cell, gates, w["b_on"], w["on"], run.state)
        return run.state[0]

    def scores(self, run: Run, hidden: Tensor) -> Tensor:
        """Scores of the next word, before the softmax: (..., H) -> (..., words)."""
        return F.linear(self.features(hidden), *run.weights["score"])

    def rows(self, kept: Tensor, batch: int) -> Tensor:
        """The rows of a run of ``batch`` sentences that belong to the kept ones."""
        return kept


def _next(
    cell: str, gates: Tensor, bias: Tensor, weight: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """One step of a cell by the usual equations, with the gates in torch's order.

    ``gates`` is the input's part with its bias, (..., B, gates x H). ``weight`` is the hidden state's;
    so is ``bias``, which only a GRU has separately: its reset gate multiplies the hidden state's part.
    """
    hidden = state[0]
    if cell == "LSTM":
        return LSTMStep.apply(gates, hidden, weight, state[1])
    multiply = torch.addmm if hidden.ndim == 2 else torch.baddbmm
    if cell == "RNN":
        return (multiply(gates, hidden, weight).tanh(),)
    sizes = [2 * hidden.shape[-1], hidden.shape[-1]]
    both, new = gates.split(sizes, -1)
    both_on, new_on = multiply(bias, hidden, weight).split(sizes, -1)
    reset, update = (both + both_on).sigmoid().chunk(2, -1)
    return (torch.lerp(torch.addcmul(new, reset, new_on).tanh(), hidden, update),)


class EquiSeq2Seq(nn.Module):
    """A sequence-to-sequence model made equivariant: the group average of its scores, step by step.

    Parameters
    ----------
    model : Seq2Seq
        The pretrained M, registered as a submodule.
    symmetry : WordSymmetry
    weighting : Weighting, optional
        Of the views at each step: uniform (equi-tuning, the default), ``LeastLoss(entropy)`` (equizero),
        or ``LearnedWeights(LambdaNet(128), "features")`` (lambda, on the decoder's features).

    Notes
    -----
    The scores are averaged before the softmax, so the result is a distribution. Weights depend only on
    the views of one step: each step is equivariant, and so is the whole output.
    """

    def __init__(self, model: Seq2Seq, symmetry: WordSymmetry, weighting: Weighting | None = None):
        super().__init__()
        self.model = model
        self.read, self.write, self.score = symmetry.read, symmetry.write, symmetry.score
        self.weighting = Uniform() if weighting is None else weighting
        self.weighting.attach(model)

    def begin(self, source: Tensor) -> Run:
        """Encode all views of (B, T) ids."""
        return self.model.begin(self.read.views(source))

    def step(self, run: Run, words: Tensor) -> Tensor:
        """Feed each view the (B,) words, moved by its own g; return hidden states ``(|G| B, H)``."""
        return self.model.step(run, self.write.views(words))

    def scores(self, run: Run, hidden: Tensor) -> Tensor:
        """The group average of the scores: ``(|G| B, ..., H)`` -> (B, ..., words)."""
        n = len(self.score.group)
        rows = hidden.flatten(0, -2)  # every step is a row, with weights of its own
        views = self.weighting.watch(self.model, self.model.scores, run, rows)  # (|G| B ..., words)
        weights = self.weighting(views, ((rows,), {}), n, len(rows) // n)
        mean = group_average(views, self.score, weights, self.weighting.straight_through)
        return mean.unflatten(0, (-1, *hidden.shape[1:-1]))

    def rows(self, kept: Tensor, batch: int) -> Tensor:
        """The rows of all views of the kept sentences."""
        return torch.cat([kept + g * batch for g in range(len(self.score.group))])


def restore(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a checkpoint.

    Raises
    ------
    ValueError
        If it is of another architecture; the model is left unchanged.
    """
    own = model.state_dict()
    for name in dict.fromkeys([*own, *state]):
        here, there = (tuple(s[name].shape) if name in s else "absent" for s in (own, state))
        if here != there:
            raise ValueError(
                f"this checkpoint is of another architecture: {name} is {there} in it but {here} in "
                "the model. Make the model with the cell, sizes and symmetry of the checkpoint."
            )
    model.load_state_dict(state)
