"""The words of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .options import split

__all__ = ["option", "parser"]


def option(field: str) -> str:
    """The option of a field: --batch-size of batch_size."""
    return "--" + field.replace("_", "-")


def folder(text: str) -> Path:
    """The folder that was named; an empty name, as of an unset variable, is none."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it must name a folder, got none")
    return Path(text)


def parser(experiments: Mapping[str, Any]) -> argparse.ArgumentParser:
    """The parser of all commands; ``run`` knows these experiments."""
    whole = argparse.ArgumentParser(
        "python -m equitutor", description="Run experiments, show their results, check a model."
    )
    commands = whole.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="run an experiment; what is done already is kept")
    kinds = runs.add_subparsers(dest="experiment", required=True)
    for name, module in experiments.items():
        one = kinds.add_parser(
            name,
            help=(module.__doc__ or name).splitlines()[0],
            description=module.Config.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.add_argument("--preset", choices=module.Config.presets(), default="quick")
        one.add_argument("--jobs", default="1", help="cells run at a time, default 1")
        one.add_argument(
            "--cluster",
            metavar="ADDRESS",
            help='of a Dask scheduler, whose workers run the cells; "local": one of JOBS workers',
        )
        one.add_argument("--device", help="default: the GPU if there is one")
        one.add_argument("--results", type=folder, help="default: book/results of the checkout")
        one.add_argument(
            "--replace",
            action="store_true",
            help="let new measurements take the place of those with other settings",
        )
        for field, hint in module.Config.options().items():
            kind, rule = split(hint)
            one.add_argument(
                option(field),
                dest=f"set_{field}",
                metavar="VALUE" if isinstance(kind, type) else "A,B,...",
                help=f"{rule}; default: the preset's" if rule else "default: the preset's",
            )
    shown = commands.add_parser("results", help="print the tables of what was run")
    shown.add_argument("--results", type=folder, help="default: book/results of the checkout")
    verified = commands.add_parser(
        "verify",
        help="check the records of what was run; exit 1 if something is wrong with them",
        description="Whether today's experiments make these records: their cells, settings, numbers "
        "and provenance, what is stale, and which pages show them. Exit status 1 if something is "
        "wrong, 0 if there are only notes.",
    )
    verified.add_argument(
        "results", nargs="?", type=folder, help="a folder, default: book/results of the checkout"
    )
    made = commands.add_parser("assignments", help="make the students' notebooks from the sources")
    made.add_argument(
        "--otter", action="store_true", help="make sources for `otter assign` instead"
    )
    made.add_argument(
        "--out",
        type=folder,
        help="default: book/assignments; of your own sources assignments, of --otter otter",
    )
    made.add_argument("--source", type=folder, help="default: book/assignments/source")
    made.add_argument(
        "--replace",
        action="store_true",
        help="overwrite files that differ, as book/assignments always",
    )
    checked = commands.add_parser(
        "check",
        help="is your model equivariant? exit 1 if not, 2 if that cannot be told",
        description="The error of a model of images for each element of a group, and the layers that "
        "break the law. Exit status 0 if it is kept, 1 if it is broken.",
    )
    checked.add_argument(
        "model", metavar="FILE.py:NAME", help="a module, or a function that makes one"
    )
    checked.add_argument(
        "--group", help="c2, c4, d4 or flip; default: that of a wrapped model, else c4"
    )
    checked.add_argument(
        "--size", default="3,224,224", metavar="C,H,W", help="of one input, default 3,224,224"
    )
    checked.add_argument(
        "--output",
        choices=["invariant", "maps"],
        help="what the output should do: stay, or move as the image does (default: stay)",
    )
    checked.add_argument("--batch", default="2", help="random inputs, default 2")
    checked.add_argument("--seed", default="0", help="of the inputs, default 0")
    checked.add_argument("--tol", help="default: by the dtype, 1e-5 for float32")
    commands.add_parser("info", help="print versions, device and cache folder")
    return whole
