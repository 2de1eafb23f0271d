"""Chapters 2, 5 and 11: images, their rotations, and what a network makes of them."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from ..actions import Action, Permutation
from ..groups import Element, FiniteGroup, cyclic, dihedral, symmetric
from ..rotations import Rotations, rotation_matrices
from .settings import random
from .verdict import verdict

__all__ = [
    "check_consistent",
    "check_equivariance_error",
    "check_image_vectors",
    "check_same_windows",
    "check_symmetric_kernel",
    "check_turn_and_recolour",
    "check_turn_each",
]


# -- chapter 2 --------------------------------------------------------------------------------


def check_equivariance_error(student: Callable[[Callable, Action, Tensor], float]) -> bool:
    """``student(f, action, x)``: max_g |f(g x) - g f(x)| / |f(x)|, |.| the largest entry."""

    def error(into: int, out: int, relative: bool = True, over: Callable = max) -> Callable:
        def answer(f: Callable, act: Action, x: Tensor) -> float:
            gaps = [f(act(g**into, x)) - act(g**out, f(x)) for g in act.group]
            scale = f(x).abs().max().item() if relative else 1.0
            return over([gap.abs().max().item() for gap in gaps]) / scale

        return answer

    x, kernel, sheet = random(2, 1, 6, 6), random(1, 1, 3, 3, seed=1), random(6, 6, seed=2)
    uneven = functools.partial(conv2d, weight=kernel, padding=1)
    cases = {
        "an uneven filter under C2": (uneven, Rotations(cyclic(2)), x),
        "the same filter under C4": (uneven, Rotations(cyclic(4)), x),
        "a pointwise tanh under C4": (torch.tanh, Rotations(cyclic(4)), x),
        "an uneven brightness under D4": (lambda x: x * sheet, Rotations(dihedral(4)), x),
    }
    mistakes = {
        "you compared f(g x) with f(x): that is invariance. The output should move.": error(1, 0),
        "you moved the output by g^-1; for C2 that is the same.": error(1, -1),
        "you did not divide by the size of f(x).": error(1, 1, relative=False),
        "you took the mean over the group instead of the worst element.": error(
            1, 1, over=lambda errors: sum(errors) / len(errors)
        ),
        "you did not move the input of f.": error(0, 1),
        "you tried the identity only.": lambda f, act, x: 0.0,
    }
    return verdict(student, error(1, 1), cases, mistakes)


def check_symmetric_kernel(student: Callable[[Tensor], Tensor]) -> bool:
    """``student(kernel)``: the closest (out, in, k, k) kernel that turns do not change."""

    def mean(*turns: int, axes: tuple[int, int] = (-2, -1)) -> Callable[[Tensor], Tensor]:
        return lambda w: sum(w.rot90(k, axes) for k in turns) / len(turns)

    right, mirrored = mean(0, 1, 2, 3), Rotations(dihedral(4))
    cases = {
        "one 3 x 3 filter": (random(1, 1, 3, 3),),
        "3 x 2 filters of 3 x 3": (random(3, 2, 3, 3),),
        "4 x 4 filters of 4 x 4": (random(4, 4, 4, 4),),
    }
    mistakes = {
        "you added the four turned kernels and did not divide by 4.": lambda w: 4 * right(w),
        "you averaged over two turns; half turns alone leave quarter turns unequal.": mean(0, 2),
        "you averaged over upright and one quarter turn; all four are needed.": mean(0, 1),
        "you averaged over mirror images too: symmetric under turns, but not the closest.": (
            lambda w: sum(mirrored(g, w) for g in range(8)) / 8
        ),
        "you made all entries equal: symmetric, but not the closest.": (
            lambda w: w.mean((-2, -1), keepdim=True).expand(w.shape)
        ),
        "you averaged with the transpose: a transposition is not a turn.": lambda w: (w + w.mT) / 2,
        "you turned the channels: rot90's default axes are the first two.": mean(
            0, 1, 2, 3, axes=(0, 1)
        ),
    }
    return verdict(student, right, cases, mistakes)


def check_same_windows(student: Callable[[int, int, int, int], bool]) -> bool:
    """``student(size, kernel, stride, padding)``: does a turn map the windows onto windows?"""

    def right(size: int, kernel: int, stride: int, padding: int) -> bool:
        """No row is left over at the end, so the windows lie symmetrically."""
        return (size + 2 * padding - kernel) % stride == 0

    settings = [
        *[(8, 3, 1, 1), (8, 3, 2, 1), (9, 3, 2, 1), (8, 2, 2, 0), (9, 2, 2, 0)],
        *[(8, 3, 2, 0), (224, 7, 2, 3), (10, 3, 3, 1), (28, 4, 4, 2), (9, 4, 2, 1)],
    ]
    cases = {
        f"size {n}, kernel {k}, stride {s}, padding {p}": (n, k, s, p) for n, k, s, p in settings
    }
    mistakes = {
        "you accept stride 1 only; with a larger stride the windows may fit too.": (
            lambda n, k, s, p: s == 1
        ),
        "you required an odd size; whether that helps depends on kernel and stride.": (
            lambda n, k, s, p: n % 2 == 1
        ),
        "you tested whether the stride divides the size; the last window ends elsewhere.": (
            lambda n, k, s, p: n % s == 0
        ),
        "you left out the padding.": lambda n, k, s, p: (n - k) % s == 0,
        "you counted the padding once; it is on both sides.": (
            lambda n, k, s, p: (n + p - k) % s == 0
        ),
        "you have it the wrong way round.": lambda n, k, s, p: not right(n, k, s, p),
        "you accept everything.": lambda n, k, s, p: True,
    }
    return verdict(student, right, cases, mistakes)


# -- chapter 5 --------------------------------------------------------------------------------


def check_consistent(student: Callable[[Tensor], float]) -> bool:
    """``student(predictions)``: (4, N) classes -> share of images with one class in all four."""

    def share(hits: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda p: hits(p).float().mean()

    def all_agree(p: Tensor) -> Tensor:
        return (p == p[0]).all(0)

    cases = {
        "all agree": [[1, 2], [1, 2], [1, 2], [1, 2]],
        "one image of two": [[1, 2], [1, 0], [1, 2], [1, 2]],
        "agreement without the first": [[0, 1, 2], [1, 1, 2], [1, 1, 0], [1, 1, 2]],
        "all but the last turn": [[1, 2, 0], [1, 2, 0], [1, 2, 0], [0, 3, 0]],
        "the half turn alone": [[3, 3, 5], [1, 3, 5], [3, 3, 4], [1, 3, 4]],
    }
    mistakes = {
        "you counted single agreements with the upright prediction; an image counts only if all "
        "four agree.": share(lambda p: p == p[0]),
        "you returned a percentage; a share lies between 0 and 1.": (
            lambda p: 100 * share(all_agree)(p)
        ),
        "you returned a count; divide by the number of images.": lambda p: (
            all_agree(p).sum().item()
        ),
        "you compared upright with one other rotation only.": share(lambda p: p[0] == p[1]),
        "you left out the last rotation.": share(lambda p: all_agree(p[:3])),
        "you compared upright with the half turn only.": share(lambda p: p[0] == p[2]),
        "you accepted any agreement where all four must agree.": share(
            lambda p: (p[1:] == p[0]).any(0)
        ),
        "you looked along the wrong axis: dimension 0 holds the rotations, 1 the images.": share(
            lambda p: (p == p[:, :1]).all(1)
        ),
    }
    arguments = {what: (torch.tensor(p),) for what, p in cases.items()}
    return verdict(student, share(all_agree), arguments, mistakes)


def check_turn_each(student: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """``student(images, turns)``: image i turned by turns[i] quarter turns, counter-clockwise."""

    def each(rotate: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, k: torch.stack([rotate(y, int(j)) for y, j in zip(x, k, strict=True)])

    images = random(4, 3, 3, 3)
    cases = {
        str(turns): (images[: len(turns)], torch.tensor(turns))
        for turns in ([0, 0], [2, 0], [1, 2, 3, 0], [3, 3, 1, 2])
    }
    mistakes = {
        "you turned clockwise; torch.rot90(x, k, (-2, -1)) turns counter-clockwise.": each(
            lambda y, k: y.rot90(-k, (-2, -1))
        ),
        "you turned the whole batch by the first image's angle.": (
            lambda x, k: x.rot90(int(k[0]), (-2, -1))
        ),
        "you turned channels with rows: rot90's default axes are the first two.": each(
            lambda y, k: y.rot90(k)
        ),
        "you turned by one quarter, whatever the number.": each(
            lambda y, k: y.rot90(int(k > 0), (-2, -1))
        ),
        "you transposed; a quarter turn is a transposition and a flip.": each(
            lambda y, k: y.mT if k % 2 else y.rot90(k, (-2, -1))
        ),
        "you changed nothing.": lambda x, k: x,
    }
    return verdict(student, each(lambda y, k: y.rot90(k, (-2, -1))), cases, mistakes)


# -- chapter 11 -------------------------------------------------------------------------------


def check_image_vectors(student: Callable[[FiniteGroup], Tensor]) -> bool:
    """``student(group)``: how vectors (x, y) = (column, row) move with the image.

    The answer has the shape ``(|G|, 2, 2)``.
    """
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)  # (row, column) to (x, y)
    up = torch.tensor([[-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)  # y counted upwards
    mistakes = {
        "you took rotation_matrices unchanged: they fit (row, column). In (column, row) the same "
        "turn goes the other way round.": rotation_matrices,
        "you took the inverses: right for turns, but not for mirror images.": (
            lambda g: rotation_matrices(g).mT
        ),
        "your y points up, but rows are counted downwards.": (
            lambda g: swap @ up @ rotation_matrices(g) @ up @ swap
        ),
        "you swapped on one side only; the new basis needs P rho P^-1.": (
            lambda g: swap @ rotation_matrices(g)
        ),
        "you swapped on one side only; the new basis needs P rho P^-1, with P on both.": (
            lambda g: rotation_matrices(g) @ swap
        ),
        "your vectors do not move at all.": lambda g: torch.eye(2).repeat(len(g), 1, 1),
    }
    cases = {g.name: (g,) for g in (dihedral(4), cyclic(4))}
    return verdict(student, lambda g: swap @ rotation_matrices(g) @ swap, cases, mistakes)


def check_turn_and_recolour(student: Callable[[Element, Element, Tensor], Tensor]) -> bool:
    """``student(turn, colours, images)``: C4 or D4 turns (B, 3, H, W), S3 permutes its channels.

    The entry at channel i moves to channel ``colours i``.
    """
    c4, d4, s3, images = cyclic(4), dihedral(4), symmetric(3), random(1, 3, 2, 2)
    channels = Permutation(s3, dim=-3)
    pairs = [(c4["e"], "(0 1)"), (c4["r"], "e"), (c4["r"], "(0 1 2)"), (d4["rs"], "(0 2 1)")]
    cases = {f"{turn} and {colours}": (turn, s3[colours], images) for turn, colours in pairs}

    def moved(turn: int, recolour: int) -> Callable:
        return lambda t, c, x: Rotations(t.group)(t**turn, channels(c**recolour, x))

    mistakes = {
        "images[:, p] takes channel p[i] to i, which is the inverse; (0 1) does not show it, "
        "(0 1 2) does. Use the inverse row, p.argsort().": moved(1, -1),
        "you turned clockwise; r is counter-clockwise, torch.rot90(x, 1, (-2, -1)).": moved(-1, 1),
        "you turned clockwise and permuted by the inverse: together this is g^-1 x.": moved(-1, -1),
        "you left the colours where they are.": moved(1, 0),
        "you did not turn the image.": moved(0, 1),
        "you turned in the wrong dimensions: the image is in the last two, (-2, -1).": (
            lambda t, c, x: channels(c, x).rot90(t.index, (0, 1))
        ),
    }
    return verdict(student, moved(1, 1), cases, mistakes)
