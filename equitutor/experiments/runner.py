"""Running an experiment: the cells of its table, one by one, in parallel, or on a cluster."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from ..environment import usable_device
from ..options import Count, Name, checked
from ..store.checkpoints import noted
from ..store.files import cache_dir, sweep
from ..store.provenance import command_line, provenance
from ..store.results import Record, Store, cell_label, results_folder
from ..text import printable
from .cluster import on_cluster
from .config import Cell
from .failures import Call, CellsFailed, Each, Failure, attempt
from .stopping import shielded

__all__ = ["run"]


def run(
    config: Any,
    store: Store | None = None,
    jobs: int = 1,
    device: str | None = None,
    cluster: str | None = None,
) -> list[Record]:
    """Run the cells of a config that are not recorded yet; each is saved as soon as it is done.

    A run that was killed goes on where it stopped when it is started again.

    Parameters
    ----------
    config : the Config of an experiment
    store : Store, optional
        Where the records are kept. By default the ``quick`` preset keeps none, and any other config
        keeps them in :func:`equitutor.store.results.results_folder`, beside those of other settings but
        never in place of them: it is a store with ``replace=False``.
    jobs : int
        How many cells run at a time, through joblib (whichever backend is active in the caller).
    device : str, optional
        Default: the GPU if there is one, else the CPU.
    cluster : str, optional
        The address of a Dask scheduler, whose workers then run the cells, each one at a time;
        "local" starts one with ``jobs`` workers on this machine. The workers' cache folder should
        be one that all of them see, or each prepares what it lacks for itself.

    Returns
    -------
    list of Record
        Of all cells of the config, those of earlier runs included.

    Raises
    ------
    ValueError
        If an argument is none of those; if the store replaces nothing and holds a cell of the config that
        was measured with other settings, or on other data.
    CellsFailed
        At the end, if some cells failed. The others are recorded, and in its ``records``.
    ResultsError
        If the records cannot be written, which is tried before the work, or if another run added
        such a cell meanwhile. What this run had added is kept.
    ClusterError
        If the cluster does not answer, or its workers do not run the same code, one cell at a time.
    """
    jobs = checked("jobs", Count, jobs)
    if cluster is not None:
        checked("cluster", Name, cluster)
    if cluster in (None, "local"):  # else its machines know which devices they have
        usable_device(device)
    module = import_module(type(config).__module__)
    name = module.__name__.rpartition(".")[2]
    if store is None and config == config.quick():
        with tempfile.TemporaryDirectory() as folder:
            return run(config, Store(Path(folder, f"{name}.json")), jobs, device, cluster)
    if store is None:
        store = Store(results_folder() / f"{name}.json", replace=False)
    wanted = config.cells()
    if not wanted:
        given = (f"{n}={getattr(config, n)!r}" for n in config.spans if getattr(config, n))
        raise ValueError(f"there is nothing to run: no cell goes with {', '.join(given)}")
    data = dict(zip(map(cell_label, wanted), fingerprints(config, wanted), strict=True))
    if not store.replace:
        _refuse_to_replace(store, config, data)
    _warn_of_unknown(store, wanted)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    cells = [c for c in wanted if not store.done(c, config.settings(c), data[cell_label(c)])]
    if cells:
        store.try_to_write()
        sweep(cache_dir())
    jobs = min(jobs, len(cells)) or 1  # no process that would have nothing to do
    with _engine(cluster, jobs, partial(_all_fingerprints, config, cells)) as each:
        tasks = module.prepare(config, cells, device) if cells else []
        calls = ((task, *task) for task in tasks)
        bar = tqdm(each(calls), "preparing", len(tasks), disable=len(tasks) < 2)
        broken = [(task, why) for task, why in bar if isinstance(why, Failure)]
        failures: list[Failure] = []
        for cell in cells if broken else ():
            needed = module.prepare(config, [cell], device)
            failures += [replace(why, cell=cell) for task, why in broken if task in needed][:1]
        stuck = [failure.cell for failure in failures]
        todo = [cell for cell in cells if cell not in stuck]
        one = (_cell, store.experiment, config, device, command_line())
        with tqdm(desc=printable(store.experiment), total=len(todo), unit="cell") as bar:

            def calls_named() -> Iterator[tuple]:
                for cell in todo:  # the one that is named is started now
                    bar.set_postfix_str(printable(" ".join(map(str, cell.values()))))
                    yield (cell, *one, cell, data[cell_label(cell)])

            for cell, outcome in each(calls_named()):
                if isinstance(outcome, Failure):
                    failures.append(replace(outcome, cell=cell))
                else:
                    store.add(outcome)
                bar.update()
    failed = [failure.cell for failure in failures]  # they may have records of other settings
    records = [r for r in store.records() if r.cell in wanted and r.cell not in failed]
    if failures:
        raise CellsFailed(failures, records)
    return records


def fingerprints(config: Any, cells: Sequence[Cell]) -> list[dict[str, str]]:
    """What identifies the data and weights from outside that each cell is made from: name -> content.

    Each source is read once.
    """
    sources = [config.sources(cell) for cell in cells]
    once = dict.fromkeys(source for named in sources for source in named.values())
    known = {(function, *args): function(*args) for function, *args in once}
    return [{name: known[source] for name, source in named.items()} for named in sources]


def _refuse_to_replace(store: Store, config: Any, data: Mapping[str, dict[str, str]]) -> None:
    """Raise ValueError if a run of this config would replace records of other settings or data."""
    cells = config.cells()
    found = [store.differing(c, config.settings(c), data[cell_label(c)]) for c in cells]
    if differing := [what for what in found if what]:
        raise ValueError(
            f"{len(differing)} of the {len(cells)} cells are in {store.path} with other "
            f"settings (the first: {'; '.join(differing[0])}). To keep them, choose another folder "
            "(--results FOLDER, in Python store=Store(path)); to replace them, give --replace"
        )


def _all_fingerprints(config: Any, cells: Sequence[Cell]) -> dict[str, str]:
    """Of each kind of source, the fingerprints that occur."""
    pairs = {pair for found in fingerprints(config, cells) for pair in found.items()}
    names = sorted({name for name, _ in pairs})
    return {name: ", ".join(sorted(v for n, v in pairs if n == name)) for name in names}


def _warn_of_unknown(store: Store, cells: Sequence[Cell]) -> None:
    """Warn of records of these cells that do not tell their data."""
    unknown = [r for r in store.records() if r.cell in cells and "data" not in r.provenance]
    if unknown:
        warnings.warn(
            f"{len(unknown)} of the cells are in {printable(store.path.name)} without a fingerprint "
            "of their data, as older versions recorded them; they count as done, whatever their data were",
            stacklevel=3,
        )


@contextmanager
def _engine(cluster: str | None, jobs: int, data: Callable[[], dict[str, str]]) -> Iterator[Each]:
    """What makes calls, in this process, in others or on a cluster; what is left at the end is ended."""
    if cluster is not None:
        with on_cluster(cluster, jobs, data) as each:
            yield each
        return
    parallel = Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
    with warnings.catch_warnings(), ExitStack() as stack:

        def each(calls: Iterable[Call]) -> Iterator[tuple[Any, Any]]:
            with shielded():
                outcomes = parallel(delayed(attempt)(jobs, *call) for call in calls)
            stack.callback(outcomes.close)
            return outcomes

        try:
            yield each
        finally:
            warnings.simplefilter("ignore")  # of work that is cancelled


def _cell(
    experiment: str, config: Any, device: str, command: str, cell: Cell, data: dict[str, str]
) -> Record:
    start = time.perf_counter()
    with noted() as weights:
        found = import_module(type(config).__module__).run_cell(config, cell, device)
    seconds = time.perf_counter() - start
    origin = provenance(seconds, device, command, data=data, weights=weights)
    metrics, texts = found if isinstance(found, tuple) else (found, {})
    return Record(experiment, cell, metrics, config.settings(cell), origin, texts)
