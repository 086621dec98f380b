"""Ctrl-C, SIGTERM and a notice of preemption end a training at the next step, with a checkpoint, on all workers."""

from __future__ import annotations

import signal
import threading
from typing import Any

import tf_keras as keras

from tfapp.callbacks.checkpoint import Checkpoint
from tfapp.errors import Interrupted, Preempted
from tfapp.launch import preemption
from tfapp.runtime import Machine

# Slurm sends what `--signal` asks for, often USR1, some time before it ends a job.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopOnSignal(keras.callbacks.Callback):
    """Writes a checkpoint and raises Interrupted (SIGINT) or Preempted (SIGTERM, SIGUSR1). A second Ctrl-C stops at once.

    The workers agree each time they return from TensorFlow, so that a signal to one of them stops all at the
    same step. It comes after the checkpoint, which knows the step.
    """

    _supports_tf_logs = True

    def __init__(self, checkpoint: Checkpoint, machine: Machine):
        super().__init__()
        self._checkpoint, self._machine = checkpoint, machine
        self._came: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        # A machine of a cloud tells in advance that it will be taken away; that comes as a SIGTERM.
        preemption.watch()

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
        interrupted, preempted = self._machine.gather(
            self._came == signal.SIGINT, self._came not in (None, signal.SIGINT)
        ).any(axis=0)
        if not (interrupted or preempted):
            return
        self._checkpoint.save()
        self._checkpoint.wait()
        self._machine.wait_for_all()
        how = f"state saved at step {self._checkpoint.step}; the same command goes on from there"
        # A preemption that comes with a Ctrl-C must not look like a person's wish to whoever starts the job again.
        raise Preempted(how) if preempted else Interrupted(how)

    def _note(self, number: int, frame: Any) -> None:
        if self._came is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._came = number
