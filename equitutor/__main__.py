"""python -m equitutor run|results|assignments|info"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from .book.assignments import write_assignments
from .book.reports import report
from .environment import setup
from .experiments import EXPERIMENTS, run
from .experiments.runner import refuse_to_replace
from .store.results import ResultsError, Store, results_folder


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
        return {"run": _run, "results": _results, "assignments": _assignments}[args.command](args)
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
    store = Store((args.results or results_folder()) / f"{args.experiment}.json")
    if not args.replace:
        instead = "choose another folder with --results FOLDER; or replace them with --replace"
        refuse_to_replace(store, config, instead)
    records = run(config, store, args.jobs, args.device, args.cluster)
    print(f"\n{len(records)} cells in {store.path}\n")
    print(report(args.experiment, records))
    return 0


def _results(args: argparse.Namespace) -> int:
    folder = args.results or results_folder()
    for name in EXPERIMENTS:
        records = Store(folder / f"{name}.json").records()
        print(f"# {name}: {len(records)} cells\n")
        if records:
            print(report(name, records))
    return 0


def _assignments(args: argparse.Namespace) -> int:
    for path in write_assignments(args.out, args.otter, args.source):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
