"""Running an experiment: the cells of its table, one by one, in parallel, or on a cluster."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from ..store.provenance import command_line, provenance
from ..store.results import Record, Store, results_folder
from ..text import printable
from .cluster import Each, on_cluster

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
        If the store replaces nothing and holds a cell of the config that was measured with other settings.
    ResultsError
        If another run added such a cell meanwhile, or the records cannot be written. What this run
        had added is kept.
    ClusterError
        If the cluster does not answer, or its workers do not run the same code, one cell at a time.
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
    with _engine(config, cluster, jobs) as each:
        tasks = module.prepare(config, cells, device) if cells else []
        shared = [(_on_own_threads, jobs, *task) for task in tasks]
        for _ in tqdm(each(shared), "preparing", len(tasks), disable=len(tasks) < 2):
            pass
        command = command_line()
        with tqdm(desc=store.experiment, total=len(cells), unit="cell") as bar:

            def work() -> Iterator[tuple]:
                for c in cells:  # the one that is named is started now
                    bar.set_postfix_str(printable(" ".join(map(str, c.values()))))
                    one = (_cell, store.experiment, config, c, device, command)
                    yield (_on_own_threads, jobs, *one)

            for record in each(work()):
                store.add(record)
                bar.update()
    wanted = config.cells()
    return [r for r in store.records() if r.cell in wanted]


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
def _engine(config: Any, cluster: str | None, jobs: int) -> Iterator[Each]:
    """What calls functions, given as (function, *arguments), and yields what they return as it comes."""
    if cluster is not None:
        with on_cluster(cluster, jobs) as each:
            yield each
        return
    parallel = Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
    yield lambda tasks: parallel(delayed(function)(*args) for function, *args in tasks)


def _on_own_threads(jobs: int, function: Callable, *args: Any) -> Any:
    """Call a function with this process's share of the processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, (os.cpu_count() or 1) // max(1, jobs))))
    try:
        return function(*args)
    finally:
        torch.set_num_threads(before)


def _cell(experiment: str, config: Any, cell: dict, device: str, command: str) -> Record:
    start = time.perf_counter()
    metrics = import_module(type(config).__module__).run_cell(config, cell, device)
    origin = provenance(time.perf_counter() - start, device, command)
    return Record(experiment, cell, metrics, config.settings(cell), origin)
