"""Whole asynchronous trainings of the small recipe: chief, workers and a parameter server as real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tfapp.cli.main import main
from tfapp.launch import cluster, places

SMALL = Path(__file__).parents[1] / "fixtures" / "small.py"


@contextmanager
def launched(run: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """tfapp train with 2 workers and a server; none of its processes is left."""
    asked = ["train", str(SMALL), *words, "--run", str(run), "--workers", "2", "--ps", "1"]
    job = subprocess.Popen([sys.executable, "-m", "tfapp", *asked], stdout=-1, stderr=-1, text=True)
    seen: set[psutil.Process] = set()
    try:
        yield job
    finally:
        if job.poll() is None:
            seen |= set(psutil.Process(job.pid).children())
            job.kill()
            job.wait()
    _, alive = psutil.wait_procs(seen, timeout=10)
    assert not alive


def process(job: subprocess.Popen[str], kind: str, index: int = 0) -> psutil.Process:
    """The process of one task."""
    for one in psutil.Process(job.pid).children():
        if json.loads(one.environ()["TF_CONFIG"])["task"] == {"type": kind, "index": index}:
            return one
    raise AssertionError(f"no {kind} {index}")


def until(what: Callable[[], object], job: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait for something while a job runs."""
    deadline = time.monotonic() + seconds
    while not what():
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def epochs(run: Path) -> int:
    return max(0, len((run / "metrics.csv").read_text().splitlines()) - 1) if (run / "metrics.csv").exists() else 0


@pytest.mark.slow
@pytest.mark.e2e
def test_a_worker_that_is_killed_comes_back_while_the_training_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with launched(run, "fit.epochs=100") as job:
        until(lambda: epochs(run), job)
        others = [process(job, "chief"), process(job, "ps"), process(job, "worker", 0)]
        killed = process(job, "worker", 1)
        killed.kill()
        before = epochs(run)
        until(lambda: epochs(run) > before + 1, job)
        assert process(job, "worker", 1) != killed
        assert [process(job, "chief"), process(job, "ps"), process(job, "worker", 0)] == others
        told = job.communicate(timeout=180)[1]
    assert job.returncode == 0, told
    assert "worker 2 was ended by SIGKILL" in told and "it alone is started again" in told
    assert "starting again from the last checkpoint" not in told
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert epochs(run) == 100
    assert not [one for one in others if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("kind", ["ps", "chief"])
def test_without_its_server_or_its_chief_a_job_goes_on_from_the_last_checkpoint(kind: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with launched(run, "fit.epochs=40", "fit.checkpoint.every_epochs=1") as job:
        until(lambda: epochs(run) >= 2, job)
        process(job, kind).kill()
        told = job.communicate(timeout=240)[1]
    assert job.returncode == 0, told
    assert ("parameter server 0" if kind == "ps" else "worker 0") + " was ended by SIGKILL" in told
    assert "starting again from the last checkpoint (1 of at most 3)" in told
    assert epochs(run) == 40


@pytest.mark.slow
@pytest.mark.e2e
def test_sigterm_to_the_launcher_ends_all_with_a_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with launched(run, "fit.epochs=2000") as job:
        until(lambda: epochs(run) >= 2, job)
        job.send_signal(signal.SIGTERM)
        told = job.communicate(timeout=60)[1]
    assert job.returncode == 143, told
    step = re.search(r"state saved at step (\d+)", told)
    assert step and (run / f"checkpoints/ckpt-{step[1]}.index").exists()


def started(run: Path, config: cluster.Cluster, **environment: str) -> subprocess.Popen[str]:
    """A task as something else than tfapp's launcher starts it."""
    words = [sys.executable, "-m", "tfapp", "train", str(SMALL), "--run", str(run)]
    whole = {**os.environ, "TF_CONFIG": config.config(), **environment}
    return subprocess.Popen(words, env=whole, stdout=-1, stderr=-1, text=True)


@pytest.mark.slow
@pytest.mark.e2e
def test_the_same_command_is_every_task_where_tf_config_names_servers(tmp_path: Path) -> None:
    addresses = tuple(f"127.0.0.1:{port}" for port in places.ports(places.here(3)))
    tasks = [cluster.Cluster(addresses[:2], number, servers=addresses[2:]) for number in range(3)]
    jobs = [started(tmp_path / "run", task) for task in tasks]
    try:
        told = [job.communicate(timeout=150) for job in jobs]
    finally:
        for job in jobs:
            job.kill()
    assert [job.returncode for job in jobs] == [0, 0, 0], told
    assert "unseen examples right" in told[0][0] and not told[1][0]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


@pytest.mark.slow
@pytest.mark.e2e
def test_a_task_whose_chief_does_not_come_or_whose_port_is_taken_says_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port, free = taken.getsockname()[1], places.ports(places.here(2))
        waiting = cluster.Cluster((f"127.0.0.1:{free[0]}", f"127.0.0.1:{free[1]}"), 1, servers=(f"127.0.0.1:{port}",))
        jobs = [started(tmp_path / "run", waiting, TFAPP_START_SECONDS="2")]
        jobs.append(started(tmp_path / "run", cluster.Cluster(waiting.addresses, 2, servers=waiting.servers)))
        told = [job.communicate(timeout=100)[1] for job in jobs]
    assert jobs[0].returncode == 1 and "has not come in 2 s" in told[0]
    assert jobs[1].returncode == 5 and "is in use" in told[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", str(SMALL), "--ps", "1"], "who is to train"),
        (["train", str(SMALL), "--workers", "2", "--ps", "1", "runtime.strategy=mirrored"], "servers are for"),
        (["launch", "--hosts", "a,b", "--ps", "1", "--", "train", str(SMALL)], "goes with --workers"),
        (["launch", "--workers", "2", "--", "train", str(SMALL), "--ps", "1"], "before the --"),
        (["train", str(SMALL), "runtime.strategy=parameter_server", "--profile"], "no step waits"),
        (["verify-resume", str(SMALL), "runtime.strategy=parameter_server"], "no two asynchronous trainings"),
    ],
)
def test_what_does_not_go_with_servers_is_refused_with_the_way_out(words: list[str], told: str, capsys) -> None:
    assert main(words) in (2, 3)
    assert told in capsys.readouterr().err


@pytest.mark.moderate
def test_servers_that_nobody_named_are_missing(capsys, tmp_path: Path) -> None:
    assert main(["train", str(SMALL), "runtime.strategy=parameter_server", "--run", str(tmp_path / "run")]) == 5
    assert "tfapp launch --workers 2 --ps 1" in capsys.readouterr().err
