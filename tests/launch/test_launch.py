"""Whole jobs of the small recipe: several real workers under MultiWorkerMirroredStrategy, stopped and killed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tfapp.cli.main import main

SMALL = Path(__file__).parents[1] / "fixtures" / "small.py"

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_one_worker_stops_all_at_the_same_step(tmp_path: Path, number: int) -> None:
    run = tmp_path / "run"
    words = ["train", str(SMALL), "fit.epochs=2000", "--run", str(run), "--workers", "2"]
    job = subprocess.Popen([sys.executable, "-m", "tfapp", *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (run / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = [p for p in psutil.Process(job.pid).children() if "tfapp.launch.worker" in p.cmdline()]
    assert len(workers) == 2
    last = next(p for p in workers if json.loads(p.environ()["TF_CONFIG"])["task"]["index"] == 1)
    last.send_signal(number)
    told = job.communicate(timeout=60)[1]
    assert job.returncode == 143, told
    saved = [re.findall(r"state saved at step (\d+)", (run / f"logs/worker-{n}.log").read_text()) for n in range(2)]
    assert len(saved[0]) == 1 and saved[0] == saved[1]
    assert (run / f"checkpoints/ckpt-{saved[0][0]}.index").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_training_that_is_killed_ends_with_the_same_bits(workers: str, tmp_path: Path, capfd) -> None:
    words = [str(SMALL), "fit.epochs=60", "average.momentum=0.6", "fit.patience=9", "--workers", workers]
    assert main(["verify-resume", *words, "--kills", "2", "--keep", str(tmp_path)]) == 0
    told = capfd.readouterr()
    assert "the same to the bit" in told.out and "2 kills" in told.out
    assert told.err.count("was ended by SIGKILL") == 2
    assert json.loads((tmp_path / "killed" / "run.json").read_text())["status"] == "finished"


def test_a_training_that_does_not_resume_to_the_bit_is_found_out(tmp_path: Path, capfd) -> None:
    text = SMALL.read_text()
    (tmp_path / "unsteady.py").write_text(text.replace("np.random.default_rng(0)", "np.random.default_rng()"))
    assert main(["verify-resume", str(tmp_path / "unsteady.py"), "fit.epochs=12", "--kills", "1"]) == 1
    told = capfd.readouterr().err
    assert "not the same after 1 kills of 1 worker" in told and "differs" in told
