"""What mixes examples is refused in words that say how to mend it; what does not is told of with its cost."""

from __future__ import annotations

import pytest
import tensorflow as tf
import tf_keras as keras

from tests.private.clipping.loop import Gate, Places, layers, sequence, tokens
from tfapp import recompute
from tfapp.errors import Refused
from tfapp.private.clipping import calls, examine

pytestmark = pytest.mark.moderate


class Centred(layers.Layer):
    def call(self, inputs, training=None):
        return inputs - tf.reduce_mean(inputs, 0, keepdims=True) if training else inputs


class Dropping(layers.Layer):
    def build(self, shape):
        self.scale, self.dropout = self.add_weight("scale", (shape[-1],)), layers.Dropout(0.5)

    def call(self, inputs):
        return self.dropout(inputs * self.scale)


class Counting(layers.Layer):
    def build(self, shape):
        self.seen = self.add_weight("seen", (), trainable=False, initializer="zeros")

    def call(self, inputs):
        self.seen.assign_add(tf.reduce_sum(inputs))
        return inputs


class Tied(layers.Layer):
    def __init__(self):
        super().__init__()
        self.words, self.dense = layers.Embedding(9, 4), layers.Dense(4)

    def call(self, inputs):
        return tf.matmul(self.dense(self.words(inputs)), self.words.embeddings, transpose_b=True)


def _mean_of_plain_operations() -> keras.Model:
    inputs = keras.Input((4,))
    x = layers.Dense(3)(inputs)
    return keras.Model(inputs, x - tf.reduce_mean(x, axis=0, keepdims=True))


def _recomputed() -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, recompute.around(sequence(layers.Dense(3), shape=(4,)))(inputs))


def _tied() -> keras.Model:
    model = keras.Sequential([Tied()])
    model(tokens(9, 2, 6))
    return model


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            lambda: sequence(layers.BatchNormalization(name="bn"), shape=(4,)),
            "bn, a BatchN(.|\n)*replace_batchnorm=true",
        ),
        (lambda: sequence(layers.Dense(3), Centred(name="mid"), shape=(4,)), "mid, a Centred, mixes(.|\n)*within each"),
        (_mean_of_plain_operations, "tf.math.subtract.*mixes the examples(.|\n)*within each"),
        (lambda: sequence(layers.Dense(3), layers.UnitNormalization(0), shape=(4,)), "a UnitNormalization, mixes"),
        (lambda: sequence(layers.Dense(3, activity_regularizer="l2"), shape=(4,)), "kernel_regularizer(.|\n)*are fine"),
        (
            lambda: keras.Sequential([keras.Input((3, 2), batch_size=3), layers.LSTM(2, stateful=True)]),
            "hands its state(.|\n)*leave stateful=True out",
        ),
        (_recomputed, "is recomputed(.|\n)*leave recompute out"),
        (
            lambda: sequence(Dropping(name="own"), shape=(4,)),
            "own, a Dropping, has to be called again(.|\n)*set its rate",
        ),
        (lambda: sequence(layers.LSTM(2, dropout=0.5), shape=(3, 2)), "draws random numbers"),
        (lambda: sequence(layers.Dense(3), Counting(), shape=(4,)), "seen.* changes when the model is called"),
        (_tied, "embeddings.*used where their layer's call does not see it(.|\n)*call the layer"),
        (lambda: keras.Sequential([layers.Dense(3)]), "does not say what inputs it takes(.|\n)*call it on one batch"),
    ],
)
def test_what_cannot_be_bounded_is_refused_with_the_way_out(model, said: str) -> None:
    model = model()
    with pytest.raises(Refused, match=said) as refused:
        examine(model)
    assert len(str(refused.value).splitlines()) <= 3
    assert not any(
        isinstance(vars(one).get("call"), type(_tied)) and type(one) is Centred for one in calls.inside(model)
    )


def test_frozen_batch_normalization_and_dropout_are_fine_and_nothing_is_said_of_fast_layers() -> None:
    dense, frozen = layers.Dense(3), layers.BatchNormalization(trainable=False)
    found = examine(sequence(dense, frozen, layers.Dropout(0.5), shape=(4,)))
    assert found.fast == [dense.name] and found.slow == [] and found.said() == []


def test_layers_without_a_rule_are_named_with_the_reason_and_the_cost() -> None:
    found = examine(sequence(Places(), Gate(name="gate"), layers.Dense(2, name="last"), shape=(6,), dtype="int32"))
    assert found.fast == ["last"]
    (_, kind, why), gate = found.slow
    assert kind == "Places" and "something other than the examples" in why
    assert gate == ("gate", "Gate", "there is no rule for a Gate")
    assert "gate (Gate) is taken example by example" in found.said()[1] and "0.1 KiB" in found.said()[1]


def test_a_layer_that_adds_a_loss_of_the_batch_is_refused_and_a_penalty_on_weights_is_not():
    class Pulling(keras.layers.Layer):
        def call(self, x):
            self.add_loss(tf.reduce_mean(x) ** 2)
            return x

    inputs = keras.Input((4,))
    with pytest.raises(Refused, match="pulling.*adds a loss"):
        examine(keras.Model(inputs, keras.layers.Dense(2)(Pulling(name="pulling")(inputs))))
    penalised = keras.Model(inputs, keras.layers.Dense(2, kernel_regularizer="l2")(inputs))
    penalised.add_loss(lambda: tf.reduce_sum(penalised.layers[-1].kernel ** 2))
    assert examine(penalised).fast == [penalised.layers[-1].name]
