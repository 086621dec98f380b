from __future__ import annotations

import pytest

from tfapp.errors import Usage
from tfapp.tune.objective import Objective
from tfapp.tune.stopper import Stopper, parse

LOSS = Objective("val_loss", False)


def rows(*losses: float) -> list[dict[str, float]]:
    return [{"val_loss": loss} for loss in losses]


OTHERS = [rows(1.0, 0.9, level) for level in (0.1, 0.2, 0.3, 0.4, 0.5)]


def test_a_trial_worse_than_the_median_after_as_many_epochs_is_ended() -> None:
    assert Stopper().why(LOSS, rows(1, 1, 0.31), OTHERS) == (
        "val_loss 0.31 after epoch 3, worse than the median of the others, 0.3"
    )
    assert Stopper().why(LOSS, rows(1, 1, 0.3), OTHERS) is None


def test_a_percentile_ends_only_the_worst() -> None:
    assert Stopper(75).why(LOSS, rows(1, 1, 0.35), OTHERS) is None
    assert Stopper(75).why(LOSS, rows(1, 1, 0.45), OTHERS)


def test_where_more_is_better_the_low_ones_are_ended() -> None:
    more = Objective("val_loss", True)
    assert Stopper().why(more, rows(0, 0, 0.2), [rows(0, 0, level) for level in (0.1, 0.2, 0.3, 0.4, 0.5)])
    assert Stopper().why(more, rows(0, 0, 0.3), [rows(0, 0, level) for level in (0.1, 0.2, 0.3, 0.4, 0.5)]) is None


def test_nobody_is_ended_early_or_by_few_others() -> None:
    assert Stopper().why(LOSS, rows(9, 9), OTHERS) is None
    assert Stopper().why(LOSS, rows(9, 9, 9), OTHERS[:4]) is None


def test_words_of_the_command_line() -> None:
    assert parse(None) is None and parse("median") == Stopper() and parse("percentile:75") == Stopper(75.0)
    for wrong in ("medina", "percentile:0", "percentile:100"):
        with pytest.raises(Usage, match="as --stopper median"):
            parse(wrong)
