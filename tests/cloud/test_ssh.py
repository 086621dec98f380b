"""Machines of one's own: a real sshd, real ssh and rsync; only Docker is a stand-in (tests/docker has the real one)."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.cloud import fakes, sshd
from tfapp.cli.main import main

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cloud"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{fakes.install(folder)}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_CLOUD", str(folder))
    return folder


@pytest.fixture
def server(tmp_path: Path, cloud: Path):
    with sshd.serving(tmp_path / "ssh", {"PATH": os.environ["PATH"], "FAKE_CLOUD": str(cloud)}) as (address, config):
        yield address, str(config)
    for folder in (Path(os.path.expanduser("~root")) / "tfapp").glob("two-*"):
        shutil.rmtree(folder)


def test_two_workers_train_and_the_first_one_s_run_comes_back(cloud, server, runs_root, tmp_path, capsys) -> None:
    address, config = server
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "it's a table.csv").write_text("a,b\n")
    words = ["cloud", "train", "digits", "fit.epochs=2", "--name", "two", "--ssh-config", config, "--poll", "0.1"]
    words += ["--host", f"{address}=10.0.0.1", "--host", f"{address}=10.0.0.2", "--data", str(tmp_path / "tables")]
    assert main([*words, "--keep"]) == 0
    started = [call for call in fakes.calls(cloud, "docker") if call[1] == "run"]
    configs = [json.loads(next(w for w in call if w.startswith("TF_CONFIG=")).partition("=")[2]) for call in started]
    assert [config["task"]["index"] for config in configs] == [0, 1]
    assert configs[0]["cluster"] == {"worker": ["10.0.0.1:2222", "10.0.0.2:2223"]}
    assert all(
        "--restart" not in call and ["--network", "host"] == call[call.index("--network") :][:2] for call in started
    )
    home = Path(os.path.expanduser("~")) if os.geteuid() else Path("/root")
    assert (home / "tfapp" / "two-1" / "data" / "it's a table.csv").exists()
    assert (runs_root / "two" / "plan.yaml").exists()
    assert main(["cloud", "status", "two"]) == 0
    assert "exited (0)" in capsys.readouterr().out
    assert main(["cloud", "down", "two"]) == 0
    assert not (home / "tfapp" / "two-0").exists() and not (home / "tfapp" / "two-1").exists()


def test_when_one_worker_dies_all_start_again_with_the_first_one_s_checkpoints(cloud, server, capsys) -> None:
    address, config = server
    # The first look finds the second worker dead, the next one both at work, and then both done.
    (cloud / "states").write_text("running 0\nexited 137\nrunning 0\nrunning 0\nexited 0")
    words = ["cloud", "train", "digits", "--name", "two", "--ssh-config", config, "--poll", "0.1"]
    assert main([*words, "--host", address, "--host", address]) == 0
    assert [call[1] for call in fakes.calls(cloud, "docker")].count("run") == 4
    assert "a worker ended with 137: all start again from the last checkpoint (1 of 5)" in capsys.readouterr().err


def test_a_machine_that_does_not_answer_is_told_with_the_command_to_try(cloud, server, capsys) -> None:
    port = sshd.free_port()
    assert main(["cloud", "train", "digits", "--host", f"me@127.0.0.1:{port}"]) == 5
    told = capsys.readouterr().err
    assert "does not answer" in told and f"try it yourself: ssh -p {port}" in told
    assert fakes.calls(cloud) == []
