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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

__all__ = ["Rows", "ViewsCache", "frame_of", "split"]


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


class ViewsCache(DynamicCache):
    """Keys and values of the distinct views of each sentence, and which views these are.

    To ``generate`` it looks like a cache of B sentences; in the model it has a row for each view.
    """

    rows: Rows | None = None

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
        """Reorder the rows of keys and values, as DynamicCache does."""
        super().reorder_cache(rows)

    def reset(self) -> None:
        super().reset()
        self.rows = None

    def crop(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            "a cache of views cannot be cropped, so assisted generation is not supported: leave "
            "assistant_model and prompt_lookup_num_tokens out"
        )

    @property
    def is_croppable(self) -> bool:
        return False


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
    ids: Tensor, before: Rows | None, perms: Tensor, moves: Tensor, table: Tensor
) -> tuple[Rows, Tensor, Tensor | None]:
    """Add tokens to the views.

    Parameters
    ----------
    ids : (B, T), the new tokens
    before : the rows so far; None at the start
    perms : ``(|G|, V)``, where each element sends each id
    moves : (V,) bool, whether some element moves an id
    table : ``(|G|, |G|)``, the group's multiplication table

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
    if bool(columns.any()):
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
