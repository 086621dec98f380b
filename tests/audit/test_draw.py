"""Lots: who is audited, who is in which shadow, which rows are canaries."""

from __future__ import annotations

import numpy as np
import pytest

from tfapp import tasks
from tfapp.audit import draw
from tfapp.data.examples import Data, Examples
from tfapp.errors import Refused


def data(train: int = 40, test: int = 10) -> Data:
    def part(start: int, n: int) -> Examples:
        rows = np.arange(start, start + n)
        return Examples({"x": rows.astype(np.float32), "word": np.array([f"w{i}" for i in rows], object)}, rows % 3)

    return Data(part(0, train), part(1000, 4), part(2000, test), "classification", "table", ("a", "b", "c"))


def rows(part: Examples) -> set[int]:
    return {int(x) for x in part.features["x"]}  # type: ignore[call-overload]


def test_each_audited_row_is_in_half_of_the_shadows_and_each_shadow_is_as_large_as_the_run() -> None:
    whole = data()
    pool = draw.pool(whole, 0)
    assert len(pool.members) == len(pool.others) == 10
    shadows = [draw.shadowed(whole, number, 0) for number in range(6)]
    audited = draw.examples(whole, pool)
    for number, shadow in enumerate(shadows):
        inside = draw.inside(20, number, 0)
        assert len(shadow.train) == 40 and len(shadow.test) == 10
        assert rows(shadow.train) & rows(audited) == rows(audited.take(np.flatnonzero(inside)))
        assert rows(shadow.test) == rows(audited.take(np.flatnonzero(~inside)))
        assert rows(whole.train) - rows(audited) <= rows(shadow.train)
    assert (sum(draw.inside(20, number, 0).astype(int) for number in range(6)) == 3).all()
    assert (draw.inside(20, 0, 0) != draw.inside(20, 2, 0)).any()


def test_canaries_are_wrong_and_weigh_by_their_coins_and_all_else_stays() -> None:
    whole = data(2000)
    drawn, made = draw.canaries(whole, 1000, 3), draw.with_canaries(whole, 1000, 3)
    assert abs(drawn.included.mean() - 0.5) < 0.06
    assert (made.train.labels[drawn.rows] != whole.train.labels[drawn.rows]).all()
    assert made.train.weights is not None
    assert (made.train.weights[drawn.rows] == drawn.included).all()
    others = np.setdiff1d(np.arange(2000), drawn.rows)
    assert (made.train.weights[others] == 1).all() and (made.train.labels[others] == whole.train.labels[others]).all()
    assert len(made.train) == len(whole.train) and (draw.canaries(whole, 1000, 4).rows != drawn.rows).any()


def test_more_canaries_than_rows_and_no_test_part_are_refused() -> None:
    with pytest.raises(Refused, match="50 canaries are more than the 40 training rows"):
        draw.canaries(data(), 50, 0)
    with pytest.raises(Refused, match="no test part"):
        draw.pool(data(test=0), 0)


def test_canaries_of_every_task_are_false_and_of_its_kind() -> None:
    random = np.random.default_rng(0)
    values = Examples(np.zeros((9, 2), np.float32), np.arange(9, dtype=np.float32))
    made = tasks.of("regression").falsified(values, np.array([1, 2]), 1, random)
    assert set(made.labels) <= set(values.labels) and made.labels.dtype == np.float32
    windows = Examples(np.zeros((4, 6), np.int32), np.zeros((4, 6), np.int32))
    made = tasks.of("language").falsified(windows, np.array([2]), 50, random)
    assert (made.features[2, 1:] == made.labels[2, :-1]).all() and made.labels[2].any()  # type: ignore[index]
    assert not made.labels[[0, 1, 3]].any() and made.labels.max() < 50
