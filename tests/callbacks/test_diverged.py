"""A loss that is no number stops the training at once and is traced to its examples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tfapp.callbacks.diverged import Diverged
from tfapp.data.examples import Examples
from tfapp.data.pipeline import Batches
from tfapp.errors import Failed


def watching(folder: Path, bad: tuple[int, ...] = (), exact: bool = True) -> Diverged:
    values = np.ones((10, 2), np.float32)
    values[list(bad), 1] = np.inf
    names = np.array([f"row {i}" for i in range(10)], object)
    examples = Examples({"x": values, "text": np.array(["a"] * 10, object)}, np.arange(10) % 2, names)
    return Diverged(Batches(examples, 4), folder / "diverged.json", folder / "checkpoints", exact)


def ran(callback: Diverged, epoch: int, first: int, last: int, loss: float) -> None:
    callback.on_epoch_begin(epoch)
    callback.on_train_batch_begin(first)
    callback.on_train_batch_end(last, {"loss": loss})


def test_a_finite_loss_passes(tmp_path: Path) -> None:
    ran(watching(tmp_path, bad=(1,)), 0, 0, 2, 1e30)
    assert not (tmp_path / "diverged.json").exists()


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_the_examples_of_the_step_are_listed_and_the_broken_ones_named(tmp_path: Path, loss: float) -> None:
    with pytest.raises(Failed) as caught:
        ran(watching(tmp_path, bad=(5, 9)), 2, 1, 1, loss)
    assert f"the loss became {loss} in epoch 3, step 8 " in str(caught.value)
    assert "1 of their examples hold NaN or infinity, the first is row 5" in str(caught.value)
    found = json.loads((tmp_path / "diverged.json").read_text())
    assert found == {
        "loss": str(loss), "epoch": 3, "steps": [8, 8], "examples": [f"row {i}" for i in (4, 5, 6, 7)],
        "examples_with_nan_or_inf": ["row 5"],
    }  # fmt: skip


def test_several_steps_between_two_returns_are_all_listed(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="steps 1–3 (.|\n)*try a lower learning rate, fit.clip_norm=1"):
        ran(watching(tmp_path), 0, 0, 2, np.nan)
    assert len(json.loads((tmp_path / "diverged.json").read_text())["examples"]) == 10


def test_a_broken_target_is_found_too(tmp_path: Path) -> None:
    examples = Examples(np.ones((2, 1), np.float32), np.array([1, np.nan], np.float32))
    with pytest.raises(Failed, match="1 of their examples hold NaN or infinity, the first is 1"):
        ran(Diverged(Batches(examples, 2), tmp_path / "d.json", tmp_path), 0, 0, 0, np.nan)


def test_where_the_step_is_not_known_all_of_the_epoch_s_examples_are_looked_at(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="epoch 3, steps 7–9 (.|\n)*the first is row 9"):
        ran(watching(tmp_path, bad=(9,), exact=False), 2, 0, 0, np.nan)
