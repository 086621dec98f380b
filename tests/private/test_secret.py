"""The secret: from the operating system, kept for its owner, told to the other workers."""

from types import SimpleNamespace

import pytest

from tfapp.errors import Missing
from tfapp.private import secret

ALONE = SimpleNamespace(chief=True, workers=1)


def test_it_is_made_once_and_kept_for_its_owners_eyes_alone(tmp_path):
    made = secret.of(tmp_path, ALONE)
    assert secret.of(tmp_path, ALONE) == made and len(made.value) == 32 and not made.fixed
    assert (tmp_path / "private.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["private.key"]
    assert secret.of(None, ALONE) != secret.of(None, ALONE)


def test_its_keys_are_of_64_bits_and_differ_by_purpose():
    one = secret.fixed("a word")
    keys = {one.key("noise"), one.key("sampling"), one.key("count"), secret.fixed("another").key("noise")}
    assert len(keys) == 4 and all(0 <= key < 2**64 for key in keys) and one.fixed


def test_other_workers_are_told_the_chiefs(tmp_path):
    chiefs = secret.of(tmp_path, ALONE)
    tables = {}

    def gather(*words):
        tables.setdefault("chief", words)
        return [tables["chief"], words]

    assert secret.of(tmp_path, SimpleNamespace(chief=True, workers=2, gather=gather)) == chiefs
    assert secret.of(None, SimpleNamespace(chief=False, workers=2, gather=gather)) == chiefs


@pytest.mark.parametrize("text", ["", "abc", "zz" * 32, "00" * 31])
def test_a_damaged_one_is_told(tmp_path, text):
    (tmp_path / "private.key").write_text(text)
    with pytest.raises(Missing, match="is damaged"):
        secret.of(tmp_path, ALONE)


def test_a_training_that_lost_its_own_does_not_go_on_with_another(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "ckpt-3.index").touch()
    with pytest.raises(Missing, match="is gone"):
        secret.of(tmp_path, ALONE)
