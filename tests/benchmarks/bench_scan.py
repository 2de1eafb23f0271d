"""Sentences a second of training and of decoding, beside one sentence at a time through the same model.

python tests/benchmarks/bench_scan.py [--cell LSTM] [--seconds 20] [--threads 1]

The loops of the published code take one sentence at a time, and one step of Adam for each. Both
sides here run the same code on the same machine, so the ratios say what batching gives.
"""

import argparse
import time

import torch
from torch import nn

from equitutor.decoding import decode, loss
from equitutor.experiments import scan
from equitutor.experiments.scan_fit import accuracy, buckets, load
from equitutor.scan_data import lengths
from equitutor.seq2seq import EquiSeq2Seq, Seq2Seq


def train(model, pairs, batch_size: int, seconds: float, lr: float = 1e-3) -> float:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", default="LSTM")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    data = load("add_jump", 0)
    net = Seq2Seq(args.cell)
    models = {args.cell: net, f"Equi{args.cell}": EquiSeq2Seq(net, scan.GROUPS["verb"])}
    for name, model in models.items():
        print(f"{name}, {args.threads} thread(s): sentences a second")
        fast = {b: train(model, data["train"], b, args.seconds) for b in (128, 256)}
        # On what those steps have learned: a network that knows nothing ends at once, or never.
        print(f"  (validation {accuracy(model, data['valid']):.0f}% after that training)")
        slow = train(model, data["train"], 1, args.seconds, lr=1e-5)
        for batch_size, speed in fast.items():
            print(
                f"  training in batches of {batch_size}: {speed:.0f}, one by one {slow:.0f}: "
                f"{speed / slow:.1f} times"
            )
        source = data["test"][0]
        fast = say(model, source, 1024)
        slow = say(model, source[:300], 1)
        print(f"  decoding: {fast:.0f}, one by one {slow:.0f}: {fast / slow:.1f} times")


if __name__ == "__main__":
    main()
