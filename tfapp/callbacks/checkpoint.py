"""The state of a training, saved so that the same command goes on as if nothing had happened."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfapp import plan

# What Keras's own callbacks must remember to go on as before.
KERAS_STATE = {
    keras.callbacks.EarlyStopping: ("wait", "best", "stopped_epoch", "best_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
}


class Checkpoint(keras.callbacks.Callback):
    """Saves weights, optimizer, the step, the epoch's running metrics and the other callbacks' state.

    The step is all that the data needs: the pipeline is a function of it. It comes after the callbacks whose
    state it saves, so that it saves what they have become.

    Args:
      folder: where checkpoints are; chief: whether this worker's are the ones kept.
      settings: when to save and how many to keep.
      steps: steps in an epoch.
      callbacks: whose state is saved with it.
    """

    _supports_tf_logs = True

    def __init__(self, folder: Path, chief: bool, settings: plan.Checkpoint, steps: int, callbacks: list[Any]):
        super().__init__()
        self.step = 0
        self.complete = False
        self._folder, self._chief, self._settings, self._steps = folder, chief, settings, steps
        self._callbacks = callbacks
        self._epoch = 0
        self._due = False
        self._saved_at = time.monotonic()
        self._state = _State()

    def attach(self, model: keras.Model) -> None:
        """Name what is saved: called once, after compile."""
        self._objects = tf.train.Checkpoint(model=model, optimizer=model.optimizer, state=self._state)
        # Every worker takes part in saving; only the chief's files are kept.
        folder = self._folder if self._chief else Path(tempfile.mkdtemp(prefix="tfapp-worker-"))
        self._manager = tf.train.CheckpointManager(self._objects, str(folder), max_to_keep=self._settings.keep)
        self.set_model(model)

    def restore(self) -> int:
        """Go back to the newest checkpoint that can be read; returns the step to go on with, 0 without any."""
        for path in reversed(tf.train.CheckpointManager(self._objects, str(self._folder), None).checkpoints):
            try:
                self._objects.restore(path).expect_partial()
            except (tf.errors.OpError, ValueError, IndexError):  # IndexError: a data file cut short.
                continue  # Torn by a kill or a full disk: the one before it is whole.
            self.step, self.complete = self._state.value["step"], self._state.value["complete"]
            self._restore_metrics()
            break
        return self.step

    def restore_callbacks(self) -> None:
        """Give the other callbacks their state back, after Keras has reset them."""
        for number, callback in enumerate(self._callbacks):
            held = self._state.value.get("callbacks", {}).get(str(number))
            if held is not None:
                _restore(callback, held)

    def on_train_begin(self, logs: Any = None) -> None:
        # The hook by which Keras lets a training start inside an epoch.
        self.model._training_state = self
        self.restore_callbacks()

    def maybe_load_initial_counters_from_ckpt(self, steps: int, epoch: int, mode: Any) -> tuple[int, int]:
        """Keras asks where to start: (epoch, step inside it)."""
        return divmod(self.step, self._steps)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        if self.inside_epoch:
            # Keras has just reset the metrics; this epoch goes on from its middle.
            self._restore_metrics()

    @property
    def inside_epoch(self) -> bool:
        """Whether the epoch's validation and its callbacks are still to come, without being next."""
        return self.step % self._steps != 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step = self._epoch * self._steps + batch + 1
        every = self._settings.every_steps
        self._due = bool(every and self.step % every == 0) or self._minutes_are_up()
        if self._due and self.inside_epoch:
            self.save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        every = self._settings.every_epochs
        if self._due or (every and (epoch + 1) % every == 0) or self._minutes_are_up():
            self.save()

    def on_train_end(self, logs: Any = None) -> None:
        self.model._training_state = None

    def save(self, complete: bool = False) -> None:
        """Write a checkpoint now."""
        self._state.value = {
            "step": self.step,
            "complete": complete,
            "metrics": [metric.get_weights() for metric in self.model.metrics] if self.inside_epoch else [],
            "callbacks": {str(number): _state(callback) for number, callback in enumerate(self._callbacks)},
        }
        if self._chief:
            for callback in self._callbacks:
                if hasattr(callback, "write"):
                    callback.write()
        self._manager.save(checkpoint_number=self.step)
        self._due = False
        self._saved_at = time.monotonic()

    def _minutes_are_up(self) -> bool:
        settings = self._settings
        minutes = settings.every_minutes
        if minutes is None and settings.every_epochs is None and settings.every_steps is None:
            minutes = 0.5
        return minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes

    def _restore_metrics(self) -> None:
        for metric, weights in zip(self.model.metrics, self._state.value.get("metrics", []), strict=False):
            metric.set_weights([np.asarray(weight, np.float32) for weight in weights])


class _State(tf.train.experimental.PythonState):
    """The plain values of a checkpoint, as JSON inside it."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}

    def serialize(self) -> str:
        return json.dumps(self.value, default=_plain)

    def deserialize(self, text: str | bytes) -> None:
        self.value = json.loads(text)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else float(value)


def _state(callback: Any) -> Any:
    if hasattr(callback, "state"):
        return callback.state()
    return {name: _plain(getattr(callback, name)) for name in KERAS_STATE.get(type(callback), ())}


def _restore(callback: Any, held: Any) -> None:
    if hasattr(callback, "restore"):
        callback.restore(held)
    else:
        for name, value in held.items():
            setattr(callback, name, value)
