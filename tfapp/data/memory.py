"""Arrays that TensorFlow takes as they lie in memory: made of any other array, a tensor is one copy of it more, or two."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# Where TensorFlow's kernels want a buffer to begin. NumPy begins large arrays 16 bytes behind such a place.
ALIGNED = 64
_PORTION = 65_536


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """As np.empty, but such that `tensor` need not copy it."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "biuf":
        return np.empty(shape, dtype)
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + ALIGNED, np.uint8)
    start = -room.ctypes.data % ALIGNED
    return room[start : start + size].view(dtype).reshape(shape)


def taken(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """As array[rows] of integers, made by `empty`."""
    found = empty((len(rows), *array.shape[1:]), array.dtype)
    for start in range(0, len(rows), _PORTION):
        found[start : start + _PORTION] = array[rows[start : start + _PORTION]]
    return found


def tensor(array: np.ndarray) -> Any:
    """The array as a tensor. Nothing may be written to the array any more: its memory is the tensor's where it lies well."""
    import tensorflow as tf

    if array.dtype.kind not in "iuf" or not array.size:
        return tf.constant(array)
    # NumPy hands over no array that is read-only.
    well = array.flags.c_contiguous and array.flags.writeable and array.dtype.isnative
    if not well or array.ctypes.data % ALIGNED:
        whole, array = array, empty(array.shape, array.dtype.newbyteorder("="))
        array[...] = whole
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
