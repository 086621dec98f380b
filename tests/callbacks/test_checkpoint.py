"""Checkpoints come when they are due, are kept as many as asked, and a torn one is passed over."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import plan
from tfapp.callbacks import checkpoint as module
from tfapp.callbacks.checkpoint import Checkpoint
from tfapp.runtime import Machine

STEPS = 10


class Counter:
    """A callback with a state and something to write."""

    def __init__(self) -> None:
        self.count, self.written = 0, 0

    def state(self) -> dict[str, int]:
        return {"count": self.count}

    def restore(self, state: dict[str, int]) -> None:
        self.count = state["count"]

    def to_write(self):
        return self.write

    def write(self) -> None:
        self.written += 1


class Held:
    """A callback whose file takes until it is let go, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go, self.error, self.begun = threading.Event(), error, 0

    def state(self) -> dict[str, int]:
        return {}

    def to_write(self):
        return self.write

    def write(self) -> None:
        self.begun += 1
        assert self.go.wait(30)
        if self.error:
            raise self.error


def saving(folder: Path, callbacks: list[Any] | None = None, chief: bool = True, **settings: Any) -> Checkpoint:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    machine = Machine(tf.distribute.get_strategy(), 1, worker=0 if chief else 1)
    callback = Checkpoint(folder, machine, plan.Checkpoint(**settings), STEPS, callbacks or [])
    callback.attach(model)
    return callback


def fill(callback: Checkpoint, value: float) -> None:
    callback.model.set_weights([np.full(w.shape, value) for w in callback.model.get_weights()])


def trained(callback: Checkpoint, steps: int) -> None:
    """So many steps; the weights are the step's number."""
    for step in range(callback.step, steps):
        epoch, batch = divmod(step, STEPS)
        if batch == 0:
            callback.on_epoch_begin(epoch)
        fill(callback, step + 1)
        callback.on_train_batch_end(batch)
        if batch == STEPS - 1:
            callback.on_epoch_end(epoch)
    callback.wait()


def kept(folder: Path) -> list[int]:
    return sorted(int(path.stem.partition("-")[2]) for path in folder.glob("ckpt-*.index"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"every_steps": 4, "keep": 99}, [4, 8, 12, 16, 20, 24]),
        ({"every_epochs": 2, "keep": 99}, [20]),
        ({"every_steps": 15, "every_epochs": 1, "keep": 99}, [10, 15, 20]),
        ({"every_steps": 1, "keep": 2}, [24, 25]),
        ({"every_steps": 10, "keep": 1}, [20]),
    ],
)
def test_checkpoints_come_when_they_are_due_and_only_the_newest_are_kept(tmp_path: Path, settings, expected) -> None:
    trained(saving(tmp_path, **settings), 25)
    assert kept(tmp_path) == expected


def test_checkpoints_come_by_the_clock_every_half_minute_unless_told_otherwise(tmp_path: Path, monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    callbacks = {"default": saving(tmp_path / "default"), "steps": saving(tmp_path / "steps", every_steps=1000)}
    callbacks["minutes"] = saving(tmp_path / "minutes", every_minutes=2.0)
    for step in range(1, 6):
        clock[0] += 29
        for callback in callbacks.values():
            trained(callback, step)
    assert kept(tmp_path / "default") == [2, 4]
    assert kept(tmp_path / "steps") == []
    assert kept(tmp_path / "minutes") == [5]


def test_a_restart_has_weights_optimizer_step_and_the_others_state(tmp_path: Path) -> None:
    counter, stopping = Counter(), keras.callbacks.EarlyStopping(patience=3)
    callback = saving(tmp_path, [counter, stopping], every_steps=7)
    stopping.on_train_begin()
    counter.count, stopping.wait, stopping.best = 5, 2, np.float32(0.25)
    callback.model.optimizer.variables[1].assign(tf.fill(callback.model.optimizer.variables[1].shape, 3.0))
    trained(callback, 7)
    assert counter.written == 1
    fresh, other = Counter(), keras.callbacks.EarlyStopping(patience=3)
    again = saving(tmp_path, [fresh, other], every_steps=7)
    assert again.restore() == 7 and not again.complete
    assert again.maybe_load_initial_counters_from_ckpt(0, 0, None) == (0, 7)
    assert float(again.model.get_weights()[0][0, 0]) == 7
    slots = [v.numpy() for v in again.model.optimizer.variables]
    assert all(
        np.array_equal(a, b)
        for a, b in zip(slots, [v.numpy() for v in callback.model.optimizer.variables], strict=True)
    )
    other.on_train_begin()  # Keras resets it first.
    again.restore_callbacks()
    assert (fresh.count, other.wait, other.best) == (5, 2, 0.25)


def test_a_finished_training_is_known_to_be_finished(tmp_path: Path) -> None:
    callback = saving(tmp_path)
    trained(callback, 20)
    callback.save(complete=True)
    callback.wait()
    again = saving(tmp_path)
    assert again.restore() == 20 and again.complete


def test_a_training_that_ended_is_known_although_what_followed_was_cut_off(tmp_path: Path) -> None:
    callback = saving(tmp_path, every_epochs=1)
    callback.model.stop_training = True  # By early stopping, say.
    trained(callback, 10)
    again = saving(tmp_path)
    assert again.restore() == 10 and again.ended and not again.complete


def test_the_last_step_ends_its_epoch_and_is_not_saved_in_the_middle_of_it(tmp_path: Path) -> None:
    callback = saving(tmp_path, every_steps=1)
    callback.on_epoch_begin(0)
    callback.on_train_batch_end(3)
    callback.model.stop_training = True
    callback.on_train_batch_end(4)
    callback.wait()
    assert kept(tmp_path) == [4]
    callback.on_epoch_end(0)
    callback.wait()
    assert kept(tmp_path) == [4, 5]


def test_training_goes_on_while_a_checkpoint_is_written_and_it_holds_what_was(tmp_path: Path) -> None:
    held = Held()
    callback = saving(tmp_path, [held])
    fill(callback, 3)
    callback.step = 3
    callback.save()
    fill(callback, 4)
    callback.on_train_batch_end(3)
    assert not kept(tmp_path)
    held.go.set()
    callback.wait()
    again = saving(tmp_path)
    assert again.restore() == 3 and float(again.model.get_weights()[0][0, 0]) == 3


@pytest.mark.moderate
def test_one_checkpoint_is_written_at_a_time_and_the_next_waits(tmp_path: Path) -> None:
    held = Held()
    callback = saving(tmp_path, [held], keep=1)
    callback.step = 1
    callback.save()
    threading.Timer(0.3, held.go.set).start()
    callback.step = 2
    began = time.monotonic()
    callback.save()
    assert time.monotonic() - began > 0.2
    callback.wait()
    assert kept(tmp_path) == [2] and held.begun == 2


@pytest.mark.parametrize("where", ["step", "save", "wait"])
def test_what_keeps_a_checkpoint_from_being_written_is_raised_in_the_training(tmp_path: Path, where: str) -> None:
    full = OSError(28, "No space left on device", str(tmp_path))
    held = Held(full)
    held.go.set()
    callback = saving(tmp_path, [held])
    callback.save()
    callback.close()  # Whole or failed, and it says nothing.
    then = {"step": lambda: callback.on_train_batch_end(0), "save": callback.save, "wait": callback.wait}
    with pytest.raises(OSError) as caught:
        then[where]()
    assert caught.value is full and not kept(tmp_path)
    callback.wait()  # Told once.


def test_what_a_kill_has_left_of_old_checkpoints_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "ckpt-1.data-00000-of-00001").write_bytes(b"its index was deleted first")
    trained(saving(tmp_path, every_steps=2), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt-2.data-00000-of-00001", "ckpt-2.index"]


def test_without_any_checkpoint_training_starts_at_0(tmp_path: Path) -> None:
    assert saving(tmp_path).restore() == 0
    assert saving(tmp_path / "none").restore() == 0


def test_after_a_restart_the_old_checkpoints_are_still_cleared_away(tmp_path: Path) -> None:
    trained(saving(tmp_path, every_steps=4, keep=2), 9)
    again = saving(tmp_path, every_steps=4, keep=2)
    again.restore()
    trained(again, 25)
    assert kept(tmp_path) == [20, 24]


def test_a_worker_that_is_not_the_first_leaves_nothing_in_the_run(tmp_path: Path) -> None:
    counter = Counter()
    trained(saving(tmp_path / "c", [counter], chief=False, every_steps=1), 3)
    assert counter.written == 0 and not list(tmp_path.rglob("ckpt*"))
