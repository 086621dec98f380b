"""Targets are read as people write them, and held to what was measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfapp.compress.targets import COSTS, Target, missed, parse
from tfapp.errors import Usage

PARENT = {"size": 1_000_000.0, "gzip": 900_000.0, "latency": 2.0, "accuracy": 0.96, "log_loss": 0.1}


def test_bounds_with_units_are_in_bytes_and_milliseconds() -> None:
    size, gzip, latency = parse("size<=200kB, gzip<=0.5MiB,latency<250us")
    assert (size.bound, gzip.bound, latency.bound) == (200_000, 2**19, 0.25)
    assert str(size) == "size<=200kB" and size.against == "value"


@pytest.mark.parametrize(
    ("text", "measured", "held"),
    [
        ("accuracy>=-0.01", 0.95, True),
        ("accuracy>=-0.01", 0.949, False),
        ("accuracy>=0.95", 0.949, False),
        ("accuracy>=+0.01", 0.965, False),
        ("log_loss<=+0.02", 0.12, True),
        ("log_loss<=2x", 0.19, True),
        ("gzip<=0.1x", 90_000, True),
        ("gzip<=0.1x", 90_001, False),
        ("latency<=0.5x", 1.1, False),
    ],
)
def test_a_signed_bound_is_a_change_and_x_is_times_the_parent_s(text: str, measured: float, held: bool) -> None:
    (target,) = parse(text)
    assert target.held({**PARENT, target.metric: measured}, PARENT) is held


def test_those_that_are_missed_are_named_and_a_score_the_task_lacks_is_refused() -> None:
    targets = parse("size<=1.5MB,accuracy>=0.99")
    assert [str(target) for target in missed(targets, PARENT, PARENT)] == ["accuracy>=0.99"]
    with pytest.raises(Usage, match=r"no rmse to aim at \(rmse<=1\)\n"):
        missed(parse("rmse<=1"), PARENT, PARENT)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("size", "cannot read the target 'size'"),
        ("sise<=3kB", "no 'sise' to aim at.*\n.*size"),
        ("size<=3parsecs", "'parsecs' in .* is no unit of size\nuse B, kB"),
        ("accuracy>=90kB", "no unit of accuracy\nuse a plain number, or x"),
        ("size>=3kB", "asks for more size, not less\nwrite size<=3kB"),
        ("size<=0kB", "no model has so little size"),
        ("size<=3kB,size<=4kB", "two bounds of one kind"),
        ("accuracy>=98", "no model has so much accuracy\nit is at most 1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_write(text: str, told: str) -> None:
    with pytest.raises(Usage, match=told):
        parse(text)


@given(st.text(alphabet="accurysize<>=.,0123456789kMBx+- ", max_size=30))
def test_any_text_is_targets_or_a_usage_error(text: str) -> None:
    try:
        assert all(isinstance(target, Target) for target in parse(text))
    except Usage:
        pass


@given(st.sampled_from(sorted(COSTS)), st.floats(1e-6, 1e6))
def test_a_size_meets_the_bound_that_it_is(metric: str, bound: float) -> None:
    (target,) = parse(f"{metric}<={bound!r}")
    assert target.held({metric: bound}, PARENT) and not target.held({metric: bound * 1.01 + 1}, PARENT)
