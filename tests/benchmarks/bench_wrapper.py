"""What the wrapper costs beside the model: python tests/benchmarks/bench_wrapper.py

equitune(resnet18) on a batch of B images runs the plain network on |G| B images; turning the images
and averaging the outputs should cost next to nothing. Both are run in turns, A B A B ..., on the same
number of images, and the ratio of each pair of neighbours is taken, so that a slow moment of the
machine meets both. Target: a median ratio of at most 1.1.

lambda-equitune is timed against both, equitune and the plain network at equal work. Lambda itself may
add at most 5% to a forward pass. (--size 224 is the paper's.)
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import nn
from torchvision.models import resnet18

import equitutor as eq
from equitutor.cost import ratios

TARGET = 1.1
LAMBDA_TARGET = 1.05  # of lambda-equitune over equitune, forward
GROUPS = {1: eq.cyclic(1), 2: eq.cyclic(2), 4: eq.cyclic(4), 8: eq.dihedral(4)}


def step(model: nn.Module, x: torch.Tensor, train: bool) -> Callable[[], None]:
    """A forward pass, or a whole training step, to be timed."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def forward() -> None:
        with torch.no_grad():
            model(x)

    def training() -> None:
        optimiser.zero_grad()
        model(x).square().mean().backward()
        optimiser.step()

    model.train(train)
    return training if train else forward


def report(label: str, found: list[float], target: float | None = TARGET) -> None:
    median = statistics.median(found)
    verdict = "" if target is None else "  ok" if median <= target else f"  ABOVE {target}"
    print(f"{label:<44} {median:6.3f}  ({min(found):.3f} - {max(found):.3f}){verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="images are size x size")
    parser.add_argument("--batch", type=int, default=8, help="images before the group acts")
    parser.add_argument("--repeats", type=int, default=11, help="pairs that are timed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)

    print(
        f"resnet18, {args.batch} images of {args.size} x {args.size}, {args.repeats} pairs, "
        f"{device}, {args.threads} threads, torch {torch.__version__}; target <= {TARGET}"
    )
    print(f"{'time ratio':<44} {'median':>6}  (min - max)")
    net = resnet18(weights=None, num_classes=10).to(device)
    for order, group in GROUPS.items():
        rot = eq.Rotations(group).to(device)
        x = torch.randn(args.batch, 3, args.size, args.size, device=device)
        views = rot.views(x)
        wrapped = eq.equitune(net, rot)
        lam = eq.lambda_equitune(
            resnet18(weights=None, num_classes=10).to(device),
            rot,
            weight_net=eq.LambdaNet(512).to(device),
            features="avgpool",
        )
        for train, name in ((False, "forward"), (True, "training step")):
            plain, average = step(net, views, train), step(wrapped, x, train)
            found = ratios(average, plain, args.repeats, device)
            report(f"|G| = {order}: equitune / plain, {name}", found)
            learned, target = step(lam, x, train), None if train else LAMBDA_TARGET
            found = ratios(learned, average, args.repeats, device)
            report(f"|G| = {order}: lambda / equitune, {name}", found, target)
            found = ratios(learned, plain, args.repeats, device)
            report(f"|G| = {order}: lambda / plain, {name}", found)


if __name__ == "__main__":
    main()
