"""Ctrl-C and SIGTERM end a run in order: what is recorded is kept, and no process is left behind."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

__all__ = ["Stopped", "shielded", "stoppable"]


class Stopped(KeyboardInterrupt):
    """A signal asked this process to stop; ``status`` is the exit status that says so."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Within it, SIGINT and SIGTERM raise Stopped; a second one ends the process at once."""

    def stop(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        logging.disable()  # the process ends: what joblib and Dask say of cancelled work is no news
        warnings.simplefilter("ignore")
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is given signals
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def shielded() -> Iterator[None]:
    """Processes and threads that are started within it get no SIGINT.

    Ctrl-C in a terminal goes to all processes: this one is to end the others, in order and in
    silence. One that comes within the block arrives here after it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
