"""Whether all workers hold the same weights, to the bit: what synchronous training promises, and a bug would break."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import tf_keras as keras

from tfapp.errors import Failed
from tfapp.runtime import Machine


def digest(weights: list[np.ndarray]) -> list[int]:
    """SHA-256 of the weights' bytes, shapes and types, as eight numbers below 2^32."""
    hashed = hashlib.sha256()
    for weight in weights:
        hashed.update(f"{weight.shape} {weight.dtype} ".encode())
        hashed.update(np.ascontiguousarray(weight).tobytes())
    return [int(number) for number in np.frombuffer(hashed.digest(), ">u4")]


def check(model: keras.Model, machine: Machine, log: Path) -> None:
    """Compare the weights of all workers, and note this one's digest in its log; every worker must call it.

    Raises:
      Failed: some differ, with their numbers.
    """
    if machine.workers == 1:
        return
    own = digest(model.get_weights())
    with open(log, "a", encoding="utf-8") as file:
        print("weights sha256 " + "".join(f"{number:08x}" for number in own), file=file)
    table = machine.gather(*own)
    odd = [worker for worker in range(machine.workers) if (table[worker] != table[0]).any()]
    if odd:
        raise Failed(
            f"the weights of worker {', '.join(map(str, odd))} differ from the chief's after training, "
            "which synchronous training never does\n"
            "a fault of a machine's memory, or a model with state of its own on each worker; "
            "the last checkpoint holds the chief's"
        )
