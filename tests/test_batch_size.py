from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfapp import batch_size, run
from tfapp.batch_size import FIRST, Measured, search
from tfapp.cli import asking
from tfapp.errors import Refused, Usage

SMALL = str(Path(__file__).parent / "fixtures" / "small.py")


class Device:
    """Steps that take base + each · batch bytes and a fixed time plus a time an example, and how many were asked."""

    def __init__(self, limit: float, fixed: float = 1.0, each: float = 0.0, time_left: int = 10**9):
        self.limit, self.fixed, self.each, self.time_left = limit, fixed, each, time_left
        self.asked: list[int] = []

    def __call__(self, batch: int) -> Measured | None:
        self.asked.append(batch)
        if len(self.asked) > self.time_left:
            raise TimeoutError
        return Measured(batch, batch, self.fixed + self.each * batch) if batch <= self.limit else None


@given(unit=st.integers(1, 96), most=st.integers(1, 10**5), limit=st.integers(0, 2 * 10**7))
def test_where_larger_is_faster_it_is_the_largest_that_fits(unit: int, most: int, limit: int) -> None:
    device = Device(limit)
    found = search(device, unit, most * unit)
    assert len(device.asked) == len(set(device.asked)) <= math.log2(most * unit) + 5
    assert all(batch % unit == 0 and batch <= most * unit for batch in device.asked)
    largest = min(limit, most * unit) // unit * unit
    if largest == 0:
        assert found.chosen is None and not found.measured
        return
    assert found.chosen is not None and found.chosen <= largest
    # To an eighth of the last doubling, which for small ones is to the unit.
    assert largest - found.chosen < max(unit, found.chosen / 8)
    if limit < most * unit:
        assert found.why == "memory"
    else:
        # All examples at once may be hardly more than the size before.
        assert found.chosen * 1.05 >= most * unit and found.why in ("examples", "rate")


@given(unit=st.integers(1, 16), fixed=st.floats(0, 1e3), limit=st.integers(16, 10**6))
def test_where_larger_is_no_faster_it_is_the_smallest_of_the_fast(unit: int, fixed: float, limit: int) -> None:
    device = Device(limit, fixed=fixed, each=1.0)
    found = search(device, unit, 2**20 * unit)
    rates = {one.batch: one.rate for one in found.measured}
    assert found.chosen == min(batch for batch, rate in rates.items() if rate * 1.05 >= max(rates.values()))
    # No doubling is tried after two that brought nothing.
    assert len([batch for batch in rates if batch > found.chosen]) <= 3


@given(unit=st.integers(1, 8), planned=st.integers(1, 4096), limit=st.integers(1, 10**4))
def test_a_planned_size_is_among_those_tried_unless_less_does_not_fit(unit: int, planned: int, limit: int) -> None:
    planned *= unit
    device = Device(limit, fixed=0.0, each=1.0)
    found = search(device, unit, max(planned, 64 * unit), planned)
    assert (found.of(planned) is not None) == (planned <= limit)
    assert all(batch % unit == 0 for batch in device.asked)


@given(time_left=st.integers(1, 12))
def test_without_time_left_the_best_so_far_is_the_answer(time_left: int) -> None:
    found = search(Device(2**30, time_left=time_left), 1, 2**30)
    assert found.why == "time" and found.chosen == FIRST * 2 ** (time_left - 1)


def test_a_device_that_holds_less_than_the_first_size_is_bisected_below_it() -> None:
    assert [search(Device(limit), 1, 1000).chosen for limit in (0, 1, 3, 15)] == [None, 1, 3, 15]
    assert search(Device(4), 3, 999).chosen == 3


def plan(*words: str):
    return asking.ask([SMALL, *words], [], None, None)[2]


def test_auto_and_numbers_from_1_are_what_the_setting_takes() -> None:
    assert plan("fit.batch_size=auto").fit.batch_size == "auto" and plan("fit.batch_size=8").fit.batch_size == 8
    for wrong in ("0", "-4", "1.5", "all"):
        with pytest.raises(Usage, match=r"fit\.batch_size"):
            plan(f"fit.batch_size={wrong}")
    with pytest.raises(Refused, match="TPU"):
        plan("fit.batch_size=auto", "runtime.strategy=tpu")


def test_a_batch_that_cannot_be_shared_out_is_refused_with_the_nearest_that_can() -> None:
    for words, replicas in ((["fit.batch_size=10"], 4), (["fit.batch_size=10", "fit.accumulate=2"], 2)):
        with pytest.raises(Refused, match=r"use fit\.batch_size=12 or 8"):
            batch_size.shareable(plan(*words), replicas)


def test_an_unsettled_size_is_never_computed_with() -> None:
    with pytest.raises(TypeError, match="auto"):
        batch_size.number(plan("fit.batch_size=auto"))


def test_the_run_of_auto_is_opened_by_auto_and_by_the_number_that_was_found(tmp_path: Path) -> None:
    auto = plan("fit.batch_size=auto")
    opened = run.begin(tmp_path / "run", auto, "digest")
    run.begin(opened.folder, auto, "digest")
    opened.write(batch_size.FILE, {"asked": "auto", "chosen": 32})
    # Killed between the two files, and after both.
    run.begin(opened.folder, auto, "digest")
    run.write_text(opened.file("plan.yaml"), batch_size.settled(auto, 32).to_yaml())
    run.begin(opened.folder, auto, "digest")
    run.begin(opened.folder, plan("fit.batch_size=32"), "digest")
    with pytest.raises(Usage, match=r"fit\.batch_size: 32 → 16"):
        run.begin(opened.folder, plan(), "digest")


def test_a_run_of_a_number_is_not_opened_by_auto(tmp_path: Path) -> None:
    run.begin(tmp_path / "run", plan(), "digest")
    with pytest.raises(Usage, match=r"fit\.batch_size: 16 → auto"):
        run.begin(tmp_path / "run", plan("fit.batch_size=auto"), "digest")


def test_what_a_size_leaves_to_the_learning_rate_is_said() -> None:
    _, module, asked, _ = asking.ask([SMALL, "fit.batch_size=auto"], [], None, None)
    assert "meant for batches of 16" in (batch_size.learning_rate(asked, module, 64) or "")
    assert batch_size.learning_rate(asked, module, 16) is None
