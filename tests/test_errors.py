"""tests of tfapp/errors.py"""

import os

import pytest

from tfapp.errors import Failed, Missing, guess, nearest, of_system


def test_a_mistyped_word_gets_the_nearest_allowed_one() -> None:
    assert nearest("epoch", ["epochs", "batch_size"]) == "did you mean 'epochs'?"


def test_a_word_like_no_other_gets_the_whole_list_in_order() -> None:
    assert nearest("zzz", ["train", "runs"]) == "allowed: runs, train"


def test_where_nothing_is_allowed_it_says_so() -> None:
    assert nearest("x", []) == "allowed: nothing"


def test_a_guess_is_made_only_where_a_word_is_like_an_allowed_one() -> None:
    assert guess("epoch", ["epochs"]) == "did you mean 'epochs'?"
    assert guess("zzz", ["epochs"]) == ""


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (OSError(28, os.strerror(28), "/runs/a"), Failed, "the disk is full: /runs/a"),
        (RuntimeError("/runs/a/ckpt; No space left on device"), Failed, "the disk is full: /runs/a/ckpt"),
        (OSError(30, os.strerror(30), "/runs/a"), Missing, "the disk is read-only: /runs/a"),
    ],
)
def test_trouble_of_the_disk_is_told_whichever_library_met_it(error, kind, said) -> None:
    told = of_system(error)
    assert isinstance(told, kind) and str(told).startswith(said)


def test_a_forbidden_file_that_is_not_there_sends_to_the_folder_that_is(tmp_path) -> None:
    told = of_system(PermissionError(13, "Permission denied", str(tmp_path / "run" / ".lock")))
    assert str(told).endswith(f"ls -ld '{tmp_path}'")


def test_other_errors_are_no_trouble_of_the_disk() -> None:
    assert of_system(ValueError("x")) is None and of_system(FileNotFoundError(2, "no", "x")) is None
