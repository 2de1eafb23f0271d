"""The views of a batch of token sequences: those that are equal are computed once.

A view of a sentence is the sentence moved by a group element. As long as no word of a sentence is one
that the group moves, all its views are the same and take one row of the model's batch; the first
such word parts them. Views are kept in the order of the sentence's *frame*: the element that makes it
the least of its orbit. A sentence and its images so give the model the very same rows in the same
order, and what is computed from them agrees to the last bit.
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
    ids : (B, T) the tokens so far
    frame : (B,) the element that makes the tokens so far the least of their orbit
    order : (B, ``|G|``) the elements in the order of the frame: i frame
    row : (B, ``|G|``) the row of each view, views in that order
    sample : (R,) the sentence that each row is a view of
    """

    ids: Tensor
    frame: Tensor
    order: Tensor
    row: Tensor
    sample: Tensor

    @property
    def one_each(self) -> bool:
        """Whether every sentence has one row: all its views are equal."""
        return len(self.sample) == len(self.ids)

    def row_of(self, element: int) -> Tensor:
        """The row of one element's view of each sentence, (B,)."""
        place = (self.order == element).int().argmax(1, keepdim=True)
        return self.row.gather(1, place)[:, 0]

    def views(self, outputs: Tensor) -> Iterator[Tensor]:
        """The rows' outputs, (R, ...), as those of one view of each sentence after the other, (B, ...)."""
        batch, n = self.row.shape
        for i in range(n):
            # Where no views are equal, the rows are numbered sentence by sentence: a stride, no copy.
            yield outputs[i::n] if len(outputs) == batch * n else outputs[self.row[:, i]]


class ViewsCache(DynamicCache):
    """Keys and values of the distinct views of each sentence, and which they are.

    To ``generate`` it looks like a cache of B sentences, in the model it has a row for each view.
    """

    rows: Rows | None = None

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take sentence ``beam_idx[i]`` for sentence i, with all its views."""
        if self.rows is None:
            return
        old = self.rows
        beam_idx = beam_idx.to(old.row.device)
        row, order = old.row[beam_idx], old.order[beam_idx]
        number, chosen = _distinct(row[:, :, None] == row[:, None, :])
        sample = chosen.nonzero()[:, 0]
        self.rows = Rows(old.ids[beam_idx], old.frame[beam_idx], order, number, sample)
        self.take(row[chosen])

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some of the sentences."""
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each sentence several times over."""
        if self.rows is not None:
            every = torch.arange(len(self.rows.ids), device=self.rows.ids.device)
            self.reorder_cache(every.repeat_interleave(repeats))

    def take(self, rows: Tensor) -> None:
        """The cache's own reordering, of rows."""
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
    """The element g for which g ids is least, in the order of dictionaries: (B, T) -> (B,).

    Of several such elements the one of least index: in a direct product that leaves the factors
    alone that do not move the sentence.
    """
    frame = ids.new_zeros(len(ids))
    if not torch.compiler.is_compiling():  # a shape that depends on the words would break the graph
        columns = moves[ids].any(0)
        if not bool(columns.any()):
            return frame
        ids = ids[:, columns]
    least = perms[0][ids]
    for g in range(1, len(perms)):
        moved = perms[g][ids]
        place = (moved != least).int().argmax(1, keepdim=True)  # the first that differs
        less = (moved.gather(1, place) < least.gather(1, place))[:, 0]
        frame = torch.where(less, g, frame)
        least = torch.where(less[:, None], moved, least)
    return frame


def split(
    ids: Tensor, before: Rows | None, perms: Tensor, moves: Tensor, table: Tensor
) -> tuple[Rows, Tensor, Tensor | None]:
    """Add tokens to the views.

    Parameters
    ----------
    ids : (B, T) the new tokens
    before : the rows so far; None at the start
    perms : ``(|G|, V)`` where each element sends each id
    moves : (V,) bool, whether some element moves an id
    table : ``(|G|, |G|)`` the group's

    Returns
    -------
    rows : Rows
    tokens : (R, T), the new tokens of each row
    parents : (R,), the rows before that these continue; None where these are the same
    """
    seen = ids if before is None else torch.cat([before.ids, ids], 1)
    batch, n = len(ids), len(perms)
    frame = frame_of(seen, perms, moves)
    order = table.T[frame]  # (B, |G|): at i the product i frame
    if before is None and torch.compiler.is_compiling():
        # In one graph the number of rows cannot depend on the words: a row for every view.
        row = torch.arange(batch * n, device=ids.device).reshape(batch, n)
        tokens = perms[order[:, :, None], ids[:, None]].flatten(0, 1)
        return Rows(seen, frame, order, row, row.flatten() // n), tokens, None
    if before is None:
        old = torch.arange(batch, device=ids.device)[:, None].expand(batch, n)
        same = ids.new_ones(batch, n, n, dtype=torch.bool)
    else:
        # The rows so far, in the order of the frame that there is now.
        place = before.order.argsort(1).gather(1, order)
        old = before.row.gather(1, place)
        same = old[:, :, None] == old[:, None, :]
    columns = moves[ids].any(0)
    if bool(columns.any()):
        moved = perms[order[:, :, None], ids[:, None, columns]]  # (B, |G|, T)
        same = same & (moved[:, :, None] == moved[:, None, :]).all(-1)
    row, chosen = _distinct(same)
    sample, view = chosen.nonzero().unbind(1)
    parents = None
    if before is not None:
        unmoved = torch.arange(len(before.sample), device=ids.device)
        parents = None if torch.equal(old[chosen], unmoved) else old[chosen]
    tokens = perms[order[sample, view][:, None], ids[sample]]
    return Rows(seen, frame, order, row, sample), tokens, parents


def _distinct(same: Tensor) -> tuple[Tensor, Tensor]:
    """Number the classes of equal views: (B, n, n) bool -> (B, n) numbers, (B, n) the first of each."""
    first = same.int().argmax(2)
    chosen = first == torch.arange(same.shape[1], device=same.device)
    number = chosen.flatten().cumsum(0).reshape(chosen.shape) - 1
    return number.gather(1, first), chosen
