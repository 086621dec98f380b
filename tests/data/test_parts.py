"""The user's own split is kept as it is, whatever words it is told in."""

from __future__ import annotations

import numpy as np
import pytest

from tfapp.data import parts
from tfapp.data.examples import Examples
from tfapp.errors import Missing, Usage
from tfapp.settings import Split

NAMES = np.array([f"row {i}" for i in range(20)], object)
EXAMPLES = Examples(np.arange(20, dtype=np.float32)[:, None], np.arange(20) % 2, NAMES)


def shared(words: list[str], **split: float):
    return parts.share_out(EXAMPLES, np.array(words, object), Split(**split), "classification")  # type: ignore[arg-type]


def test_every_word_for_a_part_is_understood() -> None:
    words = np.array(["train", " Training", "VAL", "valid", "validation", "dev", "Test ", "testing"], object)
    expected = ["train"] * 2 + ["validation"] * 4 + ["test"] * 2
    assert list(parts.named(words, NAMES)) == expected


@pytest.mark.parametrize("word", ["tset", "", None, 3, float("nan")])
def test_a_word_that_names_no_part_is_told_with_its_example(word) -> None:
    with pytest.raises(Usage, match="the split column says .* at row 1\n(did you mean 'test'|allowed: dev)"):
        parts.named(np.array(["train", word], object), NAMES)


def test_given_parts_are_kept_and_the_rest_is_trained_on() -> None:
    (train, validation, test), notes = shared(["train"] * 12 + [""] * 2 + ["validation"] * 3 + ["test"] * 3)
    assert sorted(train.features[:, 0]) == list(range(14))
    assert list(validation.names) == list(NAMES[14:17]) and list(test.names) == list(NAMES[17:])
    assert notes == ()


def test_a_part_that_is_not_given_is_split_off() -> None:
    (train, validation, test), _ = shared(["train"] * 16 + ["test"] * 4, validation=0.25)
    assert (len(train), len(validation), len(test)) == (12, 4, 4)


def test_an_example_in_two_parts_is_noted() -> None:
    twice = Examples(np.zeros((20, 1), np.float32), np.arange(20) % 2, NAMES)
    words = np.array(["train"] * 16 + ["test"] * 4, object)
    _, notes = parts.share_out(twice, words, Split(validation=0), "classification")
    assert "4 of 4 test examples are also in the training part" in notes[0]


def test_nothing_left_to_train_on_is_missing() -> None:
    with pytest.raises(Missing, match="no example is left to train on"):
        shared(["test"] * 10 + ["validation"] * 10)
