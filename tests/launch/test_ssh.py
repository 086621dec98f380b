"""Workers on other hosts, through a real sshd on loopback."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

SMALL = str(Path(__file__).parents[1] / "fixtures" / "small.py")
SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.skipif(not (SSHD and shutil.which("ssh")), reason="needs sshd and ssh"),
]


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[str]:
    """An ssh command that reaches this machine through an sshd of its own."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    shutil.copy(tmp_path / "user.pub", tmp_path / "authorized")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "sshd").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        f"PidFile {tmp_path}/pid\nMaxStartups 50\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with open(tmp_path / "sshd.log", "w") as log:
        server = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(tmp_path / "sshd")], stderr=log)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield (
        f"ssh -p {port} -i {tmp_path}/user -l {getpass.getuser()} -o BatchMode=yes -o StrictHostKeyChecking=no "
        f"-o UserKnownHostsFile={tmp_path}/known -o LogLevel=ERROR"
    )
    server.terminate()
    server.wait()


def launch(ssh: str, run: Path, *words: str, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tfapp", "launch", "--hosts", "127.0.0.1,localhost", "--ssh", ssh, *options]
    command += ["--", "train", SMALL, *words, "--run", str(run)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def workers(run: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "tfapp.launch.worker" in line and str(run) in line:
            found.append(process)
    return found


def until(happens, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not happens() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert happens()


def test_workers_on_hosts_train_recover_from_a_kill_and_stop_on_a_signal(ssh: str, tmp_path: Path) -> None:
    run = tmp_path / "a run's folder"
    job = launch(ssh, run, "fit.epochs=2000", "fit.checkpoint.every_epochs=1", options=("--max-restarts", "1"))
    until(lambda: list((run / "checkpoints").glob("ckpt-*.index")))
    first = {process.pid for process in workers(run)}
    assert len(first) == 2
    psutil.Process(max(first)).kill()
    until(lambda: len(new := {process.pid for process in workers(run)}) == 2 and not new & first)
    metrics = run / "metrics.csv"
    # Now it trains again, from the checkpoint.
    before = metrics.stat().st_mtime
    until(lambda: metrics.stat().st_mtime > before)
    job.terminate()
    told, _ = job.communicate(timeout=60)
    assert job.returncode == 143, told
    assert "was ended by SIGKILL" in told and "the same command goes on from there" in told
    assert not workers(run)
    assert "epoch 1/2000" in (run / "logs" / "worker-1.log").read_text()


def test_workers_on_hosts_do_not_outlive_a_killed_launcher(ssh: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = launch(ssh, run, "fit.epochs=2000")
    until(lambda: len(workers(run)) == 2)
    job.kill()
    job.wait()
    until(lambda: not workers(run), 10)


def test_a_host_that_is_not_there_is_one_clear_message(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
        job = launch(f"ssh -p {closed} -o BatchMode=yes", tmp_path / "run")
        told, _ = job.communicate(timeout=60)
    assert job.returncode == 1
    assert "is lost: ssh ended with" in told and "onnection refused" in told


def test_a_search_runs_its_trials_on_hosts(ssh: str, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    command = [
        sys.executable,
        "-m",
        "tfapp",
        "tune",
        SMALL,
        "dropout=float:0..0.5",
        "--trials",
        "4",
        "--folder",
        str(folder),
    ]
    told = subprocess.run(
        [*command, "--hosts", "127.0.0.1,localhost", "--ssh", ssh], check=False, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    rows = (folder / "trials.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == ["finished"] * 4
    assert (folder / "best" / "report.json").exists()
