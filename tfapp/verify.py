"""Whether a run that was killed and went on is the same, to the bit, as one that never stopped."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfapp.callbacks.checkpoint import STATE, numbers
from tfapp.errors import Failed

# How long things took is no result.
CLOCKS = {"seconds", "spent"}


def last_step(run: Path) -> int:
    """The step of a run's last checkpoint."""
    return numbers(run / "checkpoints")[0]


def differences(one: Path, other: Path) -> list[str]:
    """What is not the same in two finished runs: weights, optimizer slots, other state, metrics, predictions.

    Args:
      one, other: run directories. Raises Failed: one of them has no readable last checkpoint.
    """
    import tensorflow as tf

    readers = []
    for run in (one, other):
        path = run / "checkpoints" / f"ckpt-{last_step(run)}"
        try:
            readers.append(tf.train.load_checkpoint(str(path)))
        except (tf.errors.OpError, ValueError, RuntimeError) as error:
            raise Failed(f"cannot read {path}: {error}") from None
    return [
        *_tensors(*readers),
        *_unequal(
            "the callbacks' state", *(_without_clocks(json.loads(reader.get_tensor(STATE))) for reader in readers)
        ),
        *_unequal("metrics.csv", *(_table(run / "metrics.csv") for run in (one, other))),
        *_arrays("predictions.npz", one, other),
        *_arrays("checkpoints/best.npz", one, other),
    ]


def compared(run: Path) -> tuple[int, int]:
    """(tensors, of them optimizer slots) that the comparison covers."""
    import tensorflow as tf

    names = list(_names(tf.train.load_checkpoint(str(run / "checkpoints" / f"ckpt-{last_step(run)}"))))
    return len(names), sum(name.startswith("optimizer/") for name in names)


def _names(reader: Any) -> Iterator[str]:
    for name in sorted(reader.get_variable_to_shape_map()):
        # How many checkpoints were written, and which object a value belongs to, are no results.
        if name not in (STATE, "_CHECKPOINTABLE_OBJECT_GRAPH") and not name.startswith("save_counter"):
            yield name


def _tensors(one: Any, other: Any) -> Iterator[str]:
    names = set(_names(one)) | set(_names(other))
    for name in sorted(names):
        if not (one.has_tensor(name) and other.has_tensor(name)):
            yield f"{name} is in one of the checkpoints only"
        elif not _same(one.get_tensor(name), other.get_tensor(name)):
            yield f"{name.removesuffix('/.ATTRIBUTES/VARIABLE_VALUE')} differs"


def _same(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    # By their bytes: a NaN equals itself, and -0.0 is not 0.0.
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _unequal(what: str, one: Any, other: Any) -> Iterator[str]:
    if one != other:
        yield f"{what} differs"


def _arrays(name: str, one: Path, other: Path) -> Iterator[str]:
    if not (one / name).exists() and not (other / name).exists():
        return
    with np.load(one / name) as a, np.load(other / name) as b:
        for key in sorted(set(a.files) | set(b.files)):
            if key not in a.files or key not in b.files or not _same(a[key], b[key]):
                yield f"{key} of {name} differs"


def _table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [_without_clocks(row) for row in csv.DictReader(file)]


def _without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_clocks(item) for key, item in value.items() if key not in CLOCKS}
    return [_without_clocks(item) for item in value] if isinstance(value, list) else value
