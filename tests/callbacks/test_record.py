"""The numbers of each epoch end in a table and in TensorBoard's events, also over a restart."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tf_keras as keras
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfapp.callbacks import record as module
from tfapp.callbacks.record import Record


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    seconds = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: seconds[0])
    return seconds


def recording(folder: Path | None) -> Record:
    record = Record(folder)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.25), "mse")
    record.set_model(model)
    return record


def epoch(record: Record, number: int, clock: list[float], seconds: float = 2.0, **numbers: Any) -> None:
    record.on_epoch_begin(number)
    clock[0] += seconds
    record.on_epoch_end(number, numbers)


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_each_epoch_is_a_row_with_the_rate_and_the_seconds(tmp_path: Path, clock) -> None:
    record = recording(tmp_path)
    epoch(record, 0, clock, loss=tf.constant(0.5), val_loss=0.75)
    epoch(record, 1, clock, 3.5, loss=0.25, val_loss=0.5)
    assert record.rows[0] == {"epoch": 1, "loss": 0.5, "val_loss": 0.75, "learning_rate": 0.25, "seconds": 2.0}
    assert [row["seconds"] for row in table(tmp_path)] == ["2.0", "3.5"]


def test_tensorboard_reads_training_and_validation_as_two_lines_of_one_picture(tmp_path: Path, clock) -> None:
    record = recording(tmp_path)
    epoch(record, 0, clock, loss=0.5, val_loss=0.75)
    epoch(record, 1, clock, loss=0.25, val_loss=0.5)
    record.on_train_end()
    for part, expected in (("train", [0.5, 0.25]), ("validation", [0.75, 0.5])):
        events = EventAccumulator(str(tmp_path / "tensorboard" / part))
        events.Reload()
        found = [tf.make_ndarray(event.tensor_proto).item() for event in events.Tensors("epoch/loss")]
        assert found == expected and [event.step for event in events.Tensors("epoch/loss")] == [1, 2]


def test_a_column_that_comes_later_gets_its_place(tmp_path: Path, clock) -> None:
    record = recording(tmp_path)
    epoch(record, 0, clock, loss=0.5)
    epoch(record, 1, clock, loss=0.25, extra=1.0)
    assert [row["extra"] for row in table(tmp_path)] == ["", "1.0"]


def test_a_restart_inside_an_epoch_keeps_the_rows_and_the_seconds_spent(tmp_path: Path, clock) -> None:
    record = recording(tmp_path)
    epoch(record, 0, clock, loss=0.5)
    record.on_epoch_begin(1)
    clock[0] += 10
    again = recording(tmp_path)
    again.restore(record.state())
    clock[0] += 1000  # Between the two nothing is trained.
    epoch(again, 1, clock, 5, loss=0.25)
    assert [row["seconds"] for row in again.rows] == [2.0, 15.0]
    assert len(table(tmp_path)) == 2


def test_a_restart_between_epochs_has_spent_nothing(clock) -> None:
    record = recording(None)
    epoch(record, 0, clock, loss=0.5)
    again = recording(None)
    again.restore(record.state())
    epoch(again, 1, clock, 5, loss=0.25)
    assert [row["seconds"] for row in again.rows] == [2.0, 5.0]


def test_a_worker_that_writes_nothing_still_knows_its_rows(tmp_path: Path, clock, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = recording(None)
    epoch(record, 0, clock, loss=0.5)
    assert len(record.rows) == 1 and list(tmp_path.iterdir()) == []
