"""python -m equitutor run|results|check|assignments|info"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import torch
from torch import nn

from .actions import Action
from .book.assignments import write_assignments
from .book.reports import report
from .diagnose import checkup
from .environment import setup
from .experiments import EXPERIMENTS, CellsFailed, run
from .experiments.stopping import Stopped, stoppable
from .groups import cyclic, dihedral
from .rotations import Flip, Rotations
from .store.results import ResultsError, Store, results_folder
from .symmetrize import GroupAverage

#: The groups that `check` knows, and how they move images.
GROUPS: dict[str, Callable[[], Action]] = {
    "c2": lambda: Rotations(cyclic(2)),
    "c4": lambda: Rotations(cyclic(4)),
    "d4": lambda: Rotations(dihedral(4)),
    "flip": Flip,
}


def _value(option: str, kind: Any, text: str) -> Any:
    """A command-line value of a field's type; the items of tuples are separated by commas."""
    item = (get_args(kind) or (kind,))[0]
    try:
        if get_origin(kind) is tuple:
            return tuple(item(part) for part in text.split(",") if part)
        return item(text)
    except ValueError:
        raise ValueError(f"--{option} takes {item.__name__} values, got {text!r}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m equitutor", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="run an experiment; what is done already is kept")
    kinds = runs.add_subparsers(dest="experiment", required=True)
    for name, module in EXPERIMENTS.items():
        one = kinds.add_parser(
            name,
            help=(module.__doc__ or name).splitlines()[0],
            description=module.Config.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.add_argument("--preset", choices=module.Config.presets(), default="quick")
        one.add_argument("--jobs", type=int, default=1, help="cells run at a time")
        one.add_argument(
            "--cluster",
            metavar="ADDRESS",
            help='of a Dask scheduler, whose workers run the cells; "local": one of JOBS workers',
        )
        one.add_argument("--device", help="default: the GPU if there is one")
        one.add_argument("--results", type=Path, help="default: book/results of the checkout")
        one.add_argument(
            "--replace",
            action="store_true",
            help="let new measurements take the place of those with other settings",
        )
        for field in dataclasses.fields(module.Config):
            one.add_argument(
                "--" + field.name.replace("_", "-"),
                dest=f"set_{field.name}",
                metavar="A,B,..." if isinstance(field.default, tuple) else "VALUE",
                help="default: the preset's",
            )
    shown = commands.add_parser("results", help="print the tables of what was run")
    shown.add_argument("--results", type=Path, help="default: book/results of the checkout")
    made = commands.add_parser("assignments", help="make the students' notebooks from the sources")
    made.add_argument(
        "--otter", action="store_true", help="make sources for `otter assign` instead"
    )
    made.add_argument(
        "--out",
        type=Path,
        help="default: book/assignments; of your own sources assignments, of --otter otter",
    )
    made.add_argument("--source", type=Path, help="default: book/assignments/source")
    checked = commands.add_parser(
        "check",
        help="is your model equivariant? exit 1 if not",
        description="The error of a model of images for each element of a group, and the layers that "
        "break the law. Exit status 0 if it is kept, 1 if it is broken.",
    )
    checked.add_argument(
        "model", metavar="FILE.py:NAME", help="a module, or a function that makes one"
    )
    checked.add_argument(
        "--group", choices=GROUPS, help="default: that of a wrapped model, else c4"
    )
    checked.add_argument(
        "--size", default="3,224,224", metavar="C,H,W", help="of one input, default 3,224,224"
    )
    checked.add_argument(
        "--output",
        choices=["invariant", "maps"],
        help="what the output should do: stay, or move as the image does (default: stay)",
    )
    checked.add_argument("--batch", type=int, default=2, help="random inputs, default 2")
    checked.add_argument("--seed", type=int, default=0, help="of the inputs, default 0")
    checked.add_argument("--tol", type=float, help="default: by the dtype, 1e-5 for float32")
    commands.add_parser("info", help="print versions, device and cache folder")
    return parser


def main(words: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _parser().parse_args(words)
    if args.command == "info":
        from .store.files import cache_dir

        setup()
        print(f"cache folder {cache_dir()}")
        return 0
    try:
        commands = {"run": _run, "results": _results, "check": _check, "assignments": _assignments}
        return commands[args.command](args)
    except (ResultsError, ValueError, RuntimeError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _config(args: argparse.Namespace) -> Any:
    """The preset with what was given on the command line."""
    config = EXPERIMENTS[args.experiment].Config.preset(args.preset)
    kinds = get_type_hints(type(config))
    given = {
        field.name: _value(field.name.replace("_", "-"), kinds[field.name], text)
        for field in dataclasses.fields(config)
        if (text := getattr(args, f"set_{field.name}")) is not None
    }
    return dataclasses.replace(config, **given)


def _run(args: argparse.Namespace) -> int:
    config = _config(args)
    folder = args.results or results_folder()
    store = Store(folder / f"{args.experiment}.json", replace=args.replace)
    try:
        with stoppable():
            records = run(config, store, args.jobs, args.device, args.cluster)
    except Stopped as stop:
        print(f"\nstopped: {_how_to_go_on(store)}", file=sys.stderr)
        return stop.status
    except CellsFailed as error:
        print(f"error: {error}\n\n{_how_to_go_on(store)}", file=sys.stderr)
        return 1
    print(f"\n{len(records)} cells in {store.path}\n")
    print(report(args.experiment, records))
    return 0


def _how_to_go_on(store: Store) -> str:
    """What is kept, and the command that was typed."""
    count = len(store.records())
    kept = "1 cell is" if count == 1 else f"{count} cells are"
    return f"{kept} kept in {store.path}; go on with: {shlex.join(sys.orig_argv)}"


def _results(args: argparse.Namespace) -> int:
    folder = args.results or results_folder()
    for name in EXPERIMENTS:
        records = Store(folder / f"{name}.json").records()
        print(f"# {name}: {len(records)} cells\n")
        if records:
            print(report(name, records))
    return 0


def _check(args: argparse.Namespace) -> int:
    model = _load_model(args.model).eval()
    own = args.group is None and isinstance(model, GroupAverage)
    ins = model.in_actions if own else GROUPS[args.group or "c4"]()
    outs = {None: model.result_actions if own else None, "invariant": None, "maps": ins}[
        args.output
    ]
    size = _value("size", tuple[int, ...], args.size)
    x = torch.randn(args.batch, *size, generator=torch.Generator().manual_seed(args.seed))
    weights = next(model.parameters(), x)
    kept, told = checkup(model, x.to(weights.device, weights.dtype), ins, outs, args.tol)
    print(f"{args.model}, in eval mode\n{told}")
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
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
