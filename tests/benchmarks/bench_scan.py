"""SCAN: batches beside one sentence at a time through the same model, and the time of a whole result.

python tests/benchmarks/bench_scan.py [--cell LSTM] [--seconds 4] [--repeats 5] [--threads 2]

The loops of the published code take one sentence at a time, and one step of Adam for each. Both
sides here run the same code on the same machine, in turns, so the ratios say what batching gives. An
equi-tuned model has its views of one sentence in a batch even so; a third side runs them one by one
as well, as the published loops do. The network is the pretrained one of the experiment (from the
cache, or made now: minutes). Before that one cell of the tables is made with nothing in the cache,
which takes minutes as well.
"""

import os
import time
from tempfile import TemporaryDirectory
from unittest import mock

import report
import torch
from torch import nn

from equitutor.experiments import scan
from equitutor.sequences.decoding import decode, loss
from equitutor.sequences.seq2seq import EquiSeq2Seq, restore
from equitutor.sequences.training import buckets
from equitutor.sequences.vocabulary import lengths
from equitutor.symmetrize import group_average

#: Sentences a batch: of the tuning, of the pretraining, and enough to fill two cores, where the ratio
#: is asked for.
SIZES = {16: "", 128: "", 512: ">= 40"}
#: Sentences a batch of the decoder, its default.
SAID = 1024


class Apart(EquiSeq2Seq):
    """The same model, run on one view after the other."""

    def begin(self, source):
        return [self.model.begin(x) for x in self.read.views(source).split(len(source))]

    def step(self, run, words):
        views = self.write.views(words).split(len(words))
        return torch.cat([self.model.step(*view) for view in zip(run, views, strict=True)])

    def scores(self, run, hidden):
        views = hidden.split(len(hidden) // len(run))
        said = [self.model.scores(*view) for view in zip(run, views, strict=True)]
        return group_average(torch.cat(said), self.score)


def train(model, pairs, batch_size: int, seconds: float, lr: float) -> float:
    """Train for some seconds; sentences a second."""
    source, target = pairs
    ins, outs = lengths(source), lengths(target)
    draw = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr, fused=True)
    model.train()
    done, start = 0, time.perf_counter()
    while True:
        for rows in buckets(outs, batch_size, draw):
            x = source[rows, : int(ins[rows].max())]
            y = target[rows, : int(outs[rows].max())]
            optimizer.zero_grad()
            loss(model, x, y, torch.rand(len(rows), generator=draw) < 0.5).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            done += len(rows)
            passed = time.perf_counter() - start
            if passed > seconds:
                return done / passed


def say(model, source, batch_size: int) -> float:
    """Decode; sentences a second."""
    start = time.perf_counter()
    decode(model, source, batch_size=batch_size)
    return len(source) / (time.perf_counter() - start)


def from_nothing(told: report.Report, config: scan.Config, cell: dict) -> None:
    """A row: the minutes that one cell takes with its pretraining, and how good it is."""
    with TemporaryDirectory() as empty, mock.patch.dict(os.environ, EQUITUTOR_CACHE=empty):
        start = time.perf_counter()
        found = scan.run_cell(config, cell)
        minutes = (time.perf_counter() - start) / 60
    right = f"validation {found['val_accuracy']:.1f} %, test {found['test_accuracy']:.1f} %"
    told.row(f"{cell['model']}, {cell['task']}, from nothing, minutes ({right})", [minutes], "<= 6")


def main() -> None:
    parser = report.parser(__doc__, repeats=5, threads=2)
    parser.add_argument("--cell", default="LSTM")
    parser.add_argument("--seconds", type=float, default=4, help="of training, each time")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    told = report.Report("scan", args)
    config = scan.Config.paper()
    # Of the two tasks the one whose pretrained network is not shipped.
    task = "around_right"
    cell = {"task": task, "group": scan.OWN[task], "model": f"Equi{args.cell}", "seed": 0}
    from_nothing(told, config, cell)
    state, _ = scan.pretrain(config, "add_jump", args.cell, 0)
    net = scan.plain(args.cell, config.hidden, config.dropout)
    restore(net, state)
    data = scan.data(config, "add_jump", 0)
    commands = data["test"][0]
    few = commands[torch.randperm(len(commands))[:150]]
    symmetry = scan.GROUPS["verb"]
    for name, model, apart in (
        (args.cell, net, None),
        ("Equi" + args.cell, EquiSeq2Seq(net, symmetry), Apart(net, symmetry)),
    ):
        speeds = {size: [] for size in (*SIZES, 1)}
        said = {SAID: [], 1: []}
        views = []
        for _ in range(args.repeats):  # a rate of 0: the network stays what it is
            for size, found in speeds.items():
                found.append(train(model, data["train"], size, args.seconds, lr=0.0))
            if apart:
                views.append(train(apart, data["train"], 1, args.seconds, lr=0.0))
            said[SAID].append(say(model, commands, SAID))
            said[1].append(say(model, few, 1))
        for size, target in SIZES.items():
            label = f"{name}: training in batches of {size} / one by one"
            told.row(label, _over(speeds[size], speeds[1]), target)
        if apart:
            label = f"{name}: training in batches of {max(SIZES)} / one by one, as are the views"
            told.row(label, _over(speeds[max(SIZES)], views))
        told.row(f"{name}: decoding / one by one", _over(said[SAID], said[1]), ">= 30")
        best = {f"training {k}": max(v) for k, v in speeds.items()}
        best |= {f"decoding {k}": max(v) for k, v in said.items()}
        print("  sentences a second:", ", ".join(f"{k}: {v:.0f}" for k, v in best.items()))
    told.done()


def _over(fast: list[float], slow: list[float]) -> list[float]:
    return [a / b for a, b in zip(fast, slow, strict=True)]


if __name__ == "__main__":
    main()
