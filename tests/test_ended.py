"""Runs that are ended from outside at every stage: nothing half written counts, and the same command ends them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tfapp.cli.main import main

SMALL = str(Path(__file__).parent / "fixtures" / "small.py")
WORDS = ["train", SMALL, "fit.epochs=30", "fit.checkpoint.every_steps=8", "fit.steps_per_execution=2"]

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

# When a process is in the middle of each stage, by what is in its folder.
STAGES: dict[str, Callable[[Path], bool]] = {
    "training": lambda run: any(run.glob("checkpoints/ckpt-*.index")),
    "writing of a checkpoint": lambda run: any(run.glob("checkpoints/.ckpt-*.part")),
    "export": lambda run: any(run.glob(".model.*.part/*")),
    "report": lambda run: (run / "model.keras").exists(),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> np.ndarray:
    """What the model answers when nobody interferes."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main([*WORDS, "--run", str(folder)]) == 0
    return outputs(folder)


def outputs(folder: Path) -> np.ndarray:
    with np.load(folder / "predictions.npz") as held:
        return held["outputs"]


def ended(folder: Path, stage: str, number: int) -> tuple[int, str]:
    """Train in a process of its own and send it the signal in that stage; the exit code and what it said."""
    words = [sys.executable, "-m", "tfapp", *WORDS, "--run", str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not STAGES[stage](folder) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(number)
    _, err = process.communicate(timeout=240)
    return process.returncode, err


def whole(folder: Path) -> None:
    """Whatever file is there under its own name can be read."""
    for path in folder.glob("*.json"):
        json.loads(path.read_text())
    if (folder / "report.html").exists():
        assert (folder / "report.html").read_text().rstrip().endswith("</html>")


@pytest.mark.parametrize("stage", STAGES)
def test_after_a_kill_the_same_command_ends_the_run_as_if_nothing_had_been(stage, tmp_path, undisturbed):
    folder = tmp_path / "run"
    code, err = ended(folder, stage, signal.SIGKILL)
    assert code == -signal.SIGKILL, err
    whole(folder)
    assert (
        not (folder / "report.json").exists() and json.loads((folder / "run.json").read_text())["status"] == "running"
    )
    assert main(["predict", str(folder), "x.npy"]) == 5
    assert main([*WORDS, "--run", str(folder)]) == 0
    np.testing.assert_array_equal(outputs(folder), undisturbed)
    assert not [path for path in folder.rglob("*") if path.name.endswith((".part", ".old")) or "temp" in path.name]


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_ends_in_130_with_a_line_and_the_same_command_goes_on(stage, tmp_path, undisturbed):
    folder = tmp_path / "run"
    code, err = ended(folder, stage, signal.SIGINT)
    assert code == 130, err
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and "Traceback" not in err and err.rstrip().endswith(told[0])
    whole(folder)
    assert json.loads((folder / "run.json").read_text())["status"] == "stopped"
    assert not [path for path in folder.rglob("*") if path.name.endswith((".part", ".old"))]
    assert main([*WORDS, "--run", str(folder)]) == 0
    np.testing.assert_array_equal(outputs(folder), undisturbed)


@pytest.fixture
def disk(tmp_path) -> Iterator[Callable[[str], Path]]:
    """A disk of one's own, of a size and with options as mount takes them."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def make(options: str) -> Path:
        how = ["-o", f"remount,{options}"] if mounted else ["-t", "tmpfs", "-o", options, "tmpfs"]
        if subprocess.run(["mount", *how, str(folder)], check=False, capture_output=True).returncode:
            pytest.skip("only root can mount a disk to fill")
        mounted.append(options)
        return folder

    yield make
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk to fill")
@pytest.mark.parametrize("size", ["16k", "48k", "120k", "240k", "320k"])
def test_a_full_disk_is_told_and_with_space_the_same_command_ends_the_run(size, disk, undisturbed, capsys):
    # From the first files over checkpoint, export and report: whichever does not fit any more.
    folder = disk(f"size={size}") / "run"
    code = main([*WORDS, "--run", str(folder)])
    err = capsys.readouterr().err
    whole(folder)
    if code:
        assert (
            code == 1 and f"\nerror: the disk is full: {folder}" in err and "TFAPP_RUNS=FOLDER" in err.splitlines()[-1]
        )
        assert not [path for path in folder.rglob("*") if path.name.endswith((".part", ".old")) or "temp" in path.name]
    disk("size=50m")
    assert main([*WORDS, "--run", str(folder)]) == 0
    np.testing.assert_array_equal(outputs(folder), undisturbed)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk to fill")
def test_a_read_only_disk_is_told_and_predicting_needs_no_other(disk, tmp_path, capsys):
    folder = disk("size=50m") / "run"
    assert main(["train", SMALL, "--steps", "2", "--run", str(folder)]) == 0
    disk("size=50m,ro")
    np.save(tmp_path / "x.npy", np.zeros((1, 6, 6, 1), np.float32))
    assert main(["predict", str(folder), str(tmp_path / "x.npy")]) == 0
    assert main(["report", str(folder), "--json"]) == 0
    capsys.readouterr()
    for words in (
        ["train", SMALL, "--steps", "2", "--run", str(folder.parent / "other")],
        ["train", SMALL, "--steps", "2", "--run", str(folder), "--fresh"],
        ["evaluate", str(folder)],
        ["report", str(folder)],
        ["export", str(folder), "--format", "keras"],
    ):
        assert main(words) == 5, words
        err = capsys.readouterr().err
        assert "error: the disk is read-only: " in err and "Traceback" not in err
