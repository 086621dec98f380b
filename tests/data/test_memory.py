"""A training set is held once."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfapp.data import memory


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64"])
def test_numbers_that_begin_on_a_boundary_are_not_copied(dtype):
    array = memory.empty([5, 3], np.dtype(dtype))
    array[...] = np.arange(15).reshape(5, 3)
    tensor = memory.tensor(array)
    assert np.shares_memory(array, np.asarray(memoryview(tensor)))
    assert tensor.dtype == dtype and np.array_equal(tf.gather(tensor, [4, 0]), array[[4, 0]])


@pytest.mark.parametrize("kind", ["off the boundary", "not in order", "not to be written", "texts", "booleans", "none"])
def test_what_cannot_be_shared_is_copied(kind):
    whole = memory.empty([9, 4], np.dtype(np.float32))
    whole[...] = np.arange(36).reshape(9, 4)
    still = whole.copy()
    still.flags.writeable = False
    array = {
        "off the boundary": whole.ravel()[1:],
        "not in order": whole[:, ::2],
        "not to be written": still,
        "texts": np.array(["a", "ß"], object),
        "booleans": whole > 3,
        "none": whole[:0],
    }[kind]
    tensor = memory.tensor(array)
    wanted = tf.constant(array)
    assert tensor.dtype == wanted.dtype and tensor.shape == wanted.shape and bool(tf.reduce_all(tensor == wanted))


def test_texts_have_room_too():
    assert memory.empty([2], np.dtype(object)).tolist() == [None, None]


def test_memory_lives_as_long_as_its_tensor():
    array = memory.empty([1000], np.dtype(np.int64))
    array[...] = 7
    tensor = memory.tensor(array)
    del array
    assert int(tf.reduce_sum(tensor)) == 7000
