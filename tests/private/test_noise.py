"""The noise: normal, independent, and the same wherever the same step draws it."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfapp.private import noise

KEY = 0x1234_5678_9ABC_DEF0


@pytest.mark.moderate
def test_it_is_standard_normal_to_far_out_in_its_tails():
    drawn = np.concatenate([noise.gaussian(KEY, step, 1_000_001).numpy() for step in range(3)]).astype(np.float64)
    assert drawn.shape == (3_000_003,) and np.isfinite(drawn).all()
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    assert stats.chisquare(*_counted(drawn)).pvalue > 1e-3
    assert np.abs(drawn).max() > 4.7


def _counted(drawn):
    edges = np.array([-np.inf, -4, -3, -2, -1, 0, 1, 2, 3, 4, np.inf])
    return np.histogram(drawn, edges)[0], np.diff(stats.norm.cdf(edges)) * len(drawn)


def test_steps_keys_and_places_share_nothing():
    one = noise.gaussian(KEY, 5, 20_000).numpy()
    for other in (
        noise.gaussian(KEY, 6, 20_000),
        noise.gaussian(KEY + 1, 5, 20_000),
        noise.gaussian(KEY ^ 1 << 63, 5, 20_000),
    ):
        assert abs(np.corrcoef(one, other.numpy())[0, 1]) < 0.04
    assert abs(np.corrcoef(one[:10_000], one[10_000:])[0, 1]) < 0.05
    assert np.unique(one).size > 19_900


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.moderate)])
def test_a_compiled_step_draws_what_the_plain_one_does(jit):
    draw = tf.function(lambda step: noise.gaussian(KEY, step, 1001), jit_compile=jit)
    np.testing.assert_allclose(draw(tf.constant(9, tf.int64)), noise.gaussian(KEY, 9, 1001), rtol=1e-4, atol=1e-5)


def test_several_shapes_are_parts_of_one_draw():
    parts = noise.like(KEY, 3, [tf.TensorShape([4, 5]), tf.TensorShape([7]), tf.TensorShape([])])
    assert [part.shape for part in parts] == [[4, 5], [7], []]
    np.testing.assert_array_equal(np.concatenate([np.ravel(part) for part in parts]), noise.gaussian(KEY, 3, 28))
