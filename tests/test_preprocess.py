"""Preprocessing is done once, adapted on training data alone, and gives the same done beforehand and in batches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import preprocess as module
from tfapp.data.examples import Data, Examples
from tfapp.data.pipeline import Batches
from tfapp.errors import Failed
from tfapp.preprocess import Preprocess
from tfapp.settings import Settings

FEATURES = {"x": np.linspace(0, 9, 10, dtype=np.float32)[:, None], "word": np.array(list("abcabcabcz"), object)}


def examples(rows: slice) -> Examples:
    return Examples({name: column[rows] for name, column in FEATURES.items()}, np.arange(10)[rows] % 2)


def data() -> Data:
    parts = examples(slice(0, 6)), examples(slice(6, 8)), examples(slice(8, 10))
    return Data(*parts, "classification", "table", ("no", "yes"))


class Mine:
    """A recipe's preprocess, adapted on what it is given."""

    @staticmethod
    def preprocess(config: Settings, data: Data) -> keras.Model:
        columns = {"x": keras.Input((1,), name="x"), "word": keras.Input((), dtype=tf.string, name="word")}
        scale, lookup = keras.layers.Normalization(), keras.layers.StringLookup()
        scale.adapt(data.train.features["x"])
        lookup.adapt(data.train.features["word"])
        return keras.Model(columns, {"scaled": scale(columns["x"]), "number": lookup(columns["word"])})


@pytest.fixture
def before() -> Preprocess:
    return Preprocess.of(Mine, Settings(), data())


def batch(batches: Batches) -> Any:
    return next(batches.dataset().as_numpy_iterator())[0]


@pytest.mark.moderate
def test_it_knows_the_raw_features_and_gives_inputs_of_what_comes_out(before: Preprocess) -> None:
    assert before.raw == {"x": tf.TensorSpec([None, 1], tf.float32), "word": tf.TensorSpec([None], tf.string)}
    inputs = before.inputs()
    assert {name: (one.shape[1:], one.dtype) for name, one in inputs.items()} == {
        "scaled": (tf.TensorShape([1]), tf.float32),
        "number": (tf.TensorShape([]), tf.int64),
    }
    assert {name: one.dtype for name, one in before.raw_inputs().items()} == {"x": tf.float32, "word": tf.string}


@pytest.mark.moderate
def test_what_was_not_in_the_training_part_is_unknown(before: Preprocess) -> None:
    done = before.apply(examples(slice(8, 10)))
    assert list(done.features["number"]) == [1, 0]
    assert np.array_equal(done.labels, [0, 1])
    assert before.apply(data().train).features["scaled"].mean() == pytest.approx(0, abs=1e-6)


@pytest.mark.moderate
def test_done_beforehand_and_batch_by_batch_are_the_same(before: Preprocess, monkeypatch) -> None:
    batches = Batches(data().train, 4, shuffle=True)
    beforehand = before.before(batches)
    assert beforehand.transform is None
    monkeypatch.setattr(module.environment, "free_memory", lambda: 8)
    in_batches = before.before(batches)
    assert in_batches.transform is before and in_batches.examples is batches.examples
    one, two = batch(beforehand), batch(in_batches)
    assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.moderate
def test_with_augmentation_it_comes_after_it_and_so_in_batches(before: Preprocess) -> None:
    batches = Batches(data().train, 4, augment=lambda one, seed: {**one, "x": one["x"] * 0})
    later = before.before(batches)
    assert later.transform is before
    assert len(set(batch(later)["scaled"].ravel())) == 1


@pytest.mark.moderate
def test_portions_of_any_size_give_the_same(before: Preprocess) -> None:
    whole, parts = before.apply(data().train), before.apply(data().train, batch_size=4)
    assert all(np.array_equal(whole.features[name], parts.features[name]) for name in whole.features)


def test_without_a_preprocess_the_features_are_the_inputs() -> None:
    plain = Preprocess.of(SimpleNamespace(), Settings(), data())
    batches = Batches(data().train, 4)
    assert plain.model is None and plain.before(batches) is batches and plain(FEATURES) is FEATURES
    assert plain.inputs()["word"].dtype == tf.string


def test_the_raw_features_of_examples_that_are_loaded_are_what_the_loading_gives() -> None:
    loaded = Examples(np.arange(3), np.array([0, 1, 0]), load=lambda number: tf.zeros([4, 4, 3], tf.uint8))
    whole = Data(loaded, loaded, loaded, "classification", "image", ("a", "b"))
    found = Preprocess.of(SimpleNamespace(), Settings(), whole)
    assert found.raw == tf.TensorSpec([None, 4, 4, 3], tf.uint8) and found.raw_inputs().name == "inputs"


def word(shape: tuple[int, ...] = ()) -> Any:
    return keras.Input(shape, dtype=tf.string, name="word")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            lambda: keras.Model({"x": (x := keras.Input((2,), name="x"))}, keras.layers.Dense(1)(x)),
            r"does not take the features of one example, {word: string \[\], x: float32 \[1\]}: .*\nbegin it in keras.Input",
        ),
        (lambda: keras.Model(x := keras.Input((1,), name="y"), x), "does not take the features of one example"),
        (lambda: keras.Model({"x": (x := keras.Input((1,), name="x"))}, [x, x]), "gives list of 2 for a batch of one"),
        (
            lambda: keras.Model({"word": (w := word())}, keras.layers.TextVectorization(ragged=True, vocabulary=["a"])(w)),
            "gives RaggedTensor for a batch of one example",
        ),
        (lambda: keras.Model({"x": (x := keras.Input((1,), name="x"))}, tf.reduce_sum(x)), r"gives float32 \[\] for"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Input dict contained keys")
def test_a_preprocessing_that_does_not_fit_the_features_is_told_what_would(made: Any, said: str) -> None:
    with pytest.raises(Failed, match=said) as told:
        Preprocess.of(SimpleNamespace(preprocess=lambda config, data: made()), Settings(), data())
    assert len(str(told.value).splitlines()) <= 3
