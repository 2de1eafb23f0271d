"""Beside equiadapt on one model, ResNet-18 with random weights: python tests/benchmarks/bench_peer.py

equiadapt turns an image into a canonical pose, which a small equivariant network chooses, and runs the
model once; it has no group average of its own. So there are two comparisons, for the four rotations and
for these and mirror images:

- the same average, from equiadapt's images of the orbit: the same numbers, so time and memory are
  those of one computation done by two libraries;
- its canonicalisation: one run of the model in place of |G|, and another function than the average. It must be
  faster than that; what is compared is by how much, and how well each keeps the symmetry. Ours, with the chooser of
  this library, is to be as fast as equiadapt's with its own, and as accurate: both choosers learn from
  the same upright digits, by the same prior and for as many steps, and turn new digits for one classifier.

Needs the extra `peer`. Both are run in turns on the same images.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace

import report
import torch
from bench_wrapper import step
from equiadapt.images import (
    ConvNetwork,
    CustomEquivariantNetwork,
    GroupEquivariantImageCanonicalization,
    OptimizedGroupEquivariantImageCanonicalization,
)
from torch import Tensor, nn
from torchvision.models import resnet18

import equitutor as eq
from equitutor.book.cost import peak_bytes, ratios
from equitutor.images.training import to_input, train_upright

#: equiadapt's names of the groups, and ours.
GROUPS = {"rotation": eq.cyclic(4), "roto-reflection": eq.dihedral(4)}


def hyperparameters(size: int, kind: str) -> SimpleNamespace:
    return SimpleNamespace(
        beta=1.0,
        input_crop_ratio=1.0,
        resize_shape=size,
        group_type=kind,
        num_rotations=4,
        artifact_err_wt=0,
        learn_ref_vec=False,
    )


class Averaged(nn.Module):
    """The mean of the model's scores over equiadapt's images of the orbit."""

    def __init__(self, model: nn.Module, size: int, kind: str):
        super().__init__()
        shape = (3, size, size)
        choose = ConvNetwork(shape, 4, 3)  # asked for when it is made, not used
        self.orbit = OptimizedGroupEquivariantImageCanonicalization(
            choose, hyperparameters(size, kind), shape
        )
        for weight in self.orbit.parameters():
            weight.requires_grad_(False)
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        self.orbit.device = x.device
        views = self.orbit.group_augment(x)
        return self.model(views).unflatten(0, (-1, len(x))).mean(0)


class Canonicalised(nn.Module):
    """The model's scores of the image in equiadapt's canonical pose."""

    def __init__(self, model: nn.Module, size: int, kind: str):
        super().__init__()
        shape = (3, size, size)
        choose = CustomEquivariantNetwork(shape, 16, 5, kind, 4, num_layers=3, device="cpu")
        choose.group_type, choose.num_rotations = kind, 4  # asked of it, but not set by it
        self.pose = GroupEquivariantImageCanonicalization(
            choose, hyperparameters(size, kind), shape
        )
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.pose(x))


def models(size: int, kind: str) -> dict[str, nn.Module]:
    """With the same weights each, in copies of their own."""
    net = resnet18(num_classes=10).eval()
    return {
        "equitune": eq.equitune(copy.deepcopy(net), eq.Rotations(GROUPS[kind])),
        "averaged": Averaged(copy.deepcopy(net), size, kind),
        "canonicalised": Canonicalised(copy.deepcopy(net), size, kind),
        "canonicalize": ours(copy.deepcopy(net), kind),
    }


def ours(net: nn.Module, kind: str) -> nn.Module:
    """The canonicalisation of this library, with its own chooser."""
    rot = eq.Rotations(GROUPS[kind])
    return eq.canonicalize(net, rot, chooser=eq.OrientationNet(rot))


def compare(told: report.Report, kind: str, args) -> None:
    rot = eq.Rotations(GROUPS[kind])
    label = f"ResNet-18, {rot.group.name}"
    made = models(args.size, kind)
    x = torch.randn(args.batch, 3, args.size, args.size)
    with torch.no_grad():
        ours, theirs = (made[name].eval()(x) for name in ("equitune", "averaged"))
    apart = float((ours - theirs).abs().max() / ours.abs().max())
    told.row(f"{label}: difference of the two averages", [apart], "<= 1e-4")
    for name, model in made.items():
        error = eq.equivariance_error(model.eval(), x, rot, eq.Trivial(rot.group))
        told.row(f"{label}: {name}, equivariance error", [error])
    for train, what in ((False, "forward"), (True, "training step")):
        run = {name: step(model, x, train) for name, model in made.items()}
        for peer in ("averaged", "canonicalised"):
            target = "<= 1" if peer == "averaged" else ""
            found = ratios(run["equitune"], run[peer], args.repeats)
            told.row(f"{label}: equitune / equiadapt {peer}, {what}, time", found, target)
            memory = peak_bytes(run["equitune"]) / peak_bytes(run[peer])
            told.row(f"{label}: equitune / equiadapt {peer}, {what}, memory", [memory], target)
        found = ratios(run["canonicalize"], run["canonicalised"], args.repeats)
        told.row(f"{label}: canonicalize / equiadapt canonicalised, {what}, time", found, "<= 1")


def compare_accuracy(told: report.Report, kind: str, args) -> None:
    """Both canonicalisations before one classifier of digits: choosers trained alike, tested on all turns."""
    rot, size = eq.Rotations(GROUPS[kind]), 32
    sets = eq.data.load("digits", size=size)
    inputs = {part: to_input(s.images, size, "cpu") for part, s in sets.items()}
    net = resnet18(num_classes=10)
    train_upright(net, sets["train"], size, 6, 0.05, 0, "cpu", "classifier")
    net.eval()
    theirs, own = Canonicalised(net, size, kind), ours(net, kind)

    def their_loss(x: Tensor) -> Tensor:
        theirs.pose.device = x.device
        theirs.pose(x)
        return theirs.pose.get_prior_regularization_loss()

    def accuracy(model: nn.Module) -> float:
        with torch.no_grad():
            views = rot.views(inputs["test"])
            right = model.eval()(views).argmax(1) == sets["test"].labels.repeat(len(rot.group))
        return 100 * right.double().mean().item()

    found = {}
    for name, model, chooser, loss_of in (
        ("equiadapt", theirs, theirs.pose, their_loss),
        ("canonicalize", own, own.weighting, lambda x: eq.prior_loss(own, x)),
    ):
        torch.manual_seed(0)
        optimizer = torch.optim.Adam(chooser.parameters(), 1e-2)
        for _ in range(args.epochs):
            for rows in torch.randperm(len(inputs["train"])).split(64):
                loss = loss_of(inputs["train"][rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        found[name] = accuracy(model)
        told.row(f"digits, {rot.group.name}: {name}, accuracy on turned digits, %", [found[name]])
    gain = found["canonicalize"] - found["equiadapt"]
    told.row(f"digits, {rot.group.name}: canonicalize - equiadapt, points", [gain], ">= 0")


def main() -> None:
    parser = report.parser(__doc__, repeats=7)
    parser.add_argument("--size", type=int, default=64, help="images are size x size")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=10, help="of the choosers' training")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    told = report.Report("peer", args)
    for kind in GROUPS:
        compare(told, kind, args)
        compare_accuracy(told, kind, args)
    told.done()


if __name__ == "__main__":
    main()
