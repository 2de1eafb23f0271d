"""Costs with known answers."""

import time

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import equitutor as eq
from equitutor.book.cost import peak_bytes, ratios, seconds, slowdown

MB = 2**20


def block(megabytes=1):
    return torch.zeros(megabytes * MB, dtype=torch.uint8)


def test_peak_of_what_is_alive_together():
    def one_after_another():
        for _ in range(5):
            block()

    assert peak_bytes(one_after_another) == MB
    assert peak_bytes(lambda: [block() for _ in range(5)]) == 5 * MB


def test_views_and_what_was_there_do_not_count():
    big = block(8)
    assert peak_bytes(lambda: big[3:].reshape(-1).view(5, -1)) == 0
    assert peak_bytes(lambda: big.add_(1)) == 0
    assert peak_bytes(lambda: big[: 2 * MB] + 1) == 2 * MB


def chain(depth, x):
    for _ in range(depth):
        x = x.sigmoid()  # keeps its result for the backward
    return x


def test_activations_are_kept_for_the_backward_only():
    x = torch.zeros(MB // 4, requires_grad=True)  # a megabyte

    def grow(depth):
        return peak_bytes(lambda: chain(depth, x).sum())

    assert grow(12) - grow(4) == 8 * MB
    with torch.no_grad():
        assert peak_bytes(lambda: chain(12, x).sum()) <= 2 * MB + 64


def test_the_backward_counts_too():
    """Checkpointing saves nothing if its recomputation is not looked at; so it must be seen."""
    x = torch.zeros(MB // 4, requires_grad=True)

    def step():
        y = checkpoint(chain, 8, x, use_reentrant=False).sum()
        y.backward()
        x.grad = None

    assert 8 * MB <= peak_bytes(step) <= 11 * MB


def test_memory_of_an_average_grows_with_the_group():
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Sigmoid(), nn.Flatten(), nn.LazyLinear(3))
    x = torch.rand(2, 1, 16, 16)
    net(x)

    def step(group):
        model = eq.equitune(net, eq.Rotations(group))
        return peak_bytes(lambda: model(x).sum())

    one, four, eight = (step(g) for g in (eq.cyclic(1), eq.cyclic(4), eq.dihedral(4)))
    assert eight - four == pytest.approx(4 * (four - one) / 3, rel=0.05)


def test_times():
    def busy(n):
        return lambda: sum(i * i for i in range(n))

    assert seconds(busy(200_000)) > 0
    assert seconds(lambda: time.sleep(0.2)) < 0.1  # waiting is no work
    assert len(ratios(busy(10_000), busy(10_000), pairs=3)) == 3
    assert 2 < slowdown(busy(400_000), busy(50_000), pairs=5) < 32
