from __future__ import annotations

import numpy as np
import pytest

from tfapp.data import arrays
from tfapp.errors import Missing, Usage
from tfapp.settings import Split

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
LABELS = np.arange(60) % 3


def test_labels_of_any_type_become_class_numbers():
    for labels in (
        np.array(["b", "a", "c"] * 20),
        np.array(["b", "a", "c"] * 20, object),
        np.array([b"b", b"a", b"c"] * 20),
    ):
        data = arrays.split(PIXELS, labels, Split())
        assert data.classes == ("a", "b", "c")
        assert data.train.labels.dtype == np.int64
        first = int(data.train.names[0])
        assert data.classes[data.train.labels[0]] == "bac"[first % 3]


def test_integers_in_a_float_column_are_named_as_integers():
    assert arrays.split(PIXELS, LABELS.astype(float) + 5, Split()).classes == ("5", "6", "7")


def test_integer_labels_are_numbers_of_the_given_classes():
    data = arrays.split(PIXELS, LABELS[:, None], Split(), classes=("x", "y", "z", "never"))
    assert data.classes == ("x", "y", "z", "never")
    assert set(data.train.labels) == {0, 1, 2}


def test_a_class_number_beyond_the_given_classes_is_refused():
    with pytest.raises(Usage, match="labels go from 0 to 2, but 2 classes"):
        arrays.split(PIXELS, LABELS, Split(), classes="01")


def test_a_name_that_is_no_given_class_is_dropped_and_counted():
    data = arrays.split(PIXELS, np.array(["a", "b", "oops"] * 20), Split(), classes="ab")
    assert len(data.dropped) == 20 and data.dropped[0].reason == "label 'oops' is none of the classes"


def test_missing_labels_are_dropped_and_counted():
    labels = np.array(["a", "b", None] * 20, object)
    data = arrays.split(PIXELS, labels, Split())
    assert [one.name for one in data.dropped][:2] == ["2", "5"]
    assert len(data.train) + len(data.validation) + len(data.test) == 40
    labels = LABELS.astype(float)
    labels[:7] = np.nan
    assert len(arrays.split(PIXELS, labels, Split()).dropped) == 7


def test_targets_that_are_not_finite_are_dropped_and_counted():
    targets = np.linspace(0, 1, 60)
    targets[[3, 4]] = np.nan, np.inf
    data = arrays.split(PIXELS, targets, Split(), task="regression", target="price")
    assert [one.name for one in data.dropped] == ["3", "4"]
    assert data.train.labels.dtype == np.float32 and data.classes == () and data.outputs == 1


def test_words_as_regression_targets_are_refused():
    with pytest.raises(Usage, match="regression takes numbers"):
        arrays.split(PIXELS, np.array(["a"] * 60), Split(), task="regression")


def test_an_official_test_set_is_kept_whole():
    data = arrays.split(PIXELS[:50], LABELS[:50], Split(validation=0.2), test=(PIXELS[50:], LABELS[50:]))
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 10, 10)
    assert data.test.names[0] == "test:0"
    np.testing.assert_array_equal(data.test.features, PIXELS[50:])


def test_examples_of_the_test_set_found_in_training_are_noted():
    data = arrays.split(PIXELS, LABELS, Split(validation=0), test=(PIXELS[:5], LABELS[:5]))
    assert "5 of 5 test examples are also in the training part" in data.notes[0]


def test_image_arrays_get_a_channel_and_a_reader_for_image_files():
    data = arrays.split(PIXELS.astype(np.float32) / 16, LABELS, Split(), kind="image", pixel_max=16)
    assert data.train.features.shape[1:] == (8, 8, 1)
    assert data.reader == {
        "height": 8, "width": 8, "channels": 1, "dtype": "float32", "resize": "pad", "scale": 16 / 255
    }  # fmt: skip


def test_lengths_that_differ_are_refused():
    with pytest.raises(Usage, match="60 features for 59 labels"):
        arrays.split(PIXELS, LABELS[:59], Split())


def test_new_examples_come_from_npy_and_npz(tmp_path):
    np.save(tmp_path / "many.npy", PIXELS[:3])
    np.save(tmp_path / "one.npy", PIXELS[0].astype(np.int64))
    np.savez(tmp_path / "named.npz", features=PIXELS[:2], labels=LABELS[:2])
    reader = arrays.split(PIXELS, LABELS, Split()).reader
    features, names, dropped = arrays.read_new(
        reader, [tmp_path / name for name in ("many.npy", "one.npy", "named.npz")]
    )
    assert features.shape == (6, 8, 8) and features.dtype == np.uint8 and dropped == []
    assert names == ["many.npy:0", "many.npy:1", "many.npy:2", "one.npy:0", "named.npz:0", "named.npz:1"]


def test_new_examples_of_a_model_with_named_inputs_come_from_one_npz(tmp_path):
    inputs = {"age": np.arange(60.0), "pixels": PIXELS}
    data = arrays.split(inputs, LABELS, Split())
    np.savez(tmp_path / "new.npz", age=np.ones(2), pixels=PIXELS[:2], extra=0)
    features, names, _ = arrays.read_new(data.reader, [tmp_path / "new.npz"])
    assert features["age"].dtype == np.float32 and features["pixels"].shape == (2, 8, 8) and len(names) == 2
    np.savez(tmp_path / "less.npz", age=np.ones(2))
    with pytest.raises(Usage, match="no array 'pixels'"):
        arrays.read_new(data.reader, [tmp_path / "less.npz"])
    np.savez(tmp_path / "uneven.npz", age=np.ones(2), pixels=PIXELS[:3])
    with pytest.raises(Usage, match="different numbers"):
        arrays.read_new(data.reader, [tmp_path / "uneven.npz"])


def test_an_array_of_another_shape_or_range_is_refused_with_both_shapes(tmp_path):
    reader = arrays.split(PIXELS, LABELS, Split()).reader
    np.save(tmp_path / "wide.npy", np.zeros((2, 8, 9), np.uint8))
    with pytest.raises(Usage, match=r"shape \[2, 8, 9\]\nthe model takes \[n, 8, 8\] of uint8"):
        arrays.read_new(reader, [tmp_path / "wide.npy"])
    np.save(tmp_path / "large.npy", np.full((2, 8, 8), 300))
    with pytest.raises(Usage, match="do not fit into uint8"):
        arrays.read_new(reader, [tmp_path / "large.npy"])


def test_pickles_and_broken_files_are_refused_and_never_executed(tmp_path):
    reader = arrays.split(PIXELS, LABELS, Split()).reader
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], object), allow_pickle=True)
    (tmp_path / "short.npy").write_bytes((tmp_path / "pickle.npy").read_bytes()[:40])
    (tmp_path / "text.npz").write_text("hello")
    for name in ("pickle.npy", "short.npy", "text.npz"):
        with pytest.raises(Usage, match=f"cannot read .*{name}"):
            arrays.read_new(reader, [tmp_path / name])
    with pytest.raises(Missing, match="file not found"):
        arrays.read_new(reader, [tmp_path / "none.npy"])
