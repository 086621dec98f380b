import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfapp.data import tokens
from tfapp.data.tokens import Vocabulary
from tfapp.errors import Missing, Usage

ALPHABET = bytes(range(97, 123)) * 8


def cut(texts, kind="bytes", length=5, vocabulary=50, shares=(0.1, 0.1), **more):
    return tokens.cut(texts, kind, length, vocabulary, shares, **more)


def test_labels_are_the_tokens_moved_on_by_one_and_each_is_predicted_once():
    data = cut({"a.txt": ALPHABET}, shares=(0, 0))
    n = (len(ALPHABET) - 1) // 5
    assert data.train.features.shape == data.train.labels.shape == (n, 5)
    assert bytes(data.train.features.ravel().tolist()) == ALPHABET[: 5 * n]
    assert bytes(data.train.labels.ravel().tolist()) == ALPHABET[1 : 5 * n + 1]
    assert data.train.features.dtype == data.train.labels.dtype == np.int32


@given(st.lists(st.binary(min_size=40, max_size=200), min_size=1, max_size=4), st.integers(1, 7))
def test_the_parts_are_stretches_of_each_document_in_their_order_without_overlap(texts, length):
    data = cut({f"{n}.txt": text for n, text in enumerate(texts)}, length=length, shares=(0.25, 0.25))
    taken = [part.labels.size + (1 if len(part) else 0) for part in (data.train, data.validation, data.test)]
    assert sum(taken) <= sum(map(len, texts))
    ends = [(round(len(text) * 0.5), round(len(text) * 0.75), len(text)) for text in texts]
    streams = [
        b"".join(text[[0, *end][part] : end[part]] for text, end in zip(texts, ends, strict=True)) for part in range(3)
    ]
    for part, stream in zip((data.train, data.validation, data.test), streams, strict=True):
        assert stream.startswith(bytes(part.features.ravel().tolist()))
        assert len(part) == max(0, len(stream) - 1) // length


@given(st.binary(max_size=60))
def test_any_bytes_become_tokens_and_text(text):
    known = Vocabulary()
    assert bytes(known.ids(text).tolist()) == text
    assert known.text(known.ids(text)) == text.decode("utf-8", "replace")
    assert isinstance(Vocabulary(("<unknown>", "a")).ids(text), np.ndarray)


def test_words_are_those_of_the_training_part_alone_the_commonest_first():
    text = b"the cat, the dog\nthe end " * 9 + b"zebra zebra zebra zebra zebra zebra zebra zebra"
    data = cut({"a.txt": text}, "words", vocabulary=5, length=3)
    assert data.classes[:2] == ("<unknown>", "the") and "zebra" not in data.classes and len(data.classes) == 5
    assert (data.test.labels == 0).all()
    known = Vocabulary.of(data.classes)
    assert known.words == data.classes and known.text(known.ids(b"the  zebra")) == "the <unknown>"


def test_256_byte_names_are_one_vocabulary_and_words_another():
    assert len(set(tokens.BYTES)) == 256 and Vocabulary.of(list(tokens.BYTES)).words is None


def test_files_of_equal_content_and_empty_ones_are_left_out_with_the_reason(tmp_path):
    for name, text in {
        "a.txt": ALPHABET,
        "b.txt": ALPHABET,
        "c.txt": b" \n",
        "d.txt": b"\xef\xbb\xbf\xff" * 99,
    }.items():
        (tmp_path / name).write_bytes(text)
    (tmp_path / "picture.png").write_bytes(b"no text")
    data = tokens.read(tmp_path, "bytes", 5, 50, (0.1, 0.1))
    assert {(one.name, one.reason) for one in data.dropped} == {("b.txt", "the same text as a.txt"), ("c.txt", "empty")}
    assert data.train.name(0) == "a.txt:0"


def test_a_copy_of_a_test_file_is_not_trained_on(tmp_path):
    for name in ("train.txt", "held.txt", "copy.txt"):
        (tmp_path / name).write_bytes(ALPHABET[3:] if name == "train.txt" else ALPHABET)
    data = tokens.read(tmp_path, "bytes", 5, 50, (0.1, 0.1), test=tmp_path / "held.txt")
    assert [one.name for one in data.dropped] == ["copy.txt", "held.txt"]
    assert bytes(data.test.features[0].tolist()) == ALPHABET[:5]
    assert {name.partition(":")[0] for name in [*data.train.names, *data.validation.names]} == {"train.txt"}


def test_too_little_text_and_shares_that_leave_nothing_say_what_to_change():
    with pytest.raises(Missing, match="smaller length"):
        cut({"a.txt": b"short"}, length=64)
    with pytest.raises(Usage, match="leave nothing to train on"):
        cut({"a.txt": ALPHABET}, shares=(0.5, 0.5))


def test_new_text_is_cut_as_the_training_text_was(tmp_path):
    (tmp_path / "new.txt").write_bytes(ALPHABET)
    data = cut({"a.txt": ALPHABET[1:]})
    examples, dropped = tokens.read_labelled(data.reader, data.classes, tmp_path / "new.txt")
    assert len(examples) == (len(ALPHABET) - 1) // 5 and not dropped
    texts, names, _ = tokens.read_new(data.reader, [tmp_path / "new.txt"])
    assert texts == [ALPHABET] and names == ["new.txt"]
