"""Keep the weights of the best epoch."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

from tfapp.direction import more_is_better
from tfapp.errors import Missing
from tfapp.run import writing


class Best(keras.callbacks.Callback):
    """Remembers the best epoch's weights, and ends the training with them where asked to.

    Args:
      monitor, mode, min_delta: what is better; an improvement must exceed min_delta.
      path: where the best weights are written when a checkpoint is; an .npz file.
      restore_best: give the model the best weights when training ends.
      first_epoch: none before this one, from 0, can be the best.
    """

    _supports_tf_logs = True

    def __init__(self, monitor: str, mode: str, min_delta: float, path: Path, restore_best: bool, first_epoch: int = 0):
        super().__init__()
        self.monitor, self.path, self.restore_best = monitor, path, restore_best
        self._sign = 1.0 if more_is_better(monitor, mode) else -1.0
        self._min_delta = min_delta
        self._first_epoch = first_epoch
        self.value: float | None = None
        self.epoch: int | None = None
        self._weights: list[np.ndarray] | None = None
        self._written = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch < self._first_epoch:
            return
        value = float(logs[self.monitor])
        # Any number is better than a NaN.
        first = self.value is None or (np.isnan(self.value) and not np.isnan(value))
        if first or self._sign * (value - self.value) > self._min_delta:  # type: ignore[operator]
            self.value, self.epoch = value, epoch + 1
            self._weights, self._written = self.model.get_weights(), False

    def on_train_end(self, logs: Any = None) -> None:
        if self.restore_best and self._weights is not None:
            self.model.set_weights(self._weights)

    def state(self) -> dict[str, Any]:
        return {"value": self.value, "epoch": self.epoch}

    def restore(self, state: dict[str, Any]) -> None:
        self.value, self.epoch = state["value"], state["epoch"]
        if self.epoch is not None:
            try:
                with np.load(self.path, allow_pickle=False) as held:
                    self._weights = [held[f"w{number}"] for number in range(len(held.files))]
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                raise Missing(
                    f"{self.path}, the best weights so far, cannot be read: {error}\n"
                    "train anew, with this run set aside: the same command with --fresh"
                ) from error

    def to_write(self) -> Callable[[], None] | None:
        """What puts the best weights on disk, in any thread; None if they are there, or on their way."""
        if self._written or self._weights is None:
            return None
        self._written = True
        return partial(_write, self.path, self._weights)


def _write(path: Path, weights: list[np.ndarray]) -> None:
    with writing(path) as file:
        np.savez(file, **{f"w{number}": weight for number, weight in enumerate(weights)})
