"""GroupNormalization in the place of BatchNormalization."""

import numpy as np
import pytest
import tf_keras as keras

from tfapp.errors import Refused
from tfapp.private.batchnorm import replaced

KL = keras.layers


def mixing():
    inputs = keras.Input((8, 8, 3))
    x = KL.Conv2D(6, 3, use_bias=False, name="first")(inputs)
    x = KL.ReLU()(KL.BatchNormalization(name="bn")(x))
    inner = keras.Sequential([KL.Input((6, 6, 6)), KL.Conv2D(4, 3), KL.BatchNormalization(name="deep")], name="inner")
    x = KL.Flatten()(inner(x))
    x = KL.BatchNormalization(name="flat", scale=False)(KL.Dense(10)(x))
    return keras.Model(inputs, KL.Dense(2, name="last")(x))


@pytest.mark.moderate
def test_examples_no_longer_see_each_other_and_other_weights_stay():
    model = mixing()
    model.get_layer("bn").gamma.assign(np.arange(6.0))
    other, names = replaced(model)
    assert names == ["bn", "deep", "flat"] or sorted(names) == ["bn", "deep", "flat"]
    assert isinstance(other.get_layer("bn"), KL.GroupNormalization)
    assert isinstance(other.get_layer("flat"), KL.LayerNormalization)
    assert isinstance(other.get_layer("inner").get_layer("deep"), KL.GroupNormalization)
    np.testing.assert_array_equal(other.get_layer("first").kernel, model.get_layer("first").kernel)
    np.testing.assert_array_equal(other.get_layer("last").kernel, model.get_layer("last").kernel)
    np.testing.assert_array_equal(other.get_layer("bn").gamma, np.arange(6.0))
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("f")
    np.testing.assert_allclose(other(x, training=True)[1], other(x[1:2], training=True)[0], rtol=1e-4, atol=1e-5)


def test_what_is_frozen_is_public_and_stays():
    model = keras.Sequential([KL.Input((4,)), KL.Dense(3), KL.BatchNormalization(trainable=False)])
    assert replaced(model) == (model, [])


def test_frozen_layers_stay_frozen():
    model = mixing()
    model.get_layer("first").trainable = False
    other, _ = replaced(model)
    assert not other.get_layer("first").trainable and len(other.trainable_variables) == 11


def test_a_class_of_its_own_is_refused():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = KL.BatchNormalization()

        def call(self, x):
            return self.norm(x)

    with pytest.raises(Refused, match="class of its own"):
        replaced(Own())
