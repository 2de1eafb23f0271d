"""The views of a batch of token sequences: views that are equal are computed once.

A view of a sentence is the sentence moved by a group element. Until a sentence has a word that the
group moves, all its views are equal and share one row of the model's batch; the first such word
separates them. Views are kept in the order of the sentence's *frame*: the element that makes it the
least of its orbit. A sentence and its images thus give the model the very same rows in the same order,
and what is computed from them agrees to the last bit.

Shapes: B sentences, R distinct views (rows), T tokens, n = ``|G|`` elements, V ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, QuantizedCache, StaticCache

__all__ = [
    "Rows",
    "Views",
    "ViewsCache",
    "frame_of",
    "keep_views",
    "kept",
    "rows_of",
    "split",
]


@dataclass
class Rows:
    """Which row of the model's batch computes which view.

    Attributes
    ----------
    ids : (B, T), the tokens so far
    frame : (B,), the element that makes the tokens so far the least of their orbit
    order : (B, ``|G|``), the elements in the order of the frame: i frame
    row : (B, ``|G|``), the row of each view, in that order
    sample : (R,), the sentence that each row is a view of
    """

    ids: Tensor
    frame: Tensor
    order: Tensor
    row: Tensor
    sample: Tensor

    @property
    def one_each(self) -> bool:
        """Whether every sentence has one row, that is, all its views are equal."""
        return len(self.sample) == len(self.ids)

    def row_of(self, element: int) -> Tensor:
        """The row of one element's view of each sentence, (B,)."""
        place = (self.order == element).int().argmax(1, keepdim=True)
        return self.row.gather(1, place)[:, 0]

    def views(self, outputs: Tensor) -> Iterator[Tensor]:
        """The rows' outputs (R, ...), view by view: one view of every sentence at a time, (B, ...)."""
        batch, n = self.row.shape
        for i in range(n):
            # If no views are equal, rows are numbered sentence by sentence: a stride, no copy.
            yield outputs[i::n] if len(outputs) == batch * n else outputs[self.row[:, i]]


class Views(Cache):
    """A cache of keys and values that keeps the distinct views of each sentence, and which they are.

    To ``generate`` it looks like a cache of B sentences; in the model it has a row for each view.

    Attributes
    ----------
    rows : Rows, optional
        None while the cache is empty.
    fixed : bool
        Whether the number of rows cannot change: then there is a row for every view from the start.
    """

    rows: Rows | None = None
    fixed = False

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take sentence ``beam_idx[i]`` for sentence i, with all its views."""
        if self.rows is None:
            return
        old = self.rows
        beam_idx = beam_idx.to(old.row.device)
        row, order = old.row[beam_idx], old.order[beam_idx]  # (B', n)
        number, first = _distinct(row[:, :, None] == row[:, None, :])
        sample = first.nonzero()[:, 0]
        self.rows = Rows(old.ids[beam_idx], old.frame[beam_idx], order, number, sample)
        self.take(row[first])

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these sentences only."""
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each sentence."""
        if self.rows is not None:
            every = torch.arange(len(self.rows.ids), device=self.rows.ids.device)
            self.reorder_cache(every.repeat_interleave(repeats))

    def take(self, rows: Tensor) -> None:
        """Reorder the rows of keys and values."""
        super().reorder_cache(rows)

    def reset(self) -> None:
        super().reset()
        self.rows = None

    def crop(self, *args: Any, **kwargs: Any) -> None:
        """Forget the last tokens, as the cache itself does; views that have parted stay apart."""
        super().crop(*args, **kwargs)
        if self.rows is not None:
            self.rows = replace(self.rows, ids=self.rows.ids[:, : self.get_seq_length()])


class ViewsCache(Views, DynamicCache):
    """Transformers' usual cache, with views."""


class StaticViewsCache(Views, StaticCache):
    """A cache of fixed size, with views."""

    fixed = True


class QuantizedViewsCache(Views, QuantizedCache):
    """A cache of few bits, with views."""


_WITH_VIEWS: dict[type[Cache], type[Views]] = {
    DynamicCache: ViewsCache,
    StaticCache: StaticViewsCache,
    QuantizedCache: QuantizedViewsCache,
}


def keep_views(cache: Cache) -> Views:
    """Make an empty cache keep views from now on.

    Raises
    ------
    ValueError
        If there are keys and values in it already, of sentences instead of their views.
    """
    if isinstance(cache, Views):
        return cache
    if type(cache) not in _WITH_VIEWS or cache.get_seq_length():
        raise ValueError(
            f"past_key_values is a {type(cache).__name__} that the pretrained model has filled, or of a "
            "kind that cannot keep views: give an empty DynamicCache, StaticCache or QuantizedCache, or "
            "the cache that this model returned"
        )
    cache.__class__ = _WITH_VIEWS[type(cache)]
    return cast("Views", cache)


def frame_of(ids: Tensor, perms: Tensor, moves: Tensor) -> Tensor:
    """The element g for which g ids is lexicographically least: (B, T) -> (B,).

    Of several such elements, the one of least index: in a direct product it leaves out the factors
    that do not move the sentence.
    """
    frame = ids.new_zeros(len(ids))
    if not torch.compiler.is_compiling():  # a shape that depends on the words would break the graph
        columns = moves[ids].any(0)
        if not bool(columns.any()):
            return frame
        ids = ids[:, columns]  # (B, columns with a word that moves)
    least = perms[0][ids]
    for g in range(1, len(perms)):
        moved = perms[g][ids]
        place = (moved != least).int().argmax(1, keepdim=True)  # the first that differs
        less = (moved.gather(1, place) < least.gather(1, place))[:, 0]  # (B,)
        frame = torch.where(less, g, frame)
        least = torch.where(less[:, None], moved, least)
    return frame


def split(
    ids: Tensor,
    before: Rows | None,
    perms: Tensor,
    moves: Tensor,
    table: Tensor,
    every: bool = False,
) -> tuple[Rows, Tensor, Tensor | None]:
    """Add tokens to the views.

    Parameters
    ----------
    ids : (B, T), the new tokens
    before : the rows so far; None at the start
    perms : ``(|G|, V)``, where each element sends each id
    moves : (V,) bool, whether some element moves an id
    table : ``(|G|, |G|)``, the group's multiplication table
    every : whether to give each view a row of its own, even if some are equal

    Returns
    -------
    rows : Rows
    tokens : (R, T), the new tokens of each row
    parents : (R,), the previous row that each row continues; None if they are the same
    """
    seen = ids if before is None else torch.cat([before.ids, ids], 1)  # (B, tokens so far)
    batch, n = len(ids), len(perms)
    frame = frame_of(seen, perms, moves)
    order = table.T[frame]  # (B, n): at i the product i frame
    if before is None and torch.compiler.is_compiling():
        # In one graph the number of rows cannot depend on the words: a row for every view.
        row = torch.arange(batch * n, device=ids.device).reshape(batch, n)
        tokens = perms[order[:, :, None], ids[:, None]].flatten(0, 1)  # (B n, T)
        return Rows(seen, frame, order, row, row.flatten() // n), tokens, None
    if before is None:
        old = torch.arange(batch, device=ids.device)[:, None].expand(batch, n)
        same = ids.new_ones(batch, n, n, dtype=torch.bool)
    else:
        # The previous rows, in the order of the new frame.
        place = before.order.argsort(1).gather(1, order)
        old = before.row.gather(1, place)  # (B, n)
        same = old[:, :, None] == old[:, None, :]  # (B, n, n): whether two views are equal
    columns = moves[ids].any(0)
    if every:
        same = torch.eye(n, dtype=torch.bool, device=ids.device).expand(batch, n, n)
    elif bool(columns.any()):
        moved = perms[order[:, :, None], ids[:, None, columns]]  # (B, n, columns)
        same = same & (moved[:, :, None] == moved[:, None, :]).all(-1)
    row, first = _distinct(same)
    sample, view = first.nonzero().unbind(1)  # (R,) each
    parents = None
    if before is not None:
        parents = old[first]  # (R,)
        if torch.equal(parents, torch.arange(len(before.sample), device=ids.device)):
            parents = None
    tokens = perms[order[sample, view][:, None], ids[sample]]  # (R, T)
    return Rows(seen, frame, order, row, sample), tokens, parents


def _distinct(same: Tensor) -> tuple[Tensor, Tensor]:
    """Number the classes of equal views: (B, n, n) bool -> (B, n) numbers, (B, n) whether the first."""
    earliest = same.int().argmax(2)
    first = earliest == torch.arange(same.shape[1], device=same.device)
    number = first.flatten().cumsum(0).reshape(first.shape) - 1
    return number.gather(1, earliest), first


# -- the inputs of a span of tokens -----------------------------------------------------------


def kept(keep: int | Tensor, start: int, end: int, length: int) -> tuple[int | Tensor, Tensor]:
    """Which positions of a span are to be scored, for ``logits_to_keep``, and their places in all.

    A model scores at least one position, even in a span whose scores are not needed.
    """
    if isinstance(keep, int):
        few = min(max(0, keep - (length - end)), end - start) if keep else 0
        return (few or 1 if keep else 0), torch.arange(few if keep else end - start)
    keep = keep % length
    place = ((start <= keep) & (keep < end)).nonzero()[:, 0]
    return (keep[place] - start if len(place) else 1), place


def rows_of(name: str, value: Any, sample: Tensor, ids: Tensor, start: int, end: int) -> Any:
    """An input of the model for a span of all rows, from that for the whole of all sentences.

    Parameters
    ----------
    value : a tensor of B rows, or something that is the same for all
    sample : (R,), the sentence of each row
    ids : (B, T), all of the new tokens, of which the span is from start to end
    """
    if isinstance(value, dict):
        return {k: rows_of(name, v, sample, ids, start, end) for k, v in value.items()}
    if not isinstance(value, Tensor) or not value.dim():
        return value
    batch, length = ids.shape
    if name == "position_ids":  # (B or 1, T), or (3, B, T) of several kinds
        value = value[..., start:end].expand(*value.shape[:-2], batch, end - start)
        return value[..., sample, :]
    if name == "attention_mask":  # (B, tokens so far), or (B or 1, heads or 1, T, tokens so far)
        value = value[..., : value.shape[-1] - (length - end)]
        value = value[:, :, start:end] if value.dim() == 4 else value
    elif value.dim() > 1 and value.shape[:2] == (batch, length):
        value = value[:, start:end]
    return value[sample] if value.shape[0] == batch else value
