"""Running an experiment: the cells of its table, one by one, in parallel, or on a cluster."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from ..store.files import cache_dir, sweep
from ..store.provenance import command_line, provenance
from ..store.results import Record, Store, results_folder
from .failures import CellsFailed, Failure, attempt
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
        If a worker of the cluster has several threads; if the store replaces nothing and holds a
        cell of the config that was measured with other settings.
    CellsFailed
        At the end, if some cells failed. The others are recorded, and in its ``records``.
    ResultsError
        If the records cannot be written, which is tried before the work, or if another run added
        such a cell meanwhile. What this run had added is kept.
    """
    module = import_module(type(config).__module__)
    name = module.__name__.rpartition(".")[2]
    if store is None and config == config.quick():
        with tempfile.TemporaryDirectory() as folder:
            return run(config, Store(Path(folder, f"{name}.json")), jobs, device, cluster)
    if store is None:
        store = Store(results_folder() / f"{name}.json", replace=False)
    if not store.replace:
        _refuse_to_replace(store, config)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    cells = [c for c in config.cells() if not store.done(c, config.settings(c))]
    if cells:
        store.try_to_write()
        sweep(cache_dir())
    failures: list[Failure] = []
    with ExitStack() as stack:
        with shielded() if cluster == "local" else nullcontext():
            stack.enter_context(_backend(cluster, jobs))
        broken = []
        tasks = module.prepare(config, cells, device) if cells else []
        calls = [(task, *task) for task in tasks]
        with _outcomes(jobs, calls, "preparing", disable=len(tasks) < 2) as outcomes:
            for task, outcome in outcomes:
                if isinstance(outcome, Failure):
                    broken.append((task, outcome))
        for cell in cells if broken else ():
            needed = module.prepare(config, [cell], device)
            failures += [replace(why, cell=cell) for task, why in broken if task in needed][:1]
        failed = [failure.cell for failure in failures]
        command = command_line()
        calls = [
            (cell, _cell, store.experiment, config, cell, device, command)
            for cell in cells
            if cell not in failed
        ]
        with _outcomes(jobs, calls, store.experiment, unit="cell") as outcomes:
            for cell, outcome in outcomes:
                if isinstance(outcome, Failure):
                    failures.append(replace(outcome, cell=cell))
                else:
                    store.add(outcome)
    failed = [failure.cell for failure in failures]  # they may have records of other settings
    wanted = [cell for cell in config.cells() if cell not in failed]
    records = [r for r in store.records() if r.cell in wanted]
    if failures:
        raise CellsFailed(failures, records)
    return records


def _refuse_to_replace(store: Store, config: Any) -> None:
    """Raise ValueError if a run of this config would replace records of other settings."""
    differing = [d for c in config.cells() if (d := store.differing(c, config.settings(c)))]
    if differing:
        raise ValueError(
            f"{len(differing)} of the {len(config.cells())} cells are in {store.path} with other "
            f"settings (the first: {'; '.join(differing[0])}). To keep them, choose another folder "
            "(--results FOLDER, in Python store=Store(path)); to replace them, give --replace"
        )


@contextmanager
def _backend(cluster: str | None, jobs: int) -> Iterator[None]:
    """Within it, joblib hands its work to the cluster, if there is one."""
    if cluster is None:
        yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise RuntimeError('a cluster needs Dask: pip install "equitutor[cluster]"') from error
    local = {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": None}
    client = Client(**local) if cluster == "local" else Client(cluster)
    with client, parallel_config("dask", client=client):
        # Every cell seeds the one random generator of its process.
        crowded = [name for name, threads in client.nthreads().items() if threads > 1]
        if crowded:
            raise ValueError(
                f"workers must run one cell at a time, but {crowded[0]} has several threads: start "
                "each with --nthreads 1, and more of them on a machine with --nworkers"
            )
        yield


@contextmanager
def _outcomes(jobs: int, calls: list[tuple], title: str, **bar: Any) -> Iterator[Iterable]:
    """What comes of each (key, function, *args), as it comes; what is left at the end is ended."""
    parallel = Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
    with shielded():
        outcomes = parallel(delayed(_on_own_threads)(jobs, *call) for call in calls)
    try:
        yield tqdm(outcomes, title, len(calls), **bar)
    finally:
        with warnings.catch_warnings(action="ignore"):  # of work that is cancelled
            outcomes.close()


def _on_own_threads(jobs: int, key: Any, function: Callable, *args: Any) -> tuple[Any, Any]:
    """Call a function with this process's share of the processors: the key, and what came of it."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, (os.cpu_count() or 1) // max(1, jobs))))
    try:
        return key, attempt(function, *args)
    finally:
        torch.set_num_threads(before)


def _cell(experiment: str, config: Any, cell: dict, device: str, command: str) -> Record:
    start = time.perf_counter()
    metrics = import_module(type(config).__module__).run_cell(config, cell, device)
    origin = provenance(time.perf_counter() - start, device, command)
    return Record(experiment, cell, metrics, config.settings(cell), origin)
