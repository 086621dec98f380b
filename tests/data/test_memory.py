import gc
import weakref

import numpy as np
import pytest

from tfapp.data import memory
from tfapp.runtime import import_tensorflow

tf = import_tensorflow()

VALUES = np.arange(24).reshape(2, 3, 4)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int32", "int64", "float16", "float32", "float64", ">f4", bool, "U3", object]
)
@pytest.mark.parametrize("kind", ["plain", "read-only", "transposed", "empty"])
def test_a_tensor_is_the_array_of_whatever_kind(dtype, kind):
    array = VALUES.astype(dtype)
    if array.dtype == object:
        array = VALUES.astype(str).astype(object)
    if kind == "read-only":
        array.flags.writeable = False
    array = {"transposed": array.T, "empty": array[:0] if array.dtype.kind not in "UO" else array}.get(kind, array)
    held = memory.tensor(array)
    assert held.shape == array.shape
    plain = np.char.decode(held.numpy().astype("S")) if held.dtype == tf.string else held.numpy()
    np.testing.assert_array_equal(plain, array.astype(plain.dtype))


def test_a_tensor_of_an_array_made_for_it_takes_no_memory_of_its_own_and_keeps_the_array():
    array = memory.empty((1000, 3), np.float32)
    array[:] = 7
    held = memory.tensor(array)
    array[0, 0] = 8  # nobody is to do this; it shows that there is one memory
    assert held[0, 0] == 8
    room = weakref.ref(array.base)
    del array
    gc.collect()
    assert room() is not None and tf.reduce_sum(held) == 7 * 3000 + 1
    del held
    gc.collect()
    assert room() is None


@pytest.mark.parametrize("shape", [(), (0,), (5,), (0, 3), (70_000, 2)])
def test_rows_are_taken_as_numpy_takes_them(shape):
    array = np.random.default_rng(0).normal(size=shape or (9,))
    rows = np.random.default_rng(1).permutation(len(array))
    found = memory.taken(array, rows)
    np.testing.assert_array_equal(found, array[rows])
    assert found.ctypes.data % memory.ALIGNED == 0 or not found.size
    with pytest.raises(IndexError):
        memory.taken(array, np.array([len(array)]))
