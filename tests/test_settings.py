"""Groups of settings are typed, frozen and strict, in recipes as in the plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from tfapp.settings import Settings, Split


class Group(Settings):
    rate: float = Field(0.5, gt=0)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Group(rte=0.1)  # type: ignore[call-arg]


def test_a_group_cannot_be_changed_only_replaced() -> None:
    group = Group()
    with pytest.raises(ValidationError, match="frozen"):
        group.rate = 1.0
    assert group.model_copy(update={"rate": 1.0}).rate == 1.0 and hash(group) == hash(Group())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_setting_is_infinite_or_no_number(value: float) -> None:
    with pytest.raises(ValidationError):
        Group(rate=value)


def test_a_recipe_s_wrong_default_is_found_at_once() -> None:
    class Wrong(Settings):
        rate: float = Field(-1, gt=0)

    with pytest.raises(ValidationError):
        Wrong()


@given(st.floats(0, 0.99), st.floats(0, 0.99))
def test_a_split_leaves_something_to_train_on_or_is_refused(validation: float, test: float) -> None:
    if validation + test < 1:
        assert Split(validation=validation, test=test).seed == 0
    else:
        with pytest.raises(ValidationError, match="leave nothing to train on"):
            Split(validation=validation, test=test)
