from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfapp.errors import Refused, Usage
from tfapp.tune import space
from tfapp.tune.space import Param, parse

KEYS = st.from_regex(r"[a-z][a-z_]{0,8}(\.[a-z_]{1,8})?", fullmatch=True)
FLOATS = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-6)


@st.composite
def ranges(draw) -> Param:
    """Any range that words can say."""
    key = draw(KEYS)
    kind = draw(st.sampled_from(["int", "float", "log", "choice"]))
    if kind == "choice":
        values = draw(
            st.one_of(
                st.lists(st.integers(-100, 100), min_size=2, max_size=4, unique=True),
                st.lists(st.from_regex(r"[a-z]{2,6}", fullmatch=True), min_size=2, max_size=4, unique=True),
            )
        )
        return Param(key, "choice", choices=tuple(values))
    if kind == "int":
        low, width = draw(st.integers(1, 1000)), draw(st.integers(1, 1000))
        log = draw(st.booleans())
        return Param(key, "int", low, low + width, None if log else float(draw(st.integers(1, width))), log)
    low, high = sorted([draw(FLOATS), draw(FLOATS)])
    if kind == "log":
        low, high = abs(low) + 1e-3, abs(low) + abs(high) + 1
        return Param(key, "float", low, high, log=True)
    return Param(key, "float", low, high if high > low else low + 1)


@given(ranges())
def test_a_range_reads_back_from_its_word(param: Param) -> None:
    assert parse([param.word]) == ((param,), [])


@given(ranges())
def test_the_ends_are_of_the_range_and_keras_tuner_draws_between_them(param: Param) -> None:
    hp = space.to_keras_tuner([param]).space[0]
    for share in (0.0, 0.3, 0.999999):
        value = hp.prob_to_value(share)
        assert value in param.ends if param.kind == "choice" else min(param.ends) <= value <= max(param.ends) + 1e-9


@given(st.text(max_size=30))
def test_any_word_is_a_range_an_ordinary_word_or_a_usage_error(text: str) -> None:
    try:
        params, rest = parse([f"key={text}"])
    except Usage as error:
        assert 1 <= len(str(error).strip().splitlines()) <= 3 + text.count("\n") * 3 + text.count("\r") * 3 + 8
    else:
        assert len(params) + len(rest) == 1


def test_ordinary_words_pass_through_in_their_order() -> None:
    words = ["fit.epochs=3", r"data=C:\data\x.csv", "fit.schedule=cosine", "note=time:12"]
    assert parse([*words, "units=int:1..3"]) == ((Param("units", "int", 1, 3, 1.0),), words)


def test_choices_are_numbers_where_all_are_and_brackets_hold_lists_together() -> None:
    (sizes, rates, hidden), _ = parse(
        ["fit.batch_size=choice:32,64", "dropout=choice:0,0.5", "hidden=choice:[256,128],[512]"]
    )
    assert sizes.choices == (32, 64) and rates.choices == (0.0, 0.5) and hidden.choices == ("[256,128]", "[512]")


def test_a_setting_can_hang_on_a_choice_before_it() -> None:
    (_, filters), _ = parse(["model=choice:cnn,pooled", "filters=int:32..128:32@model=cnn"])
    assert filters.where == ("model", ("cnn",))
    hp = space.to_keras_tuner(parse(["model=choice:pooled,cnn", "filters=int:32..128:32@model=cnn"])[0])
    assert "filters" not in hp.values


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("a=int:5..3", "is empty: 5 is more than 3"),
        ("a=float:1..1", "holds one value only"),
        ("a=log:0..1", "begins above 0"),
        ("a=log:1e-4..1e-2:3", "has no step"),
        ("a=choice:", "is empty"),
        ("a=choice:1,1.0", "names 1.0 twice"),
        ("a=uniform:1..2", "no kind 'uniform'"),
        ("a=in:1..2", "did you mean 'int'"),
        ("a=int:1..5:0.5", "STEP of an int range is 0.5"),
        ("a=int:1..5:9", "the step 9 is not between"),
        ("a=float:1-2", "cannot read the range"),
        ("a=float:1..1e999", "too large"),
        ("b=int:1..2@c=3", "no choice before it"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_with_the_way_out(word: str, told: str) -> None:
    with pytest.raises(Usage, match=told):
        parse([word])


def test_a_setting_is_searched_once() -> None:
    with pytest.raises(Usage, match="a is searched twice"):
        parse(["a=int:1..3", "a=choice:1,2"])


def test_a_condition_names_a_value_that_the_choice_has() -> None:
    with pytest.raises(Usage, match="m is never cn\ndid you mean 'cnn'"):
        parse(["m=choice:cnn,pooled", "f=int:1..2@m=cn"])


def test_what_belongs_to_the_process_is_not_searched() -> None:
    with pytest.raises(Refused, match="runtime.threads belongs to the process"):
        space.check(parse(["runtime.threads=choice:1,2"])[0], lambda values: None)  # type: ignore[arg-type,return-value]


def test_a_setting_with_a_range_and_a_value_is_a_contradiction() -> None:
    for words in (["dropout=float:0..0.5", "dropout=0.3"], ["config.dropout=0.3", "dropout=float:0..0.5"]):
        with pytest.raises(Usage, match="dropout has a range and a value"):
            space.parse(words)
    with pytest.raises(Usage, match="dropout is searched twice"):
        space.parse(["dropout=float:0..0.5", "config.dropout=choice:0.1,0.2"])


def test_a_choice_of_one_is_an_ordinary_word_unless_it_has_a_condition() -> None:
    with pytest.raises(Usage, match="one value only\\ngive it as an ordinary word: units=64"):
        space.parse(["units=choice:64"])
    assert len(space.parse(["model=choice:cnn,pooled", "filters=choice:64@model=cnn"])[0]) == 2
