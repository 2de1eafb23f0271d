"""What the wrapper costs beside the model: python tests/benchmarks/bench_wrapper.py [--models resnet18 vit gpt2]

equitune(model) on a batch of B inputs runs the plain model on |G| B inputs; moving them and averaging
the outputs should cost next to nothing. Both are run in turns on the same number of inputs, and the
ratio of each pair of neighbours is taken, so that a slow moment of the machine meets both. "linear" is
the time for a view, beside that of |G| = 1. Lambda is timed beside equitune too: it may add at most 5%
to a forward pass. Weights are random: they do not change the time.

The average is a result that the plain model does not have: 1 / |G| of its output beside it, which is
much for the scores of a language model. So its memory is compared with that of a plain mean, too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import report
import torch
from bench_lm import Words
from torch import Tensor, nn
from torchvision.models import resnet18, vit_b_16
from transformers import GPT2Config, GPT2LMHeadModel

import equitutor as eq
from equitutor.book.cost import peak_bytes, ratios

TARGET = "<= 1.05"
ORDERS = {1: eq.cyclic(1), 2: eq.cyclic(2), 4: eq.cyclic(4), 8: eq.dihedral(4)}


@dataclass
class Case:
    """A model, what it is wrapped in, and the inputs that make equal work of the two."""

    plain: nn.Module
    wrapped: dict[str, nn.Module]
    views: Tensor
    x: Tensor


class Scores(nn.Module):
    """A language model's scores of the ids; EquiLM's too."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(input_ids=ids, use_cache=False).logits


def images(make: Callable, features: str, width: int, order: int, args) -> Case:
    rot, net = eq.Rotations(ORDERS[order]), make(args.size)
    x = torch.randn(args.batch, 3, args.size, args.size)
    learned = eq.lambda_equitune(
        copy.deepcopy(net), rot, weight_net=eq.LambdaNet(width), features=features
    )
    return Case(net, {"equitune": eq.equitune(net, rot), "lambda": learned}, rot.views(x), x)


def sentences(order: int, args) -> Case:
    """Pairs of words that are swapped, of one axis for |G| = 2, of two or three for 4 or 8."""
    gpt2 = GPT2LMHeadModel(GPT2Config(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0))
    axes = order.bit_length() - 1
    names = [f" {letter}" for letter in "abcdef"[: 2 * axes]]
    words = Words(names, gpt2.config.vocab_size)
    swaps = {f"axis {k}": [[names[2 * k].strip(), names[2 * k + 1].strip()]] for k in range(axes)}
    lm = eq.EquiLM(gpt2, words, swaps)
    x = torch.randint(100, 40000, (args.batch, 16))
    x[:, : max(axes, 1)] = torch.arange(1, 2 * axes, 2) if axes else 1  # so that every view differs
    return Case(Scores(gpt2), {"EquiLM": Scores(lm)}, lm.perms[:, x].flatten(0, 1), x)


MODELS = {
    "resnet18": partial(images, lambda size: resnet18(num_classes=10), "avgpool", 512),
    "vit": partial(images, lambda size: vit_b_16(image_size=size, num_classes=10), "heads", 10),
    "gpt2": sentences,
}


def step(model: nn.Module, x: Tensor, train: bool) -> Callable[[], None]:
    """A forward pass, or a whole training step, to be timed."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-6)

    def forward() -> None:
        with torch.no_grad():
            model.eval()(x)

    def training() -> None:
        optimiser.zero_grad()
        model.train()(x).square().mean().backward()
        optimiser.step()

    return training if train else forward


def mean_of(case: Case) -> Tensor:
    """The plain model's scores of the views, averaged as they are."""
    with torch.no_grad():
        return case.plain.eval()(case.views).unflatten(0, (-1, len(case.x))).mean(0)


def main() -> None:
    parser = report.parser(__doc__, repeats=5)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--orders", nargs="+", type=int, default=list(ORDERS), choices=ORDERS)
    parser.add_argument("--size", type=int, default=64, help="images are size x size")
    parser.add_argument("--batch", type=int, default=2, help="inputs before the group acts")
    parser.add_argument("--compiled", action="store_true", help="of resnet18, both compiled, too")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    told = report.Report("wrapper", args)
    for name in args.models:
        alone = None
        for order in args.orders:
            if name == "gpt2" and order == 1:
                continue  # no words to swap
            case = MODELS[name](order, args)
            compare(told, f"{name}, |G| = {order}", case, args.repeats)
            whole = next(iter(case.wrapped.values()))
            if alone is None:
                alone = step(whole, case.x, False), order
            else:
                found = ratios(step(whole, case.x, False), alone[0], args.repeats)
                found = [r * alone[1] / order for r in found]
                told.row(f"{name}, |G| = {order}: time a view, beside |G| = {alone[1]}", found)
            if args.compiled and name == "resnet18":
                plain, wrapped = torch.compile(case.plain), torch.compile(whole)
                runs = step(wrapped, case.x, False), step(plain, case.views, False)
                told.row(
                    f"{name}, |G| = {order}: compiled, forward", ratios(*runs, args.repeats), TARGET
                )
    told.done()


def compare(told: report.Report, label: str, case: Case, repeats: int) -> None:
    """Time and peak memory of each wrapped model over the plain one's."""
    for train, what in ((False, "forward"), (True, "training step")):
        plain = step(case.plain, case.views, train)
        for method, model in case.wrapped.items():
            run = step(model, case.x, train)
            told.row(f"{label}: {method}, {what}, time", ratios(run, plain, repeats), TARGET)
            if method == "lambda":  # what lambda itself adds, beside equitune
                average = step(case.wrapped["equitune"], case.x, train)
                target = TARGET if not train else ""
                added = ratios(run, average, repeats)
                told.row(f"{label}: lambda / equitune, {what}, time", added, target)
            # All tensors but the weights count, each side's inputs too: |G| B of them that the plain
            # model is given; B, and the |G| B that are made of them within the call, on our side.
            memory = (peak_bytes(run) + case.x.nbytes) / (peak_bytes(plain) + case.views.nbytes)
            told.row(f"{label}: {method}, {what}, peak memory", [memory], TARGET)
            if method == "EquiLM" and not train:
                mean = peak_bytes(partial(mean_of, case)) + case.views.nbytes
                memory = (peak_bytes(run) + case.x.nbytes) / mean
                told.row(f"{label}: {method}, {what}, peak memory / with a mean", [memory], TARGET)


if __name__ == "__main__":
    main()
