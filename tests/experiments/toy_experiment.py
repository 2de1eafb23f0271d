"""An experiment whose cells cost nothing, to test how experiments are run."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from equitutor.experiments.config import BaseConfig
from equitutor.store.files import sha256sum


@dataclass(frozen=True)
class Config(BaseConfig):
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    scale: float = 2.0
    log: str = ""
    kill_at: int = -1
    fail_at: int = -1
    stuck_at: int = -1
    interrupt_at: int = -1
    pause: float = 0.0
    data: str = ""

    @classmethod
    def quick(cls):
        return cls(seeds=(0, 1), scale=1.0)

    def cells(self):
        return [{"seed": seed} for seed in self.seeds]

    def settings(self, cell=None):
        return {"scale": self.scale}

    def sources(self, cell):
        return {"file": (content, self.data)} if self.data else {}


def content(file):
    return sha256sum(Path(file))[:16]


def _note(config, word):
    if config.log:
        with open(config.log, "a") as file:
            file.write(word + "\n")


def prepare(config, cells, device):
    if config.stuck_at >= 0:
        return [(_start, config, cell["seed"]) for cell in cells]
    return [(_note, config, "prepared")] if len(cells) > 1 else []


def _start(config, seed):
    _note(config, f"start {seed}")
    return 1 / (seed != config.stuck_at)


def run_cell(config, cell, device):
    if cell["seed"] == config.kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    if cell["seed"] == config.interrupt_at:
        raise KeyboardInterrupt
    _note(config, f"seed {cell['seed']}")
    time.sleep(config.pause)
    return {
        "value": config.scale * cell["seed"] / (cell["seed"] != config.fail_at),
        "process": os.getpid(),
    }
