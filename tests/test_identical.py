from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfapp.errors import Failed


def test_a_digest_tells_bits_shapes_and_types_apart() -> None:
    from tfapp.identical import digest

    zero, minus = np.zeros((2, 2), np.float32), np.full((2, 2), -0.0, np.float32)
    assert digest([zero]) == digest([zero.copy()])
    different = [
        digest(weights) for weights in ([zero], [minus], [zero.ravel()], [zero.astype(np.float64)], [zero] * 2)
    ]
    assert len({tuple(numbers) for numbers in different}) == 5
    assert all(0 <= number < 2**32 for numbers in different for number in numbers)


def test_a_worker_whose_weights_differ_is_named_and_each_notes_its_own(tmp_path: Path) -> None:
    import tf_keras as keras

    from tfapp.identical import check
    from tfapp.runtime import Machine

    @dataclass(frozen=True)
    class Three(Machine):
        """Worker 0 of three; the second says something else than the others."""

        def gather(self, *values: int) -> Any:
            table = np.asarray([values] * 3, np.int64)
            table[self.odd] += 1
            return table

        odd: tuple[int, ...] = ()

    model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
    check(model, Three(None, 3, 0, 3), tmp_path / "log")
    with pytest.raises(Failed, match="the weights of worker 1 differ from the chief's"):
        check(model, Three(None, 3, 0, 3, odd=(1,)), tmp_path / "log")
    first, second = (tmp_path / "log").read_text().splitlines()
    assert first == second and len(first.split()[-1]) == 64
