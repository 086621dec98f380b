"""How many threads a tf.data.Dataset has: one a core from the beginning, instead of TensorFlow's tuning."""

from __future__ import annotations

import math
from typing import Any

from tfapp import environment


def threads() -> int:
    """How many elements are made at once: one a core, the most that TensorFlow's tuning would take."""
    return max(1, math.ceil(environment.usable_cores()))


def untuned(dataset: Any) -> Any:
    """The same dataset without TensorFlow's tuning; what is to have several threads must say how many.

    Tuning has a thread of its own that sleeps longer and longer, a minute in the end, and an iterator that goes waits for it: a
    training of ten seconds ended four seconds later.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
