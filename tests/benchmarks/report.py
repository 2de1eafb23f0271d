"""What the benchmarks share: ratios with their spread, printed, and kept for the book's page on trust."""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from pathlib import Path

from equitutor.store.files import whole
from equitutor.store.provenance import provenance

#: Where the book's page looks for them.
KEPT = Path(__file__).parents[2] / "book" / "results" / "trust"
START = time.perf_counter()


class Report:
    """Rows of ratios; each is printed as soon as it is measured.

    Parameters
    ----------
    name : str
        Of the file in which ``--keep`` stores the rows.
    args : argparse.Namespace
    """

    def __init__(self, name: str, args: argparse.Namespace):
        self.name, self.keep, self.rows = name, args.keep, []

    def row(self, label: str, found: list[float], target: str = "") -> None:
        """Print the median and the spread of some ratios; a target is "<= 1.05" or ">= 40"."""
        median = statistics.median(found)
        row = {"what": label, "median": median, "low": min(found), "high": max(found)}
        row |= {"times": len(found)}
        if target:
            row |= {"target": target, "met": met(median, target)}
        self.rows.append(row)
        verdict = f"   target {target}: {'met' if row['met'] else 'MISSED'}" if target else ""
        print(
            f"{label:<64} {median:7.3g}  ({min(found):.3g} - {max(found):.3g}){verdict}", flush=True
        )

    def done(self) -> None:
        """Store the rows, with what made them, if that was asked for."""
        if self.keep:
            keep(self.name, {"rows": self.rows})


def keep(name: str, found: dict) -> None:
    """Store what a command found, with its provenance, where the book's page looks for it."""
    origin = provenance(time.perf_counter() - START)
    script, *options = sys.argv
    origin["command"] = shlex.join(["python", f"tests/benchmarks/{Path(script).name}", *options])
    with whole(KEPT / f"{name}.json") as part:  # a run that is cut off leaves the old record
        part.write_text(json.dumps({**origin, **found}, indent=1) + "\n")


def met(value: float, target: str) -> bool:
    """Whether a value fulfils "<= 1.05" or ">= 40"."""
    sign, bound = target.split()
    return value <= float(bound) if sign == "<=" else value >= float(bound)


def parser(about: str, repeats: int, threads: int = 1) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    made = argparse.ArgumentParser(description=about.splitlines()[0])
    made.add_argument(
        "--repeats", type=int, default=repeats, help="how often each is timed, in turns"
    )
    made.add_argument("--threads", type=int, default=threads)
    made.add_argument("--keep", action="store_true", help=f"store the result in {KEPT.name}/")
    return made
