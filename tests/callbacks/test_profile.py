"""`--profile`: real profiles of real trainings, alone and with another worker."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tfapp import synchronisation
from tfapp.cli.main import main

SMALL = str(Path(__file__).parents[1] / "fixtures" / "small.py")

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def test_two_workers_each_write_a_profile_and_the_time_lost_is_told(tmp_path: Path, capfd) -> None:
    run = tmp_path / "run"
    words = ["launch", "--workers", "2", "--", "train", SMALL, "fit.epochs=12", "--run", str(run), "--profile", "10"]
    assert main(words) == 0
    told = capfd.readouterr().out
    profile = json.loads((run / "profile.json").read_text())
    assert profile["steps"] == 10 and len(profile["workers"]) == 2
    for number, worker in enumerate(profile["workers"]):
        assert 0 < worker["lost_ms"] <= worker["collective_ms"] < worker["step_ms"]
        # The gradients, batch statistics there and back, and at each return the metrics and what workers agree on.
        assert 1 <= worker["collectives"] < 6
        found = synchronisation.read(run / "tensorboard" / f"worker-{number}")
        assert found.seconds == pytest.approx(worker["step_ms"] * 10 / 1000, rel=1e-3)
    assert "lost to synchronisation" in told and "(10 steps profiled)" in told
    assert json.loads((run / "report.json").read_text())["profile"] == profile
    assert "lost to synchronisation, in " in (run / "report.html").read_text()


def test_a_profile_changes_no_weight_and_one_replica_has_nothing_to_synchronise(tmp_path: Path, capsys) -> None:
    plain, profiled = tmp_path / "plain", tmp_path / "profiled"
    assert main(["train", SMALL, "fit.epochs=5", "--run", str(plain)]) == 0
    assert main(["train", SMALL, "fit.epochs=5", "--run", str(profiled), "--profile", "3"]) == 0
    assert json.loads((profiled / "profile.json").read_text())["steps"] == 3
    assert "with nothing to synchronise (3 steps profiled)" in capsys.readouterr().out
    with np.load(plain / "predictions.npz") as one, np.load(profiled / "predictions.npz") as other:
        assert all((one[name] == other[name]).all() for name in one.files)
    assert main(["train", SMALL, "fit.epochs=5", "--run", str(plain), "--profile"]) == 0
    assert "nothing left to profile" in capsys.readouterr().err


def test_a_training_that_is_over_too_soon_has_no_profile_or_a_shorter_one(tmp_path: Path, capsys) -> None:
    assert main(["train", SMALL, "--steps", "3", "--run", str(tmp_path / "short"), "--profile"]) == 0
    assert not (tmp_path / "short" / "profile.json").exists()
    assert "profiled" not in capsys.readouterr().out
    assert main(["train", SMALL, "fit.epochs=4", "--run", str(tmp_path / "longer"), "--profile", "500"]) == 0
    assert 0 < json.loads((tmp_path / "longer" / "profile.json").read_text())["steps"] < 16
