from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfapp.errors import Usage
from tfapp.tune.objective import Objective, check, pareto, parse

NUMBERS = ["loss", "accuracy", "val_loss", "val_accuracy"]


def test_a_name_says_whether_more_is_better_and_a_sign_overrides_it() -> None:
    assert parse("accuracy") == (Objective("val_accuracy", True),)
    assert parse("val_loss") == (Objective("val_loss", False),)
    assert parse("accuracy,-latency_ms,+size_kb") == (
        Objective("val_accuracy", True),
        Objective("latency_ms", False),
        Objective("size_kb", True),
    )


@pytest.mark.parametrize("text", ["", "accuracy,", "--loss", "accuracy,val_accuracy"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="objective"):
        parse(text)


def test_an_objective_that_the_run_does_not_produce_is_refused_with_the_nearest() -> None:
    check(parse("accuracy,-size_kb"), NUMBERS)
    with pytest.raises(Usage, match="'acuracy' is none of this run's numbers\ndid you mean 'accuracy'"):
        check(parse("acuracy"), NUMBERS)
    with pytest.raises(Usage, match="no validation part"):
        check(parse("accuracy"), NUMBERS[:2])


POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@given(POINTS)
def test_no_trial_beats_one_of_the_front_and_some_of_it_beats_every_other(points) -> None:
    objectives = (Objective("val_accuracy", True), Objective("size_kb", False))
    scores = {str(number): [float(a), float(b)] for number, (a, b) in enumerate(points)}
    front = pareto(objectives, scores)
    assert front

    def beats(x, y) -> bool:
        return x[0] >= y[0] and x[1] <= y[1] and x != y

    for name, own in scores.items():
        assert (name in front) == (not any(beats(other, own) for other in scores.values()))
