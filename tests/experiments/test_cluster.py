"""Cells on a real cluster: a scheduler and workers in processes of their own, right ones and wrong ones."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import toy_experiment as toy

import equitutor
from equitutor.experiments import run
from equitutor.experiments.cluster import ClusterError
from equitutor.store.results import Store

pytest.importorskip("distributed")
ROOT = Path(equitutor.__file__).parents[1]
PATHS = [str(ROOT), str(Path(toy.__file__).parent)]


def free_address() -> str:
    """Where nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


class Cluster:
    """A scheduler, and workers that are started one by one."""

    def __init__(self, folder: Path, scheduler: Cluster | None = None):
        self.folder, self.processes = folder, []
        if scheduler:
            self.address = scheduler.address
            return
        self.address = free_address()
        port = self.address.rpartition(":")[2]
        words = ["--host", "127.0.0.1", "--port", port, "--no-dashboard"]
        self.scheduler = self.start("dask_scheduler", *words)

    def start(self, kind: str, *words: str, paths=PATHS) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{kind}", *words],
            env=environment,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def worker(self, *words: str, nanny: bool = False, paths=PATHS) -> subprocess.Popen:
        words = ("--nthreads", "1", "--no-dashboard", "--nanny" if nanny else "--no-nanny", *words)
        return self.start("dask_worker", self.address, *words, paths=paths)

    def kill(self, process: subprocess.Popen) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for process in self.processes:
            self.kill(process)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("scheduler"))
    yield made
    made.close()


@pytest.fixture
def cluster(scheduler, tmp_path):
    """The one scheduler, with workers of the test's own."""
    made = Cluster(tmp_path, scheduler)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results" / "toy.json")


def values(records):
    return {r.cell["seed"]: r.metrics["value"] for r in records}


def test_one_worker_works(cluster, store):
    """The cells run there and not here, and their records are those of a run without a cluster."""
    cluster.worker(nanny=True)
    records = run(toy.Config(), store, cluster=cluster.address)
    assert values(records) == {0: 0.0, 1: 2.0, 2: 4.0, 3: 6.0}
    assert os.getpid() not in {r.metrics["process"] for r in records}


def test_two_workers_share_the_cells_and_one_of_them_may_die(cluster, store):
    first, _ = cluster.worker(), cluster.worker()
    config = toy.Config(seeds=tuple(range(8)), pause=0.7)
    threading.Timer(4, lambda: cluster.kill(first)).start()
    records = run(config, store, cluster=cluster.address)
    assert values(records) == {seed: 2.0 * seed for seed in range(8)}


def refused(address, store, match: str, within: float = 20) -> None:
    start = time.monotonic()
    with pytest.raises(ClusterError, match=match) as caught:
        run(toy.Config(pause=0.5), store, cluster=address)
    assert time.monotonic() - start < within
    assert "\n" not in str(caught.value)


def test_a_worker_with_another_version(cluster, store, tmp_path):
    """A copy of the package in which one line differs."""
    other = tmp_path / "other" / "equitutor"
    for path in (ROOT / "equitutor").rglob("*.py"):
        target = other / path.relative_to(ROOT / "equitutor")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (other / "weights.py").write_text((other / "weights.py").read_text() + "# another\n")
    cluster.worker(paths=[str(other.parent), PATHS[1]])
    refused(
        cluster.address, store, r"has other code than this process \(equitutor: .* there, .* here\)"
    )
    assert not store.records()


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ("other", r"has other data than this process \(file: .* there, .* here\)"),
        (None, "does not find its data: .*No such file"),
        ("the same", None),
    ],
)
def test_a_worker_with_other_data(cluster, store, tmp_path, monkeypatch, there, says):
    """The same name, seen from another folder."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "data").write_text("the same")
    if there:
        (tmp_path / "data").write_text(there)
    monkeypatch.chdir(tmp_path / "here")
    cluster.worker()
    config = toy.Config(data="data")
    if says is None:
        records = run(config, store, cluster=cluster.address)
        assert [r.provenance["data"] for r in records] == [{"file": toy.content("data")}] * 4
        return
    with pytest.raises(ClusterError, match=says):
        run(config, store, cluster=cluster.address)
    assert not store.records()


HIDE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "equitutor":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
"""


def test_a_worker_without_the_package(cluster, store, tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(HIDE)
    cluster.worker(paths=[str(tmp_path / "bare")])
    refused(
        cluster.address, store, f"has no equitutor: install version {equitutor.__version__} there"
    )


def test_a_worker_of_several_threads(cluster, store):
    cluster.worker("--nthreads", "2")
    refused(cluster.address, store, "several threads: start each with --nthreads 1")


def test_no_worker(cluster, store, monkeypatch):
    monkeypatch.setattr("equitutor.experiments.cluster.CONNECT", 2)
    refused(cluster.address, store, "has no worker: start some with `dask worker")


def test_no_scheduler(store, monkeypatch):
    monkeypatch.setattr("equitutor.experiments.cluster.CONNECT", 2)
    says = "no Dask scheduler answers at tcp://.*: start one with `dask scheduler`"
    refused(free_address(), store, says)


@pytest.mark.parametrize("gone", ["scheduler", "worker"])
def test_what_dies_ends_the_run_in_seconds_and_what_is_done_is_kept(tmp_path, store, gone):
    cluster = Cluster(tmp_path)
    worker = cluster.worker()
    dying = cluster.scheduler if gone == "scheduler" else worker
    config = toy.Config(seeds=tuple(range(60)), pause=0.5)

    def kill_after_the_first():
        while not store.path.exists():
            time.sleep(0.1)
        cluster.kill(dying)

    threading.Thread(target=kill_after_the_first, daemon=True).start()
    start = time.monotonic()
    words = "the scheduler is gone" if gone == "scheduler" else "no worker is left"
    with (
        contextlib.closing(cluster),
        pytest.raises(ClusterError, match=f"{words} at .*: cells that are done are kept"),
    ):
        run(config, store, cluster=cluster.address)
    assert time.monotonic() - start < 45
    assert 1 <= len(store.records()) < 60


def test_the_command_says_it_in_one_line(tmp_path):
    words = ["run", "scan", "--cluster", free_address(), "--results", str(tmp_path / "r")]
    done = subprocess.run(
        [sys.executable, "-m", "equitutor", *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: no Dask scheduler answers")
    assert "Traceback" not in done.stderr


def test_a_cluster_of_this_machine_beside_another(store, recwarn):
    """Dask's usual port may be taken."""
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # by another already
            taken.bind(("", 8787))
            taken.listen()
        assert len(run(toy.Config(), store, cluster="local")) == 4
    assert not [w for w in recwarn if "8787" in str(w.message)]
