"""Checkpoints that a kill or a full disk has torn."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfapp import plan
from tfapp.errors import Failed


@pytest.fixture
def trained(tmp_path: Path):
    """A folder with the checkpoints of steps 2, 4 and 6, in each of which all weights are the step."""
    model, checkpoint = made(tmp_path / "checkpoints")
    for step in (2, 4, 6):
        model.set_weights([np.full(weight.shape, step, np.float32) for weight in model.get_weights()])
        checkpoint.step = step
        checkpoint.save()
    checkpoint.wait()
    return tmp_path / "checkpoints"


def made(folder: Path, machine: Any = None, keep: int = 9):
    import tensorflow as tf
    import tf_keras as keras

    from tfapp.callbacks.checkpoint import Checkpoint
    from tfapp.runtime import Machine

    model = keras.Sequential([keras.layers.Dense(300, input_shape=(20,))])
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    machine = machine or Machine(tf.distribute.get_strategy(), 1)
    checkpoint = Checkpoint(folder, machine, plan.Checkpoint(keep=keep), 100, [])
    checkpoint.attach(model)
    return model, checkpoint


def resumed(folder: Path, machine: Any = None) -> tuple[int, float]:
    """(the step that is gone on from, the weights' value); -1 for weights that are not all the same."""
    model, checkpoint = made(folder, machine)
    step = checkpoint.restore()
    kernel = model.get_weights()[0]
    return step, float(kernel.flat[0]) if (kernel == kernel.flat[0]).all() else -1.0


def tear(path: Path, keep: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def test_the_newest_is_gone_on_from(trained: Path) -> None:
    assert resumed(trained) == (6, 6.0)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("name", ["ckpt-6.index", "ckpt-6.data-00000-of-00001"])
def test_instead_of_a_torn_one_the_one_before_is_used(trained: Path, name: str, keep: float) -> None:
    tear(trained / name, keep)
    assert resumed(trained) == (4, 4.0)


def test_a_flipped_bit_is_noticed(trained: Path) -> None:
    path = trained / "ckpt-6.data-00000-of-00001"
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)
    assert resumed(trained) == (4, 4.0)


def test_without_its_data_a_checkpoint_is_none(trained: Path) -> None:
    (trained / "ckpt-6.data-00000-of-00001").unlink()
    assert resumed(trained) == (4, 4.0)


def test_only_the_last_are_kept_and_a_torn_one_ahead_is_none_of_them(trained: Path) -> None:
    tear(trained / "ckpt-6.index")
    model, checkpoint = made(trained, keep=2)
    checkpoint.step = checkpoint.restore() + 1
    checkpoint.save()
    checkpoint.wait()
    assert sorted(path.name for path in trained.glob("*.index")) == ["ckpt-4.index", "ckpt-5.index", "ckpt-6.index"]
    assert not list(trained.glob("ckpt-2.*")) and resumed(trained)[0] == 5


def test_when_all_are_torn_the_training_begins_anew_and_nothing_of_them_is_in_the_model(trained: Path) -> None:
    for path in trained.glob("ckpt-*.data*"):
        tear(path, 0.9)
    step, value = resumed(trained)
    assert (step, value) == (0, -1.0)


def reading_as(sees: dict[int, bool]) -> Any:
    """The chief of two workers; the other can read of each step's checkpoint what `sees` says."""
    import tensorflow as tf

    from tfapp.runtime import Machine

    @dataclass(frozen=True)
    class Two(Machine):
        offered: list[int] = field(default_factory=list)

        def gather(self, *values: int) -> Any:
            if isinstance(values[0], bool):
                return np.asarray([[values[0]], [sees[self.offered[-1] - 1]]], np.int64)
            self.offered.append(values[0])
            return np.asarray([values, [0]], np.int64)

    return Two(tf.distribute.get_strategy(), 1, 0, 2)


def test_all_workers_go_on_from_the_newest_that_all_can_read(trained: Path) -> None:
    assert resumed(trained, reading_as({6: False, 4: True, 2: True})) == (4, 4.0)


def test_a_worker_that_sees_no_checkpoint_is_named(trained: Path) -> None:
    with pytest.raises(Failed, match="worker 1 cannot read the chief's checkpoints"):
        resumed(trained, reading_as({6: False, 4: False, 2: False}))


def test_a_folder_without_checkpoints_is_a_new_training(tmp_path: Path, trained: Path) -> None:
    shutil.rmtree(trained)
    assert resumed(trained)[0] == 0
