"""A stopped worker, one that never comes, a cut network and a full disk: each ends in recovery or in one clear message."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tfapp.runtime import HEARTBEAT

FIXTURES = Path(__file__).parents[1] / "fixtures"
SMALL, STUCK = str(FIXTURES / "small.py"), str(FIXTURES / "stuck.py")
ROOT = os.geteuid() == 0 and sys.platform == "linux"

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def tfapp(*words: str, before: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-m", "tfapp", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


def until(happens, seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not happens() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert happens()


def workers(job: subprocess.Popen[str]) -> list[psutil.Process]:
    """A launcher's workers, by their number."""
    found = [p for p in psutil.Process(job.pid).children() if "tfapp.launch.worker" in p.cmdline()]
    return sorted(found, key=lambda p: json.loads(p.environ()["TF_CONFIG"])["task"]["index"])


def cluster(*addresses: str) -> list[str]:
    """TF_CONFIG of each worker."""
    return [
        json.dumps({"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": number}})
        for number in range(len(addresses))
    ]


@pytest.mark.parametrize("seconds", [3, HEARTBEAT + 10])
def test_a_worker_that_is_stopped_for_a_while_costs_no_more_than_a_restart(tmp_path: Path, seconds: float) -> None:
    run = tmp_path / "run"
    job = tfapp("launch", "--workers", "2", "--", "train", SMALL, "fit.epochs=2000", "--run", str(run))
    until((run / "metrics.csv").exists)
    stopped = workers(job)[1]
    stopped.suspend()
    time.sleep(seconds)
    if stopped.is_running():
        stopped.resume()
    rows = (run / "metrics.csv").stat().st_mtime
    until(lambda: (run / "metrics.csv").stat().st_mtime > rows, 60)
    job.send_signal(signal.SIGTERM)
    told, _ = job.communicate(timeout=60)
    assert job.returncode == 143, told
    # A short stop is waited for; a long one is a death.
    assert ("starting again" in told) == (seconds > HEARTBEAT), told
    assert ("worker 1 does not answer" in told) == (seconds > HEARTBEAT), told


def test_a_worker_that_never_comes_up_ends_the_waiting(tmp_path: Path) -> None:
    began = time.monotonic()
    config = cluster("127.0.0.1:31991", "127.0.0.1:31992")[0]
    alone = tfapp("train", SMALL, "--run", str(tmp_path / "run"), TF_CONFIG=config, TFAPP_START_SECONDS="5")
    told, _ = alone.communicate(timeout=120)
    assert alone.returncode == 1
    assert "waiting at most 5 s for all 2 workers: 127.0.0.1:31991, 127.0.0.1:31992" in told
    assert "Timeout (0:00:05)!" in told
    assert time.monotonic() - began < 90


def test_a_worker_that_is_stuck_ends_itself_says_where_and_all_are_started_again(tmp_path: Path) -> None:
    run, wait = tmp_path / "run", 12
    job = tfapp(
        *("launch", "--workers", "2", "--hang-timeout", str(wait), "--", "train", STUCK, "--run", str(run)),
        STUCK=str(tmp_path / "stuck"),
    )
    told, _ = job.communicate(timeout=300)
    assert job.returncode == 0, told
    assert "waited too long (see where in its log) at step " in told, told
    assert told.count("starting again from the last checkpoint") == 1
    log = (run / "logs/worker-1.log").read_text()
    assert f"Timeout (0:00:{wait})!" in log and re.search(r'stuck\.py", line \d+ in for_ever', log), log
    seconds = time.time() - (tmp_path / "stuck").stat().st_mtime
    assert seconds < wait + 120


def test_a_port_that_is_taken_between_its_choice_and_its_use_is_replaced(tmp_path: Path) -> None:
    job = tfapp("launch", "--workers", "2", "--max-restarts", "0", "--", "train", SMALL, "--run", str(tmp_path / "run"))
    until(
        lambda: len([worker for worker in psutil.Process(job.pid).children() if "TF_CONFIG" in worker.environ()]) == 2
    )
    address = json.loads(workers(job)[1].environ()["TF_CONFIG"])["cluster"]["worker"][1]
    # Long before TensorFlow, which is being imported, can use it.
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        told, _ = job.communicate(timeout=300)
    assert job.returncode == 0, told
    assert "another process took the port of worker 1: starting again with other ports (1 of at most 5)" in told
    assert "error: " not in told and "in use" not in told


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a cable between them: 10.99.0.1 and 10.99.0.2."""
    names = (f"tfapp{os.getpid()}a", f"tfapp{os.getpid()}b")
    ends = (f"tf{os.getpid()}a"[-15:], f"tf{os.getpid()}b"[-15:])

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for number, (name, end) in enumerate(zip(names, ends, strict=True)):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "addr", "add", f"10.99.0.{number + 1}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    yield names
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], check=False)


@pytest.mark.skipif(not ROOT, reason="network namespaces need root")
def test_a_network_that_is_cut_ends_every_worker_and_the_same_command_goes_on(
    namespaces: tuple[str, str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ("train", SMALL, "fit.epochs=2000", "fit.checkpoint.every_epochs=1", "--run", str(run))
    configs = cluster("10.99.0.1:2222", "10.99.0.2:2222")

    def start() -> list[subprocess.Popen[str]]:
        return [
            tfapp(*words, before=("ip", "netns", "exec", name), TF_CONFIG=config)
            for name, config in zip(namespaces, configs, strict=True)
        ]

    def link(state: str) -> None:
        end = json.loads(subprocess.check_output(["ip", "-n", namespaces[0], "-j", "link"], text=True))
        name = next(one["ifname"] for one in end if one["ifname"] != "lo")
        subprocess.run(["ip", "-n", namespaces[0], "link", "set", name, state], check=True)

    both = start()
    # The first epoch's numbers are there before its checkpoint is.
    until(lambda: any(run.glob("checkpoints/ckpt-*.index")))
    link("down")
    cut = time.monotonic()
    told = [worker.communicate(timeout=120)[0] for worker in both]
    assert [worker.returncode for worker in both] == [75, 75], told
    assert time.monotonic() - cut < 2 * HEARTBEAT + 15
    assert all("lost the others" in text for text in told)
    link("up")
    before = (run / "metrics.csv").stat().st_mtime
    both = start()
    until(lambda: (run / "metrics.csv").stat().st_mtime > before)
    both[1].terminate()
    told = [worker.communicate(timeout=60)[0] for worker in both]
    assert [worker.returncode for worker in both] == [143, 143], told
    assert "going on with" in told[0]


@pytest.mark.skipif(not ROOT, reason="a disk of its own needs root")
def test_a_full_disk_is_one_clear_message_on_all_workers(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        run = disk / "run"
        job = tfapp(
            *("launch", "--workers", "2", "--", "train", SMALL, "fit.epochs=2000", "fit.checkpoint.every_steps=1"),
            *("--run", str(run)),
        )
        until((run / "metrics.csv").exists)
        with open(disk / "ballast", "wb") as ballast:
            free = shutil.disk_usage(disk).free
            ballast.write(bytes(max(0, free - 4096)))
        told, _ = job.communicate(timeout=120)
        assert job.returncode == 1, told
        assert "the disk is full" in told and "starting again" not in told
        (disk / "ballast").unlink()
        # With room again, the last whole checkpoint is gone on from.
        before = (run / "metrics.csv").stat().st_mtime
        job = tfapp(
            "launch",
            "--workers",
            "2",
            "--",
            "train",
            SMALL,
            "fit.epochs=2000",
            "fit.checkpoint.every_steps=1",
            "--run",
            str(run),
        )
        until(lambda: (run / "metrics.csv").stat().st_mtime > before)
        job.terminate()
        told, _ = job.communicate(timeout=60)
        assert job.returncode == 143, told
    finally:
        subprocess.run(["umount", "-l", disk], check=False)
