"""Poisson sampling: a fair test of whether it is what the accountant assumes."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfapp.private.sampling import Poisson


@pytest.fixture(scope="module")
def batches():
    """Which of 500 examples each of 4,000 steps takes: bool [4000, 500]."""
    sample = Poisson(500, 0.1, 120, 0xDEAD_BEEF_0BAD_CAFE)
    draw = tf.function(lambda steps: tf.map_fn(sample, steps, fn_output_signature=(tf.int64, tf.int64)))
    indices, counts = draw(tf.range(4000, dtype=tf.int64))
    taken = np.zeros((4000, 500), bool)
    for row, places, count in zip(taken, indices.numpy(), counts.numpy(), strict=True):
        assert (np.diff(places[:count]) > 0).all()
        row[places[:count]] = True
    return taken


@pytest.mark.moderate
def test_the_sizes_of_batches_are_binomial(batches):
    edges = np.array([-1, *range(37, 65, 3), 500])
    expected = np.diff(stats.binom.cdf(edges, 500, 0.1)) * len(batches)
    found = np.histogram(batches.sum(1), edges + 0.5)[0]
    assert stats.chisquare(found, expected).pvalue > 1e-3


@pytest.mark.moderate
def test_every_example_is_as_likely_as_every_other_and_no_two_go_together(batches):
    counts = batches.sum(0)
    assert stats.chisquare(counts).statistic / (499 * 0.9) == pytest.approx(1, abs=0.25)
    pairs = np.corrcoef(batches.T.astype(float))[np.triu_indices(500, 1)]
    assert np.std(pairs) == pytest.approx(1 / np.sqrt(4000), rel=0.05) and abs(pairs.mean()) < 1e-3


@pytest.mark.moderate
def test_steps_know_nothing_of_each_other(batches):
    centred = batches - batches.mean(0)
    following = (centred[1:] * centred[:-1]).sum(0) / (centred**2).sum(0)
    assert np.std(following) == pytest.approx(1 / np.sqrt(4000), rel=0.15)


def test_the_key_and_the_step_decide_all():
    sample = Poisson(1000, 0.05, 90, 7)
    np.testing.assert_array_equal(sample(3)[0], sample(tf.constant(3, tf.int64))[0])
    assert sample(3)[0].numpy().tolist() != sample(4)[0].numpy().tolist()
    assert sample(3)[0].numpy().tolist() != Poisson(1000, 0.05, 90, 8)(3)[0].numpy().tolist()


def test_what_does_not_fit_is_left_out_and_all_are_taken_at_a_rate_of_one():
    indices, count = Poisson(1000, 0.5, 30, 7)(0)
    assert count == 30 and indices.shape == [30]
    indices, count = Poisson(12, 1.0, 12, 7)(5)
    assert count == 12 and sorted(indices.numpy()) == list(range(12))
