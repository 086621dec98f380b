"""Weights begin as another run's, small steps follow, and a run that changed meanwhile is not gone on from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfapp import features
from tfapp import job as jobs
from tfapp import run as runs
from tfapp.cli import asking
from tfapp.cli.main import main
from tfapp.errors import Missing, Refused, Usage
from tfapp.runtime import Machine

SMALL = str(Path(__file__).parents[1] / "fixtures" / "small.py")

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert main(["train", SMALL, "--steps", "3", "--run", str(folder)]) == 0
    return folder


def job_of(*words: str) -> jobs.Job:
    _, module, plan, _ = asking.ask([SMALL, *words], [], None, None)
    return features.apply(
        plan, jobs.of(plan, module, module.data(plan.config), Machine(tf.distribute.get_strategy(), 1))
    )


def test_a_training_begins_with_the_run_s_weights_and_a_tenth_of_the_learning_rate(finished: Path) -> None:
    job = job_of(f"start={finished}", "fit.schedule=cosine")
    reader = tf.train.load_checkpoint(str(finished / "model/variables/variables"))
    names = reader.get_variable_to_shape_map()
    held = [reader.get_tensor(name) for name in names if "/variables/" in name]
    for weight in job.model.get_weights():
        assert any(weight.shape == other.shape and np.array_equal(weight, other) for other in held)
    assert job.optimizer._learning_rate.peak == pytest.approx(1e-3)
    assert job.notes == (f"start: the weights of {finished}, at 0.1 of the recipe's learning rate",)
    plain = job_of(f"start={finished}", "start.learning_rate=1")
    assert float(plain.optimizer.learning_rate) == pytest.approx(1e-2)


def test_another_architecture_is_refused(finished: Path) -> None:
    with pytest.raises(Refused, match="start from a run of the same recipe"):
        job_of(f"start={finished}", "batch_norm=false")


def test_a_run_that_is_not_there_or_changed_is_told_before_the_training(finished: Path, tmp_path: Path) -> None:
    recipe, _, plan, _ = asking.ask([SMALL, "start=nowhere"], [], None, None)
    with pytest.raises(Missing, match="no run 'nowhere'"):
        runs.begin(tmp_path / "a", plan, recipe.digest)
    recipe, _, plan, _ = asking.ask([SMALL, f"start={finished}"], [], None, None)
    runs.begin(tmp_path / "b", plan, recipe.digest)
    facts = finished / "data.json"
    before = facts.read_text()
    facts.write_text(before + " ")
    try:
        with pytest.raises(Usage, match=f"the run {finished} has changed since this run began"):
            runs.begin(tmp_path / "b", plan, recipe.digest)
    finally:
        facts.write_text(before)
