"""A snapshot stays what it was while the training goes on, and is written whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp.snapshot import Taker


def model(kind: str) -> keras.Model:
    first = {
        "dense": [keras.layers.Dense(8, input_shape=(4,)), keras.layers.BatchNormalization()],
        "embedding": [keras.layers.Embedding(50, 8, input_length=4), keras.layers.Flatten()],
    }[kind]
    made = keras.Sequential([*first, keras.layers.Dense(1)])
    made.compile(keras.optimizers.Adam(1e-2), "mse")
    made.optimizer.build(made.trainable_variables)
    return made


def objects(made: keras.Model) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(model=made, optimizer=made.optimizer)


def trained(made: keras.Model, **how: Any) -> None:
    rows = np.random.default_rng(0).uniform(0, 50, (32, 4)).astype(np.int32)
    made.fit(rows.astype(np.float32), np.ones((32, 1)), batch_size=8, epochs=2, verbose=0, **how)


def copied(tensors: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {name: np.array(value.numpy()) for name, value in tensors.items() if value.dtype != tf.string}


@pytest.mark.moderate
@pytest.mark.parametrize("kind", ["dense", "embedding"])
@pytest.mark.parametrize("how", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=["graph", "XLA", "eager"])
def test_no_later_step_changes_a_snapshot(kind: str, how: dict[str, Any]) -> None:
    made = model(kind)
    made.compile(made.optimizer, "mse", **how)
    trained(made)  # An embedding's first sparse update changes how its variable is read.
    taker = Taker(objects(made))
    snapshot = taker.take()
    before = copied(snapshot.tensors)
    trained(made)
    made.set_weights([weight * 0 for weight in made.get_weights()])
    after, now = copied(snapshot.tensors), copied(taker.take().tensors)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    moved = [name for name in before if not np.array_equal(before[name], now[name])]
    assert len(moved) > len(before) / 2


def test_what_is_written_is_what_tensorflow_restores(tmp_path: Path) -> None:
    made, other = model("dense"), model("dense")
    Taker(objects(made)).take().write(tmp_path / "ckpt-3")
    objects(other).read(str(tmp_path / "ckpt-3")).assert_consumed()
    assert all(np.array_equal(a, b) for a, b in zip(made.get_weights(), other.get_weights(), strict=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt-3.data-00000-of-00001", "ckpt-3.index"]


def test_a_text_is_saved_in_the_place_of_plain_values(tmp_path: Path) -> None:
    class Plain(tf.train.experimental.PythonState):
        text = ""

        def serialize(self) -> str:
            return self.text

        def deserialize(self, text: Any) -> None:
            self.text = text.decode() if isinstance(text, bytes) else text

    Taker(tf.train.Checkpoint(state=Plain())).take(state="seven").write(tmp_path / "ckpt-1")
    other = Plain()
    tf.train.Checkpoint(state=other).restore(str(tmp_path / "ckpt-1"))
    assert other.text == "seven"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk to fill")
def test_on_a_full_disk_nothing_is_left_and_the_error_says_so(tmp_path: Path) -> None:
    from tfapp import errors

    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        big = tf.train.Checkpoint(v=tf.Variable(tf.random.normal([100_000])))
        with pytest.raises((tf.errors.OpError, OSError)) as caught:
            Taker(big).take().write(disk / "ckpt-1")
        assert str(errors.of_system(caught.value)).startswith(f"the disk is full: {disk}")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


# Writes one checkpoint after another under the same name, and says when it begins each.
WRITER = """
import sys
from pathlib import Path
import tensorflow as tf
from tfapp.snapshot import Taker
numbers = tf.Variable(tf.zeros([1_000_000]))
taker = Taker(tf.train.Checkpoint(v=numbers))
while True:
    numbers.assign_add(tf.ones_like(numbers))
    taker.take().write(Path(sys.argv[1]) / "ckpt-1")
    print(int(numbers[0]), flush=True)
"""


@pytest.mark.slow
@pytest.mark.e2e
def test_a_kill_while_it_writes_leaves_a_whole_checkpoint_or_none(tmp_path: Path) -> None:
    pauses = np.random.default_rng(1).uniform(0, 0.05, 12)
    for number, pause in enumerate(pauses):
        folder = tmp_path / str(number)
        folder.mkdir()
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            whole = int(writer.stdout.readline())
            time.sleep(pause)
            writer.send_signal(signal.SIGKILL)
            whole = int([str(whole), *writer.stdout.read().split()][-1])
        if (folder / "ckpt-1.index").exists():
            held = tf.train.load_checkpoint(str(folder / "ckpt-1")).get_tensor("v/.ATTRIBUTES/VARIABLE_VALUE")
            assert (held == held[0]).all() and held[0] in (whole, whole + 1)
