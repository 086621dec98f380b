"""Let somebody else decide after each epoch whether a training goes on: a search, that has better uses for the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tf_keras as keras

from tfapp.callbacks.checkpoint import Checkpoint
from tfapp.callbacks.record import Record
from tfapp.errors import Paused
from tfapp.runtime import Machine

# Is shown the numbers of all epochs so far; answers with the reason to pause, or None to go on.
Watch = Callable[[Sequence[Mapping[str, float]]], str | None]


class Pause(keras.callbacks.Callback):
    """Writes a checkpoint and raises Paused after the epoch whose numbers are enough for the watch.

    Asked when a training goes on too, since a kill may have come between an epoch and the answer to it. Not asked
    after the last epoch, nor when early stopping has ended the training: that one is whole. It comes after the
    callbacks that record and save.

    Args:
      watch: is asked; that of every worker must answer alike. record: holds the numbers. checkpoint: saves the state.
      machine: whose workers leave together. total: last step of the run.
    """

    _supports_tf_logs = True

    def __init__(self, watch: Watch, record: Record, checkpoint: Checkpoint, machine: Machine, total: int):
        super().__init__()
        self._watch, self._record, self._checkpoint = watch, record, checkpoint
        self._machine, self._total = machine, total

    def on_train_begin(self, logs: Any = None) -> None:
        if self._record.rows and not self._checkpoint.inside_epoch:
            self._ask()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._ask()

    def _ask(self) -> None:
        why = self._watch(self._record.rows)
        if why is None or self._checkpoint.step >= self._total or self.model.stop_training:
            return
        self._checkpoint.save()
        self._checkpoint.wait()
        self._machine.wait_for_all()
        raise Paused(f"{why}; state saved at step {self._checkpoint.step}")
