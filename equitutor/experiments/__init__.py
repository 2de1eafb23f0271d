"""The papers' experiments, one module each, and the one way to run them.

An experiment module has a frozen dataclass ``Config`` with the presets as class methods, and

- ``config.cells()``: the keys of its table's cells, ``config.settings(cell)``: what else the
  result of one depends on;
- ``prepare(config, device)``: the tasks that cells share, such as pretraining (may be empty);
- ``run_cell(config, cell, device)``: the metrics of one cell.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from ..results import Record, Store, provenance
from . import clip, dqn, fairness, methods, scan, vision

__all__ = ["EXPERIMENTS", "run"]

_MODULES = (vision, scan, fairness, methods, clip, dqn)
EXPERIMENTS = {module.__name__.rsplit(".", 1)[-1]: module for module in _MODULES}


def run(config: Any, store: Store, jobs: int = 1, device: str | None = None) -> list[Record]:
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

    Returns
    -------
    list of Record
        Of all cells of the config, those of earlier runs included.
    """
    module = sys.modules[type(config).__module__]
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    cells = [c for c in config.cells() if not store.done(c, config.settings(c))]
    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered")
    if cells:
        shared = [delayed(_apart)(jobs, task) for task in module.prepare(config, cells, device)]
        for _ in tqdm(parallel(shared), "preparing", total=len(shared), disable=len(shared) < 2):
            pass
    work = (
        delayed(_apart)(jobs, (_cell, module.__name__, config, c, store, device)) for c in cells
    )
    for _ in tqdm(parallel(work), store.experiment, total=len(cells), unit="cell"):
        pass
    wanted = config.cells()
    return [r for r in store.records() if r.cell in wanted]


def _apart(jobs: int, task: tuple) -> None:
    """Call a task, (function, *arguments), with this process's share of the processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, (os.cpu_count() or 1) // max(1, jobs))))
    try:
        task[0](*task[1:])
    finally:
        torch.set_num_threads(before)


def _cell(module: str, config: Any, cell: dict, store: Store, device: str) -> None:
    start = time.perf_counter()
    metrics = sys.modules[module].run_cell(config, cell, device)
    seconds = time.perf_counter() - start
    record = Record(
        store.experiment, cell, metrics, config.settings(cell), provenance(seconds, device)
    )
    store.add(record)
