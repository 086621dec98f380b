"""The numbers of each epoch, in a table and in TensorBoard."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfapp.run import write_text


class Record(keras.callbacks.Callback):
    """Writes metrics.csv whole after each epoch, and TensorBoard events for training and validation.

    Args:
      folder: the run directory; None on workers that write nothing.
      training: whether the numbers of the training part are written beside those of validation.
    """

    _supports_tf_logs = True

    def __init__(self, folder: Path | None, training: bool = True):
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self._folder, self._training = folder, training
        self._began = 0.0
        self._spent = 0.0
        self._writers: dict[str, Any] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        numbers = {name: float(value) for name, value in (logs or {}).items() if self._training or name[:4] == "val_"}
        rate = keras.backend.get_value(self.model.optimizer.learning_rate)
        seconds = self._spent + time.perf_counter() - self._began
        self._began = self._spent = 0.0
        self.rows.append({"epoch": epoch + 1, **numbers, "learning_rate": float(rate), "seconds": round(seconds, 3)})
        if self._folder is not None:
            self._write_table(self._folder / "metrics.csv")
            self._write_events(self._folder / "tensorboard", epoch + 1, {**numbers, "learning_rate": float(rate)})

    def on_train_end(self, logs: Any = None) -> None:
        for writer in self._writers.values():
            writer.close()

    def state(self) -> dict[str, Any]:
        return {"rows": self.rows, "spent": self._spent + (time.perf_counter() - self._began if self._began else 0)}

    def restore(self, state: dict[str, Any]) -> None:
        self.rows, self._spent = state["rows"], state["spent"]

    def _write_table(self, path: Path) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, fieldnames=list(dict.fromkeys(key for row in self.rows for key in row)))
        table.writeheader()
        table.writerows(self.rows)
        write_text(path, text.getvalue())

    def _write_events(self, folder: Path, epoch: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            part = "validation" if name.startswith("val_") else "train"
            if part not in self._writers:
                self._writers[part] = tf.summary.create_file_writer(str(folder / part))
            with self._writers[part].as_default():
                tf.summary.scalar("epoch/" + name.removeprefix("val_"), value, step=epoch)
        for writer in self._writers.values():
            writer.flush()
