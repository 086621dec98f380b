"""Ctrl-C and SIGTERM end a training at the next step, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from typing import Any

import tf_keras as keras

from tfapp.callbacks.checkpoint import Checkpoint
from tfapp.errors import Interrupted, Preempted


class StopOnSignal(keras.callbacks.Callback):
    """Writes a checkpoint and raises Interrupted (SIGINT) or Preempted (SIGTERM). A second Ctrl-C stops at once.

    It comes after the checkpoint, which knows the step.
    """

    _supports_tf_logs = True

    def __init__(self, checkpoint: Checkpoint):
        super().__init__()
        self._checkpoint = checkpoint
        self._came: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._checkpoint.inside_epoch:
            self._stop_if_asked()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._stop_if_asked()

    def on_train_end(self, logs: Any = None) -> None:
        self.close()

    def close(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _stop_if_asked(self) -> None:
        if self._came is None:
            return
        self._checkpoint.save()
        how = f"state saved at step {self._checkpoint.step}; the same command goes on from there"
        raise Interrupted(how) if self._came == signal.SIGINT else Preempted(how)

    def _note(self, number: int, frame: Any) -> None:
        if self._came is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._came = number
