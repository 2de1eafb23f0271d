"""What the commands of ``python -m equitutor`` do: run, results, verify, check, assignments."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn

from .actionmap import unwrapped
from .actions import Action
from .arguments import option
from .book.assignments import write_assignments
from .book.reports import report
from .diagnose import checkup
from .experiments import EXPERIMENTS, CellsFailed, run
from .experiments.stopping import Stopped, stoppable
from .experiments.verify import verify
from .groups import cyclic, dihedral
from .options import Choice, Count, Range, Seed, parsed
from .rotations import Flip, Rotations
from .store.results import ResultsError, Store, results_folder
from .symmetrize import GroupAverage
from .text import printable

__all__ = ["obey"]

#: The groups that `check` knows, and how they move images.
GROUPS: dict[str, Callable[[], Action]] = {
    "c2": lambda: Rotations(cyclic(2)),
    "c4": lambda: Rotations(cyclic(4)),
    "d4": lambda: Rotations(dihedral(4)),
    "flip": Flip,
}


def obey(args: argparse.Namespace) -> int:
    """Do what the parsed words say; returns the exit status."""
    try:
        return COMMANDS[args.command](args)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except (ResultsError, ValueError, RuntimeError, OSError, ImportError) as error:
        print(f"error: {printable(error, keep=chr(10))}", file=sys.stderr)
        return 2 if args.command == "check" else 1  # of a check, 1 says that the law is broken
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def _config(args: argparse.Namespace) -> Any:
    """The preset with what was given on the command line."""
    config = EXPERIMENTS[args.experiment].Config.preset(args.preset)
    given = {
        field: parsed(option(field), hint, text)
        for field, hint in config.options().items()
        if (text := getattr(args, f"set_{field}")) is not None
    }
    return dataclasses.replace(config, **given)


def _run(args: argparse.Namespace) -> int:
    config = _config(args)
    jobs = parsed("--jobs", Count, args.jobs)
    folder = args.results or results_folder()
    store = Store(folder / f"{args.experiment}.json", replace=args.replace)
    print(f"results go to {printable(store.path)}", flush=True)
    try:
        with stoppable():
            records = run(config, store, jobs, args.device, args.cluster)
    except Stopped as stop:
        print(f"\nstopped: {_how_to_go_on(store)}", file=sys.stderr)
        return stop.status
    except CellsFailed as error:
        told = printable(error, keep="\n")
        print(f"error: {told}\n\n{_how_to_go_on(store)}", file=sys.stderr)
        return 1
    print(f"\n{len(records)} cells in {printable(store.path)}\n")
    print(_tables(store, records))
    return 0


def _how_to_go_on(store: Store) -> str:
    """What is kept, and the command that was typed."""
    count = len(store.records())
    kept = "1 cell is" if count == 1 else f"{count} cells are"
    words = printable(shlex.join(sys.orig_argv))
    return f"{kept} kept in {printable(store.path)}; go on with: {words}"


def _results(args: argparse.Namespace) -> int:
    folder = args.results or results_folder()
    for name in EXPERIMENTS:
        store = Store(folder / f"{name}.json")
        records = store.records()
        unknown = sum("data" not in record.provenance for record in records)
        told = f", {unknown} without a fingerprint of their data" if unknown else ""
        print(f"# {name}: {len(records)} cells{told}\n")
        if records:
            print(_tables(store, records))
    return 0


def _tables(store: Store, records: list[Any]) -> str:
    try:
        return report(store.experiment, records)
    except ValueError as error:
        raise ResultsError(f"{store.path} makes no table: {error}") from error


def _verify(args: argparse.Namespace) -> int:
    kept, told = verify(args.results or results_folder())
    print(told)
    return 0 if kept else 1


def _check(args: argparse.Namespace) -> int:
    size = parsed("--size", Annotated[tuple[int, ...], Range(1)], args.size)
    batch, seed = parsed("--batch", Count, args.batch), parsed("--seed", Seed, args.seed)
    tol = None if args.tol is None else parsed("--tol", Annotated[float, Range(0)], args.tol)
    group = (
        None
        if args.group is None
        else parsed("--group", Annotated[str, Choice(GROUPS)], args.group)
    )
    model = _load_model(args.model).eval()
    inner = unwrapped(model)
    own = group is None and isinstance(inner, GroupAverage)
    ins = inner.in_actions if own else GROUPS[group or "c4"]()
    outs = {None: inner.result_actions if own else None, "invariant": None, "maps": ins}[
        args.output
    ]
    x = torch.randn(batch, *size, generator=torch.Generator().manual_seed(seed))
    weights = next(model.parameters(), x)
    kept, told = checkup(model, x.to(weights.device, weights.dtype), ins, outs, tol)
    print(printable(f"{args.model}, in eval mode\n{told}", keep="\n"))
    return 0 if kept else 1


def _load_model(place: str) -> nn.Module:
    """The model FILE.py:NAME: a module, or what the function of this name returns."""
    file, _, name = place.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise ValueError(f"write FILE.py:NAME, with a file that exists; got {place!r}")
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = module_from_spec(spec)
    sys.path.insert(0, str(path.parent.absolute()))  # it may import what lies beside it
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        names = [key for key in vars(module) if not key.startswith("_")]
        raise ValueError(f"{path} has no {name!r}; it has {', '.join(names)}")
    model = getattr(module, name)
    model = model if isinstance(model, nn.Module) else model()
    if not isinstance(model, nn.Module):
        raise ValueError(f"{place} must be or return an nn.Module, got {type(model).__name__}")
    return model


def _assignments(args: argparse.Namespace) -> int:
    for path in write_assignments(args.out, args.otter, args.source):
        print(printable(path))
    return 0


COMMANDS = {
    "run": _run,
    "results": _results,
    "verify": _verify,
    "check": _check,
    "assignments": _assignments,
}
