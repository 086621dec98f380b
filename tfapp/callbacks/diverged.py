"""Stop at the first loss that is not a number, and say where it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfapp import errors
from tfapp.data.pipeline import Batches
from tfapp.run import write_text


class Diverged(keras.callbacks.Callback):
    """Raises errors.Diverged when the loss is NaN or infinite, before any checkpoint of it could be written.

    Args:
      batches: to name the examples of the steps in question.
      path: a JSON file with those steps' examples.
      checkpoints: the folder that holds the last good state, for the message.
      exact: whether the loss is that after the step just taken; otherwise it may be that after any step
        of the epoch.
    """

    _supports_tf_logs = True

    def __init__(self, batches: Batches, path: Path, checkpoints: Path, exact: bool = True):
        super().__init__()
        self._batches, self._path, self._checkpoints, self._exact = batches, path, checkpoints, exact
        self._epoch, self._first = 0, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._first = batch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = float(logs["loss"])
        if not np.isfinite(loss):
            before, steps = self._epoch * len(self._batches), len(self._batches)
            first, end = (self._first, batch + 1) if self._exact else (0, steps)
            self._stop(loss, range(before + first + 1, before + end + 1))

    def _stop(self, loss: float, steps: range) -> None:
        examples = self._batches.examples
        seen = np.unique(np.concatenate([self._batches.seen(step - 1) for step in steps]))
        broken = [examples.name(index) for index in seen if not _finite(examples, index)]
        write_text(
            self._path,
            json.dumps(
                {
                    "loss": str(loss),
                    "epoch": self._epoch + 1,
                    "steps": [steps[0], steps[-1]],
                    "examples": [examples.name(index) for index in seen],
                    "examples_with_nan_or_inf": broken,
                },
                indent=1,
            ),
        )
        where = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]}–{steps[-1]}"
        cause = (
            f"{len(broken)} of their examples hold NaN or infinity, the first is {broken[0]}"
            if broken
            else "their examples are all finite: try a lower learning rate, fit.clip_norm=1 or runtime.precision=float32"
        )
        raise errors.Diverged(
            f"the loss became {loss} in epoch {self._epoch + 1}, {where} (examples listed in {self._path})\n"
            f"{cause}\nthe last good state is kept in {self._checkpoints}"
        )


def _finite(examples: Any, index: int) -> bool:
    columns = [np.asarray(column[index]) for column in tf.nest.flatten(examples.features)]
    columns.append(np.asarray(examples.labels[index]))
    return all(np.isfinite(value).all() for value in columns if value.dtype.kind == "f")
