"""Real processes that try real steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfapp import measure
from tfapp.cli import asking
from tfapp.errors import Failed, Missing, Refused

FIXTURES = Path(__file__).parent / "fixtures"

pytestmark = pytest.mark.e2e


def plan(recipe: str, *words: str):
    return asking.ask([str(FIXTURES / f"{recipe}.py"), *words], [], None, None)[2]


@pytest.mark.slow
def test_a_batch_that_takes_too_much_ends_its_process_and_nothing_else() -> None:
    with measure.Measuring(plan("hungry")) as device:
        small, process = device.train(4), device._process
        assert small is not None and small.seconds > 0 and process is not None
        device.limit = small.memory + 300 * 2**20
        assert device.train(512) is None
        assert process.returncode is not None and device._process is None
        # The next one starts it again.
        again = device.train(16)
        assert again is not None and small.memory < again.memory < device.limit
        with pytest.raises(TimeoutError):
            device.train(64, seconds=0.2)
        device.limit = 2**20
        with pytest.raises(Missing, match="alone do not fit"):
            device.train(4)
    assert device._process is None


@pytest.mark.slow
def test_what_the_recipe_says_against_it_is_said_as_in_training() -> None:
    with pytest.raises(Missing, match="^no such data\nlook elsewhere$"):
        measure.Measuring(plan("hungry", "wrong=data"))
    with pytest.raises(Failed, match="ended with 1: ValueError: a model that cannot be made\n.*--debug"):
        measure.Measuring(plan("hungry", "wrong=model"))


@pytest.mark.slow
def test_replicas_share_a_measured_batch_and_a_cluster_is_left_out(monkeypatch) -> None:
    cluster = '{"cluster": {"worker": ["localhost:1", "localhost:2"]}, "task": {"type": "worker", "index": 1}}'
    monkeypatch.setenv("TF_CONFIG", cluster)
    with measure.Measuring(plan("small", "runtime.replicas=2", "fit.accumulate=2", "batch_norm=false")) as device:
        assert (device.kind, device.replicas, device.training) == ("CPU", 2, 54)
        measured = device.train(16)
        assert measured is not None and measured.batch == 16
        assert device.evaluate(16) > 0
        assert device.describe(16)["batch"]["per_replica"] == 8


def test_a_tpu_is_refused() -> None:
    with pytest.raises(Refused, match="belongs to one process"):
        measure.Measuring(plan("small", "runtime.strategy=tpu"))


def test_a_worker_is_measured_without_the_others() -> None:
    assert measure._alone(plan("small", "runtime.replicas=2"), 1).runtime.replicas == 2
    for asked, workers in (
        (plan("small", "runtime.strategy=multiworker"), 1),
        (plan("small", "runtime.replicas=2"), 3),
    ):
        alone = measure._alone(asked, workers).runtime
        assert (alone.strategy, alone.replicas) == ("auto", None)


@pytest.mark.slow
def test_a_private_step_is_measured_with_every_row_and_spends_no_budget() -> None:
    with measure.Measuring(plan("small", "private=3", "batch_norm=false", "fit.epochs=1")) as device:
        small, large = device.train(2), device.train(54)
        assert small is not None and large is not None
        # More steps were run than the plan's four.
        assert small.seconds < large.seconds
