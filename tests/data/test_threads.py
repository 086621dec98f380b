"""Datasets have a thread a core, and nobody waits for TensorFlow's tuning of them."""

from __future__ import annotations

import pytest
import tensorflow as tf

from tfapp import environment
from tfapp.data.arrays import split
from tfapp.data.pipeline import Batches
from tfapp.data.queue import Queue
from tfapp.data.threads import threads, untuned
from tfapp.recipe import Split


@pytest.mark.parametrize(("cores", "expected"), [(0.5, 1), (1.5, 2), (2.0, 2), (64.0, 64)])
def test_there_is_a_thread_a_core(monkeypatch, cores: float, expected: int) -> None:
    monkeypatch.setattr(environment, "usable_cores", lambda: cores)
    assert threads() == expected


def test_an_untuned_dataset_has_the_same_elements_and_is_not_tuned() -> None:
    dataset = untuned(tf.data.Dataset.range(5).map(lambda x: x + 1, threads()))
    assert tf.data.Dataset.range(5).options().autotune.enabled is not False
    assert list(dataset.as_numpy_iterator()) == [1, 2, 3, 4, 5]
    assert dataset.options().autotune.enabled is False


def test_batches_are_not_tuned_through_a_queue_or_without() -> None:
    data = split([[1.0], [2.0], [3.0], [4.0]], [0, 1, 0, 1], Split(validation=0, test=0), classes=["a", "b"])
    for queue in (None, Queue()):
        assert Batches(data.train, 2).dataset(queue=queue).options().autotune.enabled is False
