"""A gate is read as it is written, and holds a score to its bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfapp import gate
from tfapp.errors import GateFailed, Usage
from tfapp.evaluate import classification, regression
from tfapp.gate import Gate

names = st.sampled_from(gate.METRICS)
bounds = st.floats(allow_nan=False, allow_infinity=False)
blanks = st.text(" \t", max_size=2)


@given(names, st.sampled_from(sorted(gate.COMPARISONS)), bounds, blanks, blanks)
def test_a_gate_is_read_as_it_is_written(name: str, comparison: str, bound: float, a: str, b: str) -> None:
    assert gate.parse(f"{a}{name}{b}{comparison}{a}{bound!r}{b}") == Gate(name, comparison, bound)


@given(st.text())
def test_any_text_is_a_gate_or_refused_with_an_example(text: str) -> None:
    try:
        found = gate.parse(text)
    except Usage as error:
        assert "gates are as 'accuracy>=0.98'" in str(error) or "no score" in str(error)
    else:
        assert found.comparison in text and not math.isnan(found.bound)


@pytest.mark.parametrize(
    "text", ["", "accuracy", "accuracy>=", ">=0.9", "accuracy=0.9", "accuracy==0.9", "a>0.9>0.8", "accuracy>=90%",
             "accuracy>=nan", "accuracy>=inf", "accuracy>=1e", "top 5>=1", "accuracy=>0.9"]
)  # fmt: skip
def test_what_is_no_gate_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="cannot read the gate"):
        gate.parse(text)


def test_a_score_that_no_report_has_is_refused_before_the_training() -> None:
    with pytest.raises(Usage, match=r"no score 'acuracy' to hold to acuracy>=0.9\ndid you mean 'accuracy'\?"):
        gate.parse("acuracy>=0.9")


def test_the_scores_of_a_gate_are_those_of_the_report() -> None:
    labels = np.arange(40) % 20
    many = classification.measure(labels, np.eye(20)[labels], [str(i) for i in range(20)])
    values = regression.measure(np.arange(40.0), np.arange(40.0) + 1)
    assert set(gate.METRICS) == set(many["scores"]) | set(values["scores"])


def report(**scores: float | None) -> dict:
    return {"evaluation": {"scores": {name: {"value": value} for name, value in scores.items()}}}


@given(st.sampled_from(sorted(gate.COMPARISONS)), bounds, bounds)
def test_a_gate_passes_what_its_comparison_says(comparison: str, value: float, bound: float) -> None:
    holds = {">=": value >= bound, "<=": value <= bound, ">": value > bound, "<": value < bound}[comparison]
    checks = [Gate("accuracy", comparison, bound)]
    if holds:
        gate.check(checks, report(accuracy=value))
    else:
        with pytest.raises(GateFailed, match="accuracy is .*, the gate asks for accuracy"):
            gate.check(checks, report(accuracy=value))


def test_every_gate_is_held() -> None:
    with pytest.raises(GateFailed, match=r"log_loss is 0.5, the gate asks for log_loss<0\.1"):
        gate.check([Gate("accuracy", ">", 0.9), Gate("log_loss", "<", 0.1)], report(accuracy=0.95, log_loss=0.5))
    gate.check([], {})


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_score_that_is_not_defined_passes_no_gate(value: float | None) -> None:
    for comparison in gate.COMPARISONS:
        with pytest.raises(GateFailed):
            gate.check([Gate("roc_auc", comparison, 0)], report(roc_auc=value))


def test_a_mistyped_score_gets_the_nearest() -> None:
    with pytest.raises(Usage, match="did you mean 'accuracy'"):
        gate.check([Gate("acuracy", ">", 0)], report(accuracy=1.0))
    with pytest.raises(Usage, match="no score 'accuracy'"):
        gate.check([Gate("accuracy", ">", 0)], {})
