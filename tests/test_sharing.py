"""Weights of one cluster are equal from then on, zeros stay zero, and the clusters are the k-means of the weights."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tfapp import sharing


def test_the_clusters_of_weights_in_heaps_are_the_heaps() -> None:
    random = np.random.default_rng(0)
    weights = (np.repeat([-2.0, 0.5, 3.0], 40) + random.normal(0, 0.01, 120)).astype(np.float32).reshape(10, 12)
    shared = sharing.Shared(tf.Variable(weights))
    centred = shared.fit(3, seed=0)
    assert np.allclose(np.unique(centred), [-2, 0.5, 3], atol=0.01) and np.abs(centred - weights).max() < 0.1
    assert bool(shared.on.numpy()) and len(np.unique(shared.cluster)) == 3


def test_zeros_are_one_of_the_clusters() -> None:
    weights = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32) * (np.arange(30) % 3 == 0)
    centred = sharing.Shared(tf.Variable(weights)).fit(8, seed=1)
    assert np.array_equal(centred == 0, weights == 0) and len(np.unique(centred)) == 8


@pytest.mark.moderate
def test_the_same_seed_finds_the_same_clusters_also_of_many_weights() -> None:
    weights = tf.Variable(np.random.default_rng(0).normal(size=(sharing.SAMPLE // 100, 150)).astype(np.float32))
    first, second = (sharing.Shared(weights).fit(16, seed=3) for _ in range(2))
    assert np.array_equal(first, second) and len(np.unique(first)) == 16


def test_a_step_moves_a_cluster_by_the_mean_of_its_weights() -> None:
    weights = np.array([[1, 1, 2], [2, 0, 1]], np.float32)
    shared = sharing.Shared(tf.Variable(weights))
    law = shared.law(tf.constant(1), tf.constant(weights), tf.constant(weights))
    moved = np.array([[1.3, 1.6, 2.2], [2.4, 0.5, 1.0]], np.float32)
    assert np.array_equal(law(tf.constant(moved)), moved)  # Nothing is shared yet.
    shared.hold(sharing.as_they_are(weights))
    law = shared.law(tf.constant(1), tf.constant(weights), tf.constant(moved))
    assert np.allclose(law(tf.constant(moved)), [[1.3, 1.3, 2.3], [2.3, 0, 1.3]])


@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.sampled_from([-1.5, 0, 0.25, 7])
    )
)
def test_weights_that_share_values_are_their_own_clusters(weights: np.ndarray) -> None:
    cluster = sharing.as_they_are(weights)
    assert np.array_equal(cluster == 0, weights == 0)
    for number in np.unique(cluster):
        assert len(np.unique(weights[cluster == number])) == 1
    assert len(np.unique(cluster)) == len(np.unique(weights))


@pytest.mark.parametrize("values", [[0.5], [0.5, -0.5, 0.0]])
def test_fewer_values_than_clusters_are_left_as_they_are(values: list[float]) -> None:
    weights = np.resize(np.float32(values), (4, 6))
    assert np.array_equal(sharing.Shared(tf.Variable(weights)).fit(16, seed=0), weights)
