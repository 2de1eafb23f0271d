"""Cells on a Dask cluster, whose workers are asked first whether they run the same code on the same data."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from .failures import Call, Each, Failure, attempt
from .stopping import shielded

__all__ = ["ClusterError", "on_cluster"]

CONNECT = 10  # seconds for a scheduler, and for its first worker, to answer
GRACE = 5.0  # seconds without a scheduler or a worker after which they count as gone

# What a process runs: text, since a worker may lack the package that a function would come from.
_PROBE = """
import hashlib, importlib.metadata, importlib.util, pathlib
try:
    spec = importlib.util.find_spec("equitutor")
except ImportError:
    spec = None
found = {"equitutor": None}
if spec is not None and spec.origin:
    folder = pathlib.Path(spec.origin).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    text = (folder / "version.py").read_text()
    found["equitutor"] = text.rpartition("=")[2].strip().strip("\\"'") + " " + digest.hexdigest()[:12]
    found["torch"] = importlib.metadata.version("torch")
"""
PROBE = f"(lambda names: (exec({_PROBE!r}, names), names['found'])[1])({{}})"


class ClusterError(RuntimeError):
    """A cluster that cannot be used, or is gone; the message says what to do."""


@contextmanager
def on_cluster(address: str, jobs: int, data: Callable[[], dict[str, str]]) -> Iterator[Each]:
    """Connect to a cluster, compare its workers with this process, and hand out what makes calls there.

    Parameters
    ----------
    address : str
        Of a Dask scheduler; "local" starts one with ``jobs`` workers on this machine.
    data : callable
        Returns the fingerprints of the data; called here and on each worker.

    Raises
    ------
    ClusterError
        If no scheduler or no worker answers, a worker has several threads, lacks the package, or has other code,
        another torch or other data; later, if the scheduler or all workers are gone.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise RuntimeError('a cluster needs Dask: pip install "equitutor[cluster]"') from error
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # its own report of a lost connection is 55 lines
    client = None
    try:
        with shielded():
            client = _client(Client, address, jobs)
        _check(client, data)
        yield lambda calls: _each(client, address, jobs, calls)
    finally:
        if client is not None:  # one that is gone is not waited for; a local one is ours to stop
            client.close() if address == "local" else client.close(timeout=2)
        logger.setLevel(level)


def _client(make: Callable[..., Any], address: str, jobs: int) -> Any:
    if address == "local":
        return make(n_workers=jobs, threads_per_worker=1, dashboard_address=":0")
    try:
        client = make(address, timeout=CONNECT)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise ClusterError(
            f"no Dask scheduler answers at {address} within {CONNECT} s: start one with `dask scheduler`, and "
            "workers with `dask worker ADDRESS --nthreads 1`"
        ) from error
    try:
        client.wait_for_workers(1, timeout=CONNECT)
    except TimeoutError as error:
        client.close(timeout=2)
        raise ClusterError(
            f"the scheduler at {address} has no worker: start some with `dask worker {address} --nthreads 1`"
        ) from error
    return client


def _check(client: Any, data: Callable[[], dict[str, str]]) -> None:
    # Every cell seeds the one random generator of its process.
    crowded = [name for name, threads in client.nthreads().items() if threads > 1]
    if crowded:
        raise ClusterError(
            f"workers must run one cell at a time, but {crowded[0]} has several threads: start each with "
            "--nthreads 1, and more of them on a machine with --nworkers"
        )
    _compare("code", eval(PROBE), client.run(eval, PROBE, on_error="return"))
    _compare("data", data(), client.run(data, on_error="return"))


def _compare(what: str, here: dict[str, Any], there: dict[str, dict[str, Any]]) -> None:
    for worker, found in there.items():
        if type(found).__name__ == "CommClosedError":
            continue  # it died meanwhile, and is given no cells
        if isinstance(found, Exception):
            raise ClusterError(f"the worker {worker} does not find its {what}: {found}")
        if what == "code" and found["equitutor"] is None:
            raise ClusterError(
                f"the worker {worker} has no equitutor: install version {here['equitutor'].split()[0]} there"
            )
        differing = [
            f"{name}: {found.get(name, 'absent')} there, {here.get(name, 'absent')} here"
            for name in sorted(here.keys() | found.keys())
            if here.get(name) != found.get(name)
        ]
        if differing:
            raise ClusterError(
                f"the worker {worker} has other {what} than this process ({'; '.join(differing)}), and its "
                f"cells would not be comparable: give all the same"
            )


def _each(client: Any, address: str, jobs: int, calls: Iterable[Call]) -> Iterator[tuple[Any, Any]]:
    done: queue.SimpleQueue = queue.SimpleQueue()
    keys = {client.submit(attempt, jobs, *call, pure=False): call[0] for call in calls}
    for future in keys:
        future.add_done_callback(done.put)
    waiting, alone_since = len(keys), None
    while waiting:
        try:
            future = done.get(timeout=0.5)
        except queue.Empty:
            gone = _gone(client)
            alone_since = (alone_since or time.monotonic()) if gone else None
            if alone_since and time.monotonic() - alone_since > GRACE:
                raise ClusterError(f"{gone} at {address}: {_AGAIN}") from None
            continue
        waiting -= 1
        try:
            outcome = future.result()
        except CancelledError as error:
            raise ClusterError(f"the scheduler is gone at {address}: {_AGAIN}") from error
        except Exception as error:  # of the cluster: some workers died of it
            outcome = keys[future], Failure.of(error)
        yield outcome


_AGAIN = "cells that are done are kept. Start it again, and run the same command"


def _gone(client: Any) -> str:
    """What is gone, the scheduler or all its workers; empty if nothing is."""
    if client.status != "running":
        return "the scheduler is gone"
    try:
        return "" if client.nthreads() else "no worker is left"
    except (OSError, RuntimeError):
        return "the scheduler is gone"
