"""The weights of a finished run begin another training, and another architecture's are refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tf_keras as keras

from tfapp import export, weights
from tfapp.errors import Failed, Refused
from tfapp.preprocess import Preprocess

L = keras.layers


def saved(folder: Path, units: int = 5, more: bool = False) -> tuple[keras.Model, Preprocess, keras.Model]:
    import tensorflow as tf

    raw = keras.Input((4,))
    preprocess = Preprocess(tf.TensorSpec([None, 4]), keras.Model(raw, L.Normalization(mean=1.0, variance=4.0)(raw)))
    inputs = keras.Input((4,))
    x = L.BatchNormalization()(L.Dense(units, name="hidden")(inputs))
    x = L.Dense(3, name="more")(x) if more else x
    model = keras.Model(inputs, L.Dense(3, name="last")(x))
    for weight in model.weights:
        weight.assign(np.random.default_rng(0).random(weight.shape))
    whole = export.whole(preprocess, model, "classification")
    export.saved_model(whole, folder)
    return whole, preprocess, model


@pytest.mark.moderate
def test_every_weight_is_taken_and_the_preprocessing_left(tmp_path: Path) -> None:
    _, preprocess, model = saved(tmp_path / "model")
    fresh = keras.models.clone_model(model)
    assert not np.array_equal(fresh.get_weights()[0], model.get_weights()[0])
    weights.take(tmp_path / "model", preprocess, fresh, "classification")
    for own, taken in zip(model.get_weights(), fresh.get_weights(), strict=True):
        assert np.array_equal(own, taken)


@pytest.mark.moderate
@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"units": 6}, r"hidden/kernel is \[4, 6\] here, and \[4, 5\] in .*\nstart from a run of the same recipe"),
        ({"more": True}, r"last/kernel is \[3, 3\] here, and missing"),
    ],
)
def test_another_architecture_is_refused_with_the_first_difference(tmp_path: Path, other, told: str) -> None:
    saved(tmp_path / "model")
    _, preprocess, model = saved(tmp_path / "other", **other)
    with pytest.raises(Refused, match=told):
        weights.take(tmp_path / "model", preprocess, model, "classification")


@pytest.mark.moderate
def test_a_model_with_more_weights_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "more", more=True)
    _, preprocess, model = saved(tmp_path / "model")
    short = keras.Model(model.input, model.layers[-2].output)
    with pytest.raises(Refused, match="more weights than"):
        weights.take(tmp_path / "more", preprocess, short, "classification")


@pytest.mark.moderate
def test_a_damaged_model_is_told(tmp_path: Path) -> None:
    _, preprocess, model = saved(tmp_path / "model")
    (tmp_path / "model" / "variables" / "variables.index").write_bytes(b"torn")
    with pytest.raises(Failed, match="cannot be loaded"):
        weights.take(tmp_path / "model", preprocess, model, "classification")
