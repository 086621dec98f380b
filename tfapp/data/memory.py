"""Arrays whose memory TensorFlow takes as it is: examples are then held once, not by NumPy and by TensorFlow.

TensorFlow's own conversion makes a copy, and another one that lives until something else is converted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# Bytes: where TensorFlow's kernels want a tensor to begin. NumPy promises 16 only.
BOUNDARY = 64


def empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """An array that holds nothing yet, and begins on a boundary if it is to hold numbers."""
    if dtype.hasobject:
        return np.empty(shape, dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + BOUNDARY, np.uint8)
    start = -memory.ctypes.data % BOUNDARY
    return memory[start : start + size].view(dtype).reshape(shape)


def tensor(array: np.ndarray) -> Any:
    """An array as a host's tensor: numbers stay where they are if they begin on a boundary. They must not change any more."""
    import tensorflow as tf

    if array.dtype.kind not in "iuf" or not array.dtype.isnative or not array.size:
        return tf.constant(array)
    flags = array.flags
    if array.ctypes.data % BOUNDARY or not (flags.c_contiguous and flags.writeable):
        moved = empty(array.shape, array.dtype)
        moved[...] = array
        array = moved
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
