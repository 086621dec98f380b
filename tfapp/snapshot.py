"""All state of a training as it is at one moment: taken in the time of a step or less, written while the training goes on."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf


@dataclass(frozen=True)
class Snapshot:
    """Values by their names in a checkpoint and which part of the named tensor each is, in the memory of this host.

    The part is as TensorFlow writes it («4 6 0,4:3,3»), empty where it is all of it.

    On a CPU they share the variables' memory until the next step changes a variable; TensorFlow gives that one new
    memory then, so what is held here stays as it was.
    """

    tensors: dict[tuple[str, str], tf.Tensor]

    def write(self, path: Path) -> None:
        """Write a checkpoint that `tf.train.Checkpoint.restore(path)` reads: whole or not at all, in any thread.

        Raises:
          tf.errors.OpError, OSError: from the disk; nothing is left there then.
        """
        aside = path.with_name(f".{path.name}.part")
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir(parents=True)
            with tf.device("CPU:0"):
                tf.raw_ops.SaveV2(
                    prefix=str(aside / path.name),
                    tensor_names=[name for name, _ in self.tensors],
                    shape_and_slices=[part for _, part in self.tensors],
                    tensors=list(self.tensors.values()),
                )
            # A checkpoint that is written again is none until it is whole again. Its index, which makes it one, comes last.
            index = path.with_name(f"{path.name}.index")
            index.unlink(missing_ok=True)
            for part in sorted(aside.iterdir(), key=lambda part: part.suffix == ".index"):
                _flush(part)
                os.replace(part, path.with_name(part.name))
            _flush(path.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


class Taker:
    """Knows what is saved, under which names.

    Args:
      objects: what is saved. All its variables must be there by now.
    """

    def __init__(self, objects: tf.train.Checkpoint):
        # There is no public way from objects to names and values that does not write them at once.
        held, _, _, _ = objects._saver._gather_serialized_tensors()
        self._values: dict[tuple[str, str], Any] = {
            (name, part): value
            for named in held.values()
            for name, values in named.items()
            for part, value in (values if isinstance(values, dict) else {"": values}).items()
        }

    def take(self, **texts: str) -> Snapshot:
        """A snapshot of now. Every worker must take it: what is kept by each replica is summed for it.

        Args:
          texts: what to save in the place of plain Python values, by the names of their objects.
        """
        given = {f"{name}/.ATTRIBUTES/py_state": text for name, text in texts.items()}
        tensors: dict[tuple[str, str], tf.Tensor] = {}
        for (name, part), value in self._values.items():
            value = given.get(name, value)
            value = value.tensor if hasattr(value, "slice_spec") else value
            if value is not None:  # A variable without a value yet.
                with tf.device("CPU:0"):
                    tensors[name, part] = tf.identity(value)
        return Snapshot(tensors)


def _flush(path: Path) -> None:
    """Have a file, or a folder's list of files, on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
