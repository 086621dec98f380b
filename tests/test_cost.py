from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import tf_keras as keras

from tfapp import cost, environment
from tfapp.batch_size import Found, Measured
from tfapp.cli.main import main

FIXTURES = Path(__file__).parent / "fixtures"
SMALL, HUNGRY = str(FIXTURES / "small.py"), str(FIXTURES / "hungry.py")

FOUND = Found((Measured(16, 100, 0.016), Measured(32, 200, 0.024), Measured(64, 400, 0.040)), (128,), 64, "memory")


@pytest.mark.parametrize(("share", "seconds"), [(16, 0.016), (64, 0.040), (24, 0.020), (8, None), (96, None)])
def test_a_share_between_two_sizes_lies_on_their_line_and_beyond_them_is_not_known(share, seconds) -> None:
    assert cost._seconds(FOUND, share) == (seconds and pytest.approx(seconds))


def test_costs_are_steps_times_seconds_and_validation_and_the_ring_s_bytes() -> None:
    from tfapp.cli import asking

    plan = asking.ask([SMALL, "fit.epochs=3", "fit.steps=40"], [], None, None)[2]
    described = {"data": {"train": 1000, "validation": 100}, "memory": {"gradients": 3000}}
    one, three = (cost._costs(plan, described, FOUND, 0.01, 16, 3, count) for count in (1, 3))
    assert (three["steps_an_epoch"], three["steps"]) == (math.ceil(1000 / 48), 40)
    assert three["all_reduce_bytes"] == 4000 and one["all_reduce_bytes"] == 0
    # 48 examples at once here: half-way between 32 and 64. Validation: 3 steps an epoch, 2 epochs begun.
    assert one["seconds"] == pytest.approx(40 * 0.032 + 2 * 3 * 0.03)
    assert three["seconds"] == pytest.approx(40 * 0.016 + 2 * 3 * 0.01)


@pytest.mark.e2e
def test_plan_tells_all_that_validate_tells_and_what_it_measured(capsys, runs_root: Path) -> None:
    assert main(["plan", SMALL, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # Measured in a process of its own, where Keras counts its layers from 1.
    keras.backend.clear_session()
    assert main(["validate", SMALL, "--json"]) == 0
    validated = json.loads(capsys.readouterr().out)
    assert {key: found[key] for key in validated} == validated
    sizes = [row["batch"] for row in found["measured"]]
    assert sizes == [16, 32, 54]  # All of the 54 training examples.
    assert all(row["seconds"] > 0 and found["base"] <= row["memory"] < found["limit"] for row in found["measured"])
    assert found["batch_size"]["used"] == 16 and found["batch_size"]["auto"] in sizes
    assert found["costs"][0]["steps"] == 12 and found["costs"][0]["seconds"] > 0
    assert not runs_root.exists()


@pytest.mark.e2e
@pytest.mark.slow
def test_bfloat16_is_measured_where_the_machine_has_it_and_the_plan_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from tfapp.cli import asking

    plan, rounded, half = (
        asking.ask([SMALL, *words], [], None, None)[2]
        for words in ([], ["quantize=true"], ["runtime.precision=bfloat16"])
    )
    monkeypatch.setattr(environment, "BFLOAT16", frozenset(environment.machine()["cpu_features"]))
    found = cost._in_bfloat16(plan, 1, 16, "CPU")
    assert found is not None and found["batch"] == 16 and found["seconds"] > 0
    assert cost._in_bfloat16(rounded, 1, 16, "CPU") is None and cost._in_bfloat16(half, 1, 16, "CPU") is None
    monkeypatch.setattr(environment, "BFLOAT16", frozenset())
    assert cost._in_bfloat16(plan, 1, 16, "CPU") is None


@pytest.mark.parametrize(("seconds", "said"), [(0.008, "8 ms a step of 16 and 1 MB, 2.00 times"), (0.016, "no faster")])
def test_what_bfloat16_would_bring_is_said_with_its_price(seconds: float, said: str) -> None:
    other = {"batch": 16, "memory": 10**6, "seconds": seconds}
    line = cost._precision_line({"measured": cost.batch_size.rows(FOUND), "bfloat16": other})
    assert said in line and line.startswith("runtime.precision=bfloat16")
    assert ("compare them" in line) == (seconds < 0.016)


@pytest.mark.e2e
@pytest.mark.slow
def test_the_checkpoint_is_as_large_as_was_planned(capsys, tmp_path: Path) -> None:
    words = [HUNGRY, "fit.steps=1", "average.momentum=0.9"]
    assert main(["plan", *words, "--workers", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["batch"]["replicas"] == 2 and [one["workers"] for one in found["costs"]] == [1, 2]
    assert found["costs"][1]["all_reduce_bytes"] == found["memory"]["gradients"]
    assert main(["train", *words, "--run", str(tmp_path / "run")]) == 0
    written = (tmp_path / "run" / "checkpoints").glob("ckpt-1.data*")
    # Besides the variables it holds a few counters and the callbacks' state.
    assert 0 <= sum(path.stat().st_size for path in written) - found["checkpoint"] < 8192


@pytest.mark.e2e
@pytest.mark.slow
def test_a_plan_that_does_not_fit_ends_in_5_with_the_way_out(capsys, monkeypatch) -> None:
    assert main(["plan", HUNGRY, "fit.steps=1", "--json"]) == 0
    base = json.loads(capsys.readouterr().out)["base"]
    # A machine with room for some hundred examples.
    monkeypatch.setattr(environment, "free_memory", lambda: int((base + 700 * 2**20) / 0.8))
    assert main(["plan", HUNGRY, "fit.batch_size=640"]) == 5
    told = capsys.readouterr().err
    assert "fit.batch_size=640 does not fit in" in told and "fit.accumulate=" in told and "bfloat16" in told
    monkeypatch.setattr(environment, "free_memory", lambda: 2**27)
    assert main(["plan", HUNGRY]) == 5
    assert "alone do not fit" in capsys.readouterr().err


def test_workers_of_one_machine_s_strategy_are_refused(capsys) -> None:
    assert main(["plan", SMALL, "--workers", "2", "runtime.strategy=mirrored"]) == 3
    assert "leave runtime.strategy out" in capsys.readouterr().err
