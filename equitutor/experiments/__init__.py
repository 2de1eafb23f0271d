"""The papers' experiments, one module each, and the one way to run them.

An experiment module has a frozen dataclass ``Config`` with the presets as class methods, and

- ``config.cells()``: the keys of its table's cells, ``config.settings(cell)``: what else the
  result of one depends on;
- ``prepare(config, cells, device)``: the tasks that these cells share, such as pretraining (may be empty);
- ``run_cell(config, cell, device)``: the metrics of one cell.

Cells are independent of each other, so they may run in other processes or on other machines; what
they measured comes back, and is stored here.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from ..store.provenance import command_line, provenance
from ..store.results import Record, Store
from . import clip, dqn, fairness, methods, scan, vision

__all__ = ["EXPERIMENTS", "run"]

_MODULES = (vision, scan, fairness, methods, clip, dqn)
EXPERIMENTS = {module.__name__.rsplit(".", 1)[-1]: module for module in _MODULES}


def run(
    config: Any,
    store: Store,
    jobs: int = 1,
    device: str | None = None,
    cluster: str | None = None,
) -> list[Record]:
    """Run the cells of a config that the store does not hold yet; each is saved as soon as done.

    A run that was killed goes on where it stopped when it is started again.

    Parameters
    ----------
    config : the Config of one of these modules
    store : Store
    jobs : int
        Cells run at a time, through joblib (whichever backend is active in the caller).
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
        If a worker of the cluster has several threads.
    """
    module = sys.modules[type(config).__module__]
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    cells = [c for c in config.cells() if not store.done(c, config.settings(c))]
    with _spread(cluster, jobs):
        parallel = Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
        if cells:
            shared = [delayed(_apart)(jobs, task) for task in module.prepare(config, cells, device)]
            for _ in tqdm(parallel(shared), "preparing", len(shared), disable=len(shared) < 2):
                pass
        typed = command_line()
        work = (
            delayed(_apart)(jobs, (_cell, store.experiment, config, c, device, typed))
            for c in cells
        )
        for record in tqdm(parallel(work), store.experiment, total=len(cells), unit="cell"):
            store.add(record)
    wanted = config.cells()
    return [r for r in store.records() if r.cell in wanted]


@contextmanager
def _spread(cluster: str | None, jobs: int) -> Iterator[None]:
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


def _apart(jobs: int, task: tuple) -> Any:
    """Call a task, (function, *arguments), with this process's share of the processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, (os.cpu_count() or 1) // max(1, jobs))))
    try:
        return task[0](*task[1:])
    finally:
        torch.set_num_threads(before)


def _cell(experiment: str, config: Any, cell: dict, device: str, typed: str) -> Record:
    start = time.perf_counter()
    metrics = sys.modules[type(config).__module__].run_cell(config, cell, device)
    origin = provenance(time.perf_counter() - start, device, typed)
    return Record(experiment, cell, metrics, config.settings(cell), origin)
