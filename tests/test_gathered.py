"""A batch gathered in the step is the one that a queue would have brought."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.test_train import fitted
from tfapp import gathered
from tfapp.data.examples import Examples
from tfapp.data.pipeline import Batches
from tfapp.runtime import Machine

HERE = Machine(tf.distribute.get_strategy(), 1)
SMALL = Examples(np.arange(50, dtype=np.float32), np.arange(50) % 3)


@pytest.mark.moderate
@pytest.mark.parametrize(("start", "worker", "workers"), [(0, 0, 1), (3, 0, 1), (17, 0, 1), (6, 1, 3), (13, 2, 3)])
def test_a_gathered_batch_is_the_queue_s(start: int, worker: int, workers: int) -> None:
    batches = Batches(SMALL, 8, 5, shuffle=True, class_weights=np.array([0.5, 1, 3], np.float32))
    queued = next(iter(batches.dataset(start, 1, worker, workers)))
    inside = batches.gathered(start, Machine(HERE.strategy, workers, worker, workers))
    pairs = zip(tf.nest.flatten(inside), tf.nest.flatten(queued), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_only_small_batches_of_what_is_in_memory_are_gathered_in_the_step(monkeypatch) -> None:
    batches = Batches(SMALL, 8)
    assert gathered.chosen(batches, HERE) and not gathered.chosen(batches, HERE, "queue")
    assert gathered.chosen(batches, Machine(HERE.strategy, 2, 1, 2))
    assert not gathered.chosen(batches, Machine(HERE.strategy, 2))
    assert not gathered.chosen(batches, Machine(HERE.strategy, 4, 1, 2))
    assert not gathered.chosen(Batches(SMALL, 8, augment=lambda features, seed: features), HERE, "step")
    assert not gathered.chosen(Batches(SMALL, 8, transform=lambda features: features), HERE, "step")
    monkeypatch.setattr(gathered, "MOST_BYTES", 10)
    assert not gathered.chosen(batches, HERE) and gathered.chosen(batches, HERE, "step")


@pytest.mark.e2e
def test_weights_and_history_do_not_depend_on_where_batches_are_gathered(tmp_path: Path) -> None:
    inside = fitted(tmp_path / "step", "fit.gather=step")
    beside = fitted(tmp_path / "queue", "fit.gather=queue")
    assert all(np.array_equal(a, b) for a, b in zip(inside[0], beside[0], strict=True)) and inside[1] == beside[1]


@pytest.mark.e2e
def test_a_queue_s_validation_sees_all_batches_however_many_steps_are_run_at_once(tmp_path: Path) -> None:
    # 5 steps an epoch: the first one ends with an execution of one step, the second with one of two.
    words = ("fit.batch_size=11", "fit.epochs=2", "fit.gather=queue", "fit.steps_per_execution=2")
    often = fitted(tmp_path / "often", *words, "fit.checkpoint.every_steps=2")
    assert often[1] == fitted(tmp_path / "once", *words)[1]
