"""As many steps between two returns to Python as keep everything else prompt."""

from __future__ import annotations

import time
from typing import Any

import tf_keras as keras

SECONDS = 0.25
FIXED = 8


class Pace(keras.callbacks.Callback):
    """Sets steps_per_execution while training, and ends it after exactly the planned steps.

    The steps run on in TensorFlow for about a quarter of a second, or up to the next boundary (a
    checkpoint's step, the last step). What is computed does not depend on it.

    Args:
      wanted: a number of steps, or "auto" to measure.
      total: last step of the run.
      every: a checkpoint is due each so many steps; None: no such boundary.
      start: the step that the training goes on from.
      measured: whether auto may go by the clock; the workers of a cluster must agree, so they don't.
    """

    _supports_tf_logs = True

    def __init__(self, wanted: int | str, total: int, every: int | None, start: int = 0, measured: bool = True):
        super().__init__()
        self._measured = wanted == "auto" and measured
        self._steps = FIXED if wanted == "auto" else int(wanted)
        self._total, self._every, self._start = total, every or total, start
        self._epoch_start, self._last, self._since = 0, 0, 0.0
        self._fresh = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch_start = epoch * self.params["steps"]
        self._since = time.perf_counter()
        self._set(self._epoch_start + self._start % self.params["steps"])
        self._start = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._last = self._epoch_start + batch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = self._epoch_start + batch + 1
        now = time.perf_counter()
        if self._measured and not self._fresh:
            each = (now - self._since) / (step - self._last)
            self._steps = max(1, min(int(SECONDS / each) if each > 0 else self._steps * 2, self._steps * 4, 4096))
        # The first execution is mostly tracing: it says nothing of the pace.
        self._fresh, self._since = False, now
        if step >= self._total:
            self.model.stop_training = True
        else:
            self._set(step)

    def _set(self, step: int) -> None:
        """As many steps from `step` on as the pace allows and no boundary cuts short."""
        in_epoch = self.params["steps"] - step % self.params["steps"]
        steps = min(self._steps, self._total - step, self._every - step % self._every, in_epoch)
        if self.model._steps_per_execution.numpy() != steps:
            self.model._steps_per_execution.assign(steps)
