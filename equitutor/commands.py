"""What the commands of ``python -m equitutor`` do: run, results, verify, check, assignments."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn

from .actionmap import action_maps, unwrapped
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
from .store.results import ResultsError, Store, existing, results_folder
from .symmetrize import GroupAverage
from .text import counted, printable

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
    return COMMANDS[args.command](args)


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
    print(f"\n{counted(len(records), 'cell')} in {printable(store.path)}\n")
    print(_tables(store, records))
    return 0


def _how_to_go_on(store: Store) -> str:
    """What is kept, and the command that was typed."""
    count = len(store.records())
    kept = f"{counted(count, 'cell')} {'is' if count == 1 else 'are'} kept"
    words = printable(shlex.join(sys.orig_argv))
    return f"{kept} in {printable(store.path)}; go on with: {words}"


def _results(args: argparse.Namespace) -> int:
    folder, wrong = existing(args.results or results_folder()), []
    for name in EXPERIMENTS:
        store = Store(folder / f"{name}.json")
        try:
            print(_shown(store))
        except ResultsError as error:  # the others are shown all the same
            wrong.append(str(error))
    if wrong:
        raise ResultsError("\n".join(wrong))
    return 0


def _shown(store: Store) -> str:
    """How many records there are, and their tables."""
    records = store.records()
    unknown = sum("data" not in record.provenance for record in records)
    told = f", {unknown} without a fingerprint of their data" if unknown else ""
    title = f"# {store.experiment}: {counted(len(records), 'cell')}{told}\n"
    return f"{title}\n{_tables(store, records)}" if records else title


def _tables(store: Store, records: list[Any]) -> str:
    try:
        return report(store.experiment, records)
    except ValueError as error:
        raise ResultsError(f"{store.path} makes no table: {error}") from error


def _verify(args: argparse.Namespace) -> int:
    kept, told = verify(args.results or results_folder(), report)
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
    x = x.to(weights.device, weights.dtype)
    action_maps(ins, None)[0].first.validate_batch(x)
    path, _, name = args.model.rpartition(":")
    with torch.no_grad(), _theirs(path, f"{name} cannot run on shape {tuple(x.shape)}"):
        model(x)
    with _theirs(path, f"{name} cannot run on an input that was moved", ours=ValueError):
        kept, told = checkup(model, x, ins, outs, tol)
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
    sys.modules.setdefault(module.__name__, module)  # where dataclasses look for their module
    with _theirs(path, "it cannot be imported"):
        spec.loader.exec_module(module)
    if not hasattr(module, name):
        names = [key for key in vars(module) if not key.startswith("_")]
        raise ValueError(f"{path} has no {name!r}; it has {', '.join(names)}")
    model = getattr(module, name)
    if not isinstance(model, nn.Module) and callable(model):
        with _theirs(path, f"{name}() fails"):
            model = model()
    if not isinstance(model, nn.Module):
        raise ValueError(f"{place} must be or return an nn.Module, got {type(model).__name__}")
    return model


@contextmanager
def _theirs(path: str | Path, what: str, ours: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """Say in one line how the code of a file failed, and where; errors of ours pass."""
    try:
        yield
    except ours:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if Path(f.filename) == Path(path).absolute()]
        line = f", line {lines[-1]}" if lines else ""
        told = f"{type(error).__name__}: {error}".rstrip(": ")
        raise ValueError(f"{path}{line}: {what}: {told}") from error


def _assignments(args: argparse.Namespace) -> int:
    for path in write_assignments(args.out, args.otter, args.source, args.replace):
        print(printable(path))
    return 0


COMMANDS = {
    "run": _run,
    "results": _results,
    "verify": _verify,
    "check": _check,
    "assignments": _assignments,
}
