"""How many threads a tf.data.Dataset has: one a core from the beginning, instead of TensorFlow's tuning."""

from __future__ import annotations

import math
from typing import Any

from tfapp import environment


def threads() -> int:
    """How many elements are made at once: one a core, the most that TensorFlow's tuning would take."""
    return max(1, math.ceil(environment.usable_cores()))


def untuned(dataset: Any, fused: bool = True) -> Any:
    """The same dataset without TensorFlow's tuning; what is to have several threads must say how many.

    Tuning has a thread of its own that sleeps longer and longer, a minute in the end, and an iterator that goes waits for it: a
    training of ten seconds ended four seconds later.

    Args:
      fused: TensorFlow may put a map and the batch right behind it together. A pass over elements one by one takes a tenth less;
        where there is nothing to put together, looking for it takes 30 ms an iterator.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = fused
    return dataset.with_options(options)
