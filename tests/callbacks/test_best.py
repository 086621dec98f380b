"""The best epoch's weights are kept, written and given back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tf_keras as keras
from hypothesis import given
from hypothesis import strategies as st

from tfapp.callbacks.best import Best, more_is_better


def watched(
    path: Path, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0, restore_best: bool = True
) -> Best:
    best = Best(monitor, mode, min_delta, path / "best.npz", restore_best)
    best.set_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    return best


def epochs(best: Best, values: list[float]) -> None:
    """Epochs whose weights are their number."""
    for epoch, value in enumerate(values):
        best.model.set_weights([np.full(w.shape, epoch + 1.0) for w in best.model.get_weights()])
        best.on_epoch_end(epoch, {best.monitor: value})


@pytest.mark.parametrize(
    ("monitor", "mode", "more"),
    [
        ("val_loss", "auto", False), ("loss", "auto", False), ("val_accuracy", "auto", True), ("AUC", "auto", True),
        ("val_f1", "auto", True), ("val_mean_absolute_error", "auto", False), ("val_loss", "max", True),
        ("accuracy", "min", False),
    ],
)  # fmt: skip
def test_whether_more_is_better_goes_by_the_name_unless_it_is_said(monitor: str, mode: str, more: bool) -> None:
    assert more_is_better(monitor, mode) is more


@pytest.mark.moderate
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=8), st.sampled_from(["min", "max"]), st.sampled_from([0, 2]))
def test_the_best_epoch_is_the_last_improvement_by_more_than_min_delta(tmp_path_factory, values, mode, delta) -> None:
    best = watched(tmp_path_factory.getbasetemp(), mode=mode, min_delta=delta)
    epochs(best, values)
    expected = 0
    for epoch, value in enumerate(values):
        gain = value - values[expected] if mode == "max" else values[expected] - value
        expected = epoch if gain > delta else expected
    assert (best.epoch, best.value) == (expected + 1, values[expected])
    best.on_train_end()
    assert best.model.get_weights()[1][0] == expected + 1


def test_any_number_is_better_than_none() -> None:
    best = watched(Path("unused"))
    epochs(best, [np.nan, 3.0, np.nan, 2.0, np.nan])
    assert (best.epoch, best.value) == (4, 2.0)


def test_the_last_weights_stay_where_the_best_are_not_asked_for(tmp_path: Path) -> None:
    best = watched(tmp_path, restore_best=False)
    epochs(best, [1, 2])
    best.on_train_end()
    assert best.model.get_weights()[1][0] == 2


def test_the_best_weights_survive_on_disk_and_are_written_once(tmp_path: Path) -> None:
    best = watched(tmp_path)
    assert best.to_write() is None
    epochs(best, [2, 1, 3])
    write, state = best.to_write(), best.state()
    assert best.to_write() is None
    epochs(best, [0.5])  # Written is what was the best when it was asked for.
    write()
    again = watched(tmp_path)
    again.restore(state)
    again.on_train_end()
    assert again.model.get_weights()[1][0] == 2
    epochs(again, [1.5])
    assert again.epoch == 2


def test_state_from_before_the_first_epoch_needs_no_file(tmp_path: Path) -> None:
    best = watched(tmp_path)
    best.restore({"value": None, "epoch": None})
    best.on_train_end()
