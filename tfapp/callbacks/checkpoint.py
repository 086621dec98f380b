"""The state of a training, saved so that the same command goes on as if nothing had happened."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfapp import plan
from tfapp.errors import Failed
from tfapp.runtime import Machine
from tfapp.snapshot import Snapshot, Taker

# Where a checkpoint keeps its plain values.
STATE = "state/.ATTRIBUTES/py_state"

# What Keras's own callbacks must remember to go on as before.
KERAS_STATE = {
    keras.callbacks.EarlyStopping: ("wait", "best", "stopped_epoch", "best_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
}


class Checkpoint(keras.callbacks.Callback):
    """Saves weights, optimizer, the step, the epoch's running metrics and the other callbacks' state.

    The step is all that the data needs: the pipeline is a function of it. It comes after the callbacks whose
    state it saves, so that it saves what they have become. What is saved is held fast in the training's thread, and
    written in another while the training goes on; one checkpoint at a time, the next waits.

    A callback with a method `to_write` gives by it what is to be written before the checkpoint, or None.

    Args:
      folder: where checkpoints are, the same for all workers; machine: who they are. The chief's are kept.
      settings: when to save and how many to keep.
      steps: steps in an epoch.
      callbacks: whose state is saved with it.
    """

    _supports_tf_logs = True

    def __init__(self, folder: Path, machine: Machine, settings: plan.Checkpoint, steps: int, callbacks: list[Any]):
        super().__init__()
        self.step = 0
        self.ended = self.complete = False
        self._folder, self._machine, self._settings, self._steps = folder, machine, settings, steps
        self._callbacks = callbacks
        self._epoch = 0
        self._due = False
        self._saved_at = time.monotonic()
        self._state = _State()
        self._writer = futures.ThreadPoolExecutor(1, "checkpoint")
        self._writing: futures.Future[None] | None = None

    def attach(self, model: keras.Model) -> None:
        """Name what is saved: called once, after compile."""
        self._objects = tf.train.Checkpoint(model=model, optimizer=model.optimizer, state=self._state)
        self._taker = Taker(self._objects)
        self.set_model(model)

    def restore(self, say: Callable[[str], None] = print) -> int:
        """Go back to the newest checkpoint that every worker can read; returns the step to go on with, 0 without any.

        What cannot be read (torn by a failing disk, say) is told with `say`.

        Raises:
          Failed: some workers see none of the chief's checkpoints.
        """
        path = self._agreed(say)
        if path is not None:
            self._objects.restore(str(path)).expect_partial()
            state = self._state.value
            self.step, self.complete = state["step"], state["complete"]
            self.ended = state.get("ended", self.complete)
            self._restore_metrics()
        return self.step

    def _agreed(self, say: Callable[[str], None]) -> Path | None:
        """The newest checkpoint that is whole on every worker; the chief names them one by one."""
        offers = numbers(self._folder) if self._machine.chief else []
        blind: list[int] = []
        while True:
            offered = int(self._machine.gather(offers.pop(0) + 1 if offers else 0)[0, 0])
            if not offered:
                break
            path = self._folder / f"ckpt-{offered - 1}"
            whole = self._machine.gather(_whole(path))[:, 0]
            if whole.all():
                return path
            if not whole[0] and self._machine.chief:
                say(f"the checkpoint {path} is damaged and left out")
            if whole[0]:
                blind = [worker for worker, sees in enumerate(whole) if not sees]
        if blind:
            raise Failed(
                f"worker {', '.join(map(str, blind))} cannot read the chief's checkpoints in {self._folder}\n"
                "give --run a folder that all workers share (NFS, a bucket that is mounted, …)"
            )
        return None

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
        # The training's last step ends its epoch, wherever that is.
        return self.step % self._steps != 0 and not self.model.stop_training

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._writing is not None and self._writing.done():
            self.wait()
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
        """Take a checkpoint of now, which is written while the training goes on.

        Args:
          complete: the training has ended, and the model is as it is to be.

        Raises:
          tf.errors.OpError, OSError: the one before could not be written.
        """
        self.wait()
        self._machine.catch_up()
        ended = complete or bool(self.model.stop_training)
        self._state.value = {
            "step": self.step,
            "ended": ended,
            "complete": complete,
            "running": self._running_metrics() if self.inside_epoch and not ended else [],
            "callbacks": {str(number): _state(callback) for number, callback in enumerate(self._callbacks)},
        }
        # Every worker takes part in it; only the chief writes.
        snapshot = self._taker.take(state=self._state.serialize())
        if self._machine.chief:
            given = [callback.to_write() for callback in self._callbacks if hasattr(callback, "to_write")]
            self._writing = self._writer.submit(self._write, self.step, snapshot, [one for one in given if one])
        self._due = False
        self._saved_at = time.monotonic()

    def wait(self) -> None:
        """Until the checkpoint that was taken last is whole on the disk.

        Raises:
          tf.errors.OpError, OSError: it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Let what is being written become whole, whatever has ended the training."""
        if self._writing is not None:
            futures.wait([self._writing])

    def _write(self, step: int, snapshot: Snapshot, before: list[Callable[[], None]]) -> None:
        for one in before:
            one()
        snapshot.write(self._folder / f"ckpt-{step}")
        _drop_all_but(self._settings.keep, self._folder, step)

    def _minutes_are_up(self) -> bool:
        settings = self._settings
        minutes = settings.every_minutes
        if minutes is None and settings.every_epochs is None and settings.every_steps is None:
            minutes = 0.5
        # Saving is common work, and no two clocks agree.
        return minutes is not None and self._machine.any(time.monotonic() - self._saved_at >= 60 * minutes)

    def _metrics(self) -> list[list[tf.Variable]]:
        """Of each replica here, its own part of every variable of the metrics."""
        variables = [variable for metric in self.model.metrics for variable in metric.variables]
        parts = [self._machine.strategy.experimental_local_results(variable) for variable in variables]
        return [list(replica) for replica in zip(*parts, strict=True)]

    def _running_metrics(self) -> list[list[int]]:
        """The metrics of the epoch so far: each device's own, float64 as pairs of uint32, [devices, 2 × values].

        Their sum alone would not do: summed in another order, an epoch's mean loss ends with other last bits.
        """
        here = [np.concatenate([np.ravel(part.numpy()) for part in replica]) for replica in self._metrics()]
        table = self._machine.gather(*np.asarray(here, np.float64).view(np.uint32).ravel().tolist())
        return table.reshape(self._machine.devices, -1).tolist() if here else []

    def _restore_metrics(self) -> None:
        held = np.asarray(self._state.value.get("running", []), np.uint32).view(np.float64)
        if not held.size:
            return
        replicas = self._metrics()
        if len(held) != self._machine.devices:
            # Another number of devices now: the first one takes the sum of all.
            held = np.vstack([held.sum(0), np.zeros((self._machine.devices - 1, held.shape[1]))])
        first = self._machine.worker * len(replicas)
        for values, replica in zip(held[first:], replicas, strict=False):
            sizes = np.cumsum([part.shape.num_elements() for part in replica])[:-1]
            for part, value in zip(replica, np.split(values, sizes), strict=True):
                part.assign(value.reshape(part.shape).astype(part.dtype.as_numpy_dtype))


def numbers(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, newest first."""
    found = [re.fullmatch(r"ckpt-(\d+)\.index", path.name) for path in folder.glob("ckpt-*.index")]
    return sorted((int(name[1]) for name in found if name), reverse=True)


def _drop_all_but(keep: int, folder: Path, step: int) -> None:
    """Delete all but the last checkpoints up to a step; what lies beyond it was torn, and will be written over."""
    for number in [number for number in numbers(folder) if number <= step][keep:]:
        # The index first: without it there is no checkpoint, however a kill cuts this short.
        for path in sorted(folder.glob(f"ckpt-{number}.*"), key=lambda path: path.suffix != ".index"):
            path.unlink(missing_ok=True)
    # What a kill has left of one that was being deleted, or was not yet one.
    there = {f"ckpt-{number}" for number in numbers(folder)}
    for path in folder.glob("ckpt-*.data-*"):
        if path.stem not in there:
            path.unlink(missing_ok=True)


def _whole(path: Path) -> bool:
    """Whether all of a checkpoint can be read (its checksums are checked), before any of it goes into the model."""
    try:
        reader = tf.train.load_checkpoint(str(path))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
        json.loads(reader.get_tensor(STATE))
    except Exception:
        # Torn by a kill or a full disk. The reader turns TensorFlow's errors into half a dozen of Python's.
        return False
    return True


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
