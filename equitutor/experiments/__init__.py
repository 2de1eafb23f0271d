"""Experiments: the papers', one module each, and the one way to run them.

What an experiment trains and measures with lives in the wings (images, language, sequences); how its
records are shown lives in :mod:`equitutor.book`. An experiment module has a frozen dataclass
``Config`` with the presets as class methods, and

- ``config.cells()``: the keys of its table's cells, ``config.settings(cell)``: what else the
  result of one depends on;
- ``prepare(config, cells, device)``: the tasks that these cells share, such as pretraining (may be empty);
- ``run_cell(config, cell, device)``: the metrics of one cell, or a pair (metrics, texts).

Cells are independent of each other, so they may run in other processes or on other machines; what
they measured comes back, and is stored here.
"""

from . import clip, dqn, fairness, frozen, landscape, methods, regard, scan, vision
from .failures import CellsFailed
from .runner import run

__all__ = ["EXPERIMENTS", "CellsFailed", "run"]

_MODULES = (vision, scan, fairness, regard, methods, frozen, landscape, clip, dqn)
#: Each experiment by its name, which is that of its module, its records and its command.
#:
#: :meta hide-value:
EXPERIMENTS = {module.__name__.rpartition(".")[2]: module for module in _MODULES}
