"""What accumulation refuses; that its steps are those of the whole batch is held by tests/test_replicas.py."""

from __future__ import annotations

import pytest
import tf_keras as keras

from tfapp import accumulate
from tfapp.errors import Refused


def normalising(layer) -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.Sequential([keras.layers.Dense(8), layer])(inputs))


def test_batch_normalization_is_refused_wherever_it_lies_with_the_way_out() -> None:
    with pytest.raises(Refused, match="GroupNormalization"):
        accumulate.check(normalising(keras.layers.BatchNormalization(name="inside")))


def test_what_normalises_each_row_alone_or_is_frozen_is_fine() -> None:
    for layer in (keras.layers.GroupNormalization(4), keras.layers.BatchNormalization(trainable=False)):
        accumulate.check(normalising(layer))
