"""Patches are those that TensorFlow cuts, whichever way they are gathered."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.private.clipping.loop import normal
from tfapp.private.clipping import rules

pytestmark = pytest.mark.moderate


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("channels", "kernel", "strides", "rates"),
    [
        (3, (3, 3), 1, 1),  # whole
        (2, (2, 4), 1, (1, 2)),
        (1, (8, 8), 2, 1),  # by lines of two rows
        (4, (5, 3), 1, (2, 1)),  # by lines of one row
        (20, (3, 2), (2, 1), 1),  # by pixels
        (20, (3, 3), 1, (1, 2)),
        (3, (7, 7), 2, 1),
    ],
)
def test_patches_are_those_that_tensorflow_cuts(channels, kernel, strides, rates, padding):
    layer = keras.layers.Conv2D(4, kernel, strides=strides, padding=padding, dilation_rate=rates)
    sizes = [(1, *layer.kernel_size, 1), (1, *layer.strides, 1), (1, *layer.dilation_rate, 1)]
    x = normal(3, 17, 20, channels)
    expected = tf.image.extract_patches(x, *sizes, padding.upper()).numpy()
    for shape in ((17, 20), (None, None)):
        cut = tf.function(lambda x: rules._patches(layer, x)).get_concrete_function(
            tf.TensorSpec([None, *shape, channels])
        )
        np.testing.assert_array_equal(cut(x).numpy().reshape(expected.shape), expected)
