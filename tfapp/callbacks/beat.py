"""Tell whoever watches that the training goes on."""

from __future__ import annotations

import faulthandler
import time
from typing import Any

import tf_keras as keras

from tfapp.launch import signs

# Seconds between two signs; a sign takes microseconds.
OFTEN = 0.1


class Beat(keras.callbacks.Callback):
    """Tells the launcher the step, and ends the process when none comes for too long (see tfapp.watch).

    Args:
      wait: seconds without a step, of training or validation, that mean a hang; None: no limit.
    """

    _supports_tf_logs = True

    def __init__(self, wait: float | None):
        super().__init__()
        self._wait = wait
        self._epoch, self._told = 0, 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self._go_on()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._due():
            signs.tell(step=self._epoch * self.params["steps"] + batch + 1)
            self._go_on()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._due():
            self._go_on()

    def on_train_end(self, logs: Any = None) -> None:
        self.close()

    def close(self) -> None:
        """What comes after the steps may take as long as it takes."""
        faulthandler.cancel_dump_traceback_later()

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._told < OFTEN:
            return False
        self._told = now
        return True

    def _go_on(self) -> None:
        if self._wait is not None:
            faulthandler.dump_traceback_later(self._wait, exit=True)
