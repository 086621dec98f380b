"""tests of tfapp/errors.py"""

from tfapp.errors import nearest


def test_a_mistyped_word_gets_the_nearest_allowed_one() -> None:
    assert nearest("epoch", ["epochs", "batch_size"]) == "did you mean 'epochs'?"


def test_a_word_like_no_other_gets_the_whole_list_in_order() -> None:
    assert nearest("zzz", ["train", "runs"]) == "allowed: runs, train"


def test_where_nothing_is_allowed_it_says_so() -> None:
    assert nearest("x", []) == "allowed: nothing"
