import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfapp.report import words


@pytest.mark.parametrize(
    "value, text",
    [(0.978, "97.8 %"), (1.0, "100 %"), (0.99996, "99.9+ %"), (0, "0.0 %"), (None, "–"), (float("nan"), "–")],
)
def test_only_the_flawless_is_a_hundred_percent(value, text):
    assert words.percent(value) == text


@pytest.mark.parametrize(
    "value, text",
    [
        (0.97812, "0.978"), (0.99987, "0.9999"), (0.999999, "0.9999"), (1.0, "1.000"), (61322, "61,322"), (-3.5, "−3.500"),
        (0.00002, "2e−05"), (1234567.0, "1,234,567"), (0, "0"), (0.0, "0"), (None, "–"), ("x", "x"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_numbers_are_short_and_never_flattering(value, text):
    assert words.number(value) == text


@given(st.floats() | st.integers() | st.none() | st.text() | st.booleans())
def test_any_value_can_be_put_into_words(value):
    forms = (words.number, words.percent, words.size, words.milliseconds, words.duration, words.share, words.cell)
    assert all(isinstance(form(value), str) for form in (*forms, words.count, words.moment))


@pytest.mark.parametrize("value, text", [(12, "12 B"), (1234, "1.23 kB"), (999_600, "1,000 kB"), (97_000_000, "97 MB")])
def test_bytes_are_in_decimal_units(value, text):
    assert words.size(value) == text


@pytest.mark.parametrize("value, text", [(0.4, "0.4 s"), (59.6, "1 min 00 s"), (3725, "1 h 02 min")])
def test_durations_read_as_a_person_says_them(value, text):
    assert words.duration(value) == text


def test_an_interval_of_negative_numbers_is_not_read_as_a_dash():
    assert words.span({"value": -1.5, "low": -2.0, "high": -1.0}) == "95 % interval −2.000 to −1.000"


def test_the_headline_of_a_regression_names_its_error():
    scores = {"mae": {"value": 43.2, "low": 37.2, "high": 49.9}}
    headline = words.headline({"evaluation": {"n": 1, "scores": scores}})
    assert str(headline) == "43.20 off on average, over 1 unseen example (95 % interval 37.20–49.90)"


def test_there_is_no_headline_before_the_evaluation():
    assert words.headline({}) is None
