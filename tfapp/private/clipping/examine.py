"""Whether the gradient of each example of a model can be told apart, before anything is trained.

What the classes of the layers do not tell is found by a real test: a few examples together and each of them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfapp.errors import Refused
from tfapp.private.clipping import calls, standing
from tfapp.private.clipping.sums import clipped

EXAMPLES = 3
UNKNOWN_SIZE = 16  # of an axis that the model leaves open
_NOISE = (
    keras.layers.Dropout,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.AlphaDropout,
)


@dataclass(frozen=True)
class Examined:
    """What `clipped` will do with a model.

    Attributes:
      fast: names of the layers with a rule.
      slow: (name, class, why) of those whose gradients are taken example by example.
      weights: how many trainable weights each of the slow ones has.
    """

    fast: list[str]
    slow: list[tuple[str, str, str]]
    weights: list[int]

    def said(self) -> list[str]:
        """Lines for the terminal: the slow layers and what they cost; none where there are none."""
        return [
            f"{name} ({kind}) is taken example by example: {why}; it is called twice in a step, and the gradient of "
            f"each example takes {4 * weights / 1024:,.1f} KiB"
            for (name, kind, why), weights in zip(self.slow, self.weights, strict=True)
        ]


def examine(model: keras.Model) -> Examined:
    """How the gradients of a built model's examples are found, tested on a few random examples.

    Its weights are left as they were. Under a strategy, call it in its scope and outside of its replicas.

    Raises:
      Refused: the examples of a batch are not apart in the model, or it cannot be told whether they are.
    """
    for layer in calls.inside(model):
        _refuse(layer)
    x = _examples(model)
    training = not any(_draws(layer) for layer in calls.inside(model) if not isinstance(layer, _NOISE))
    before = [np.asarray(variable) for variable in model.non_trainable_variables]
    with ExitStack() as quiet:
        for layer in calls.inside(model):
            if isinstance(layer, _NOISE):
                quiet.enter_context(standing.in_for(layer, call=_as_it_is))
        try:
            units = calls.survey(model, x, training)
            _refuse_losses(model, x, training)
            _refuse_draws(units)
            _compare(model, x, training)
        except Refused:
            raise
        except Exception as error:
            said = str(error).strip().splitlines() or [""]
            raise Refused(
                f"private: the gradient of each example of {model.name} cannot be found: {said[0]}\n"
                "build it of Keras's layers, called on tensors whose first axis is the examples"
            ) from error
        finally:
            changed = _put_back(model.non_trainable_variables, before)
    if changed:
        raise Refused(
            f"private: {changed} of {model.name} changes when the model is called, and so keeps what "
            "examples were like without noise\ntake its layer out, or have it hold still while it trains"
        )
    slow = [unit for unit in units.units if unit.why]
    return Examined(
        [unit.layer.name for unit in units.units if not unit.why],
        [(unit.layer.name, type(unit.layer).__name__, str(unit.why)) for unit in slow],
        [sum(int(np.prod(weights.shape)) for weights in unit.layer.trainable_weights) for unit in slow],
    )


def _refuse(layer: keras.layers.Layer) -> None:
    """Refuse what the layer's class or settings tell."""
    what = f"private: {layer.name}, a {type(layer).__name__},"
    if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
        raise Refused(
            f"{what} mixes the examples of a batch, so that no one of them can be bounded\n"
            "have it replaced: private.replace_batchnorm=true; or build the model with keras.layers.GroupNormalization"
        )
    if getattr(layer, "activity_regularizer", None) is not None:
        raise Refused(
            f"{what} has an activity regularizer, whose penalty is of the whole batch\n"
            "leave activity_regularizer out; penalties on weights (kernel_regularizer) are fine"
        )
    if isinstance(layer, keras.layers.RNN) and layer.stateful:
        raise Refused(f"{what} hands its state from one batch to the next\nleave stateful=True out")
    if hasattr(vars(layer).get("call"), "recomputes"):
        raise Refused(
            f"{what} is recomputed, so that the gradients inside it are not seen\n"
            "leave recompute out; private.microbatch saves memory too"
        )


def _refuse_losses(model: keras.Model, x: Any, training: bool) -> None:
    """Refuse a layer whose call adds a loss: it is of the whole batch, or at least not of the loss that is clipped."""
    with tf.__internal__.FuncGraph("losses").as_default():
        model(tf.nest.map_structure(tf.constant, x), training=training)
        for layer in [model, *calls.inside(model)]:
            if layer._losses or layer._eager_losses:
                raise Refused(
                    f"private: {layer.name}, a {type(layer).__name__}, adds a loss of the batch when it is called (add_loss)\n"
                    "leave it out, or put it into the recipe's loss, an example's own; penalties on weights are fine"
                )


def _draws(layer: keras.layers.Layer) -> bool:
    """Whether the layer draws random numbers when it trains."""
    if not hasattr(layer, "_random_generator"):
        return False
    rates = [getattr(layer, name, None) for name in ("rate", "stddev", "dropout", "recurrent_dropout")]
    numbers = [rate for rate in rates if isinstance(rate, (int, float))]
    return any(numbers) if numbers else True


def _refuse_draws(units: calls.Units) -> None:
    """Refuse a layer that is called again for each example and would draw something else then."""
    for unit in units.units:
        for layer in [unit.layer, *calls.inside(unit.layer)] if unit.why else []:
            if _draws(layer):
                raise Refused(
                    f"private: {unit.layer.name}, a {type(unit.layer).__name__}, has to be called again for each example "
                    f"({unit.why}), and {layer.name} draws random numbers in it\n"
                    "set its rate to 0, and put a keras.layers.Dropout before or behind the layer"
                )


def _as_it_is(inputs: Any, *args: Any, **kwargs: Any) -> Any:
    return inputs


def _examples(model: keras.Model) -> Any:
    """Random inputs that fit the model."""
    specs = getattr(model, "_nested_inputs", None)
    if specs is None and model._saved_model_inputs_spec is not None:
        specs = model._saved_model_inputs_spec
    if specs is None:
        raise Refused(
            f"private: {model.name} does not say what inputs it takes\ncall it on one batch in the recipe's model()"
        )
    draws = np.random.default_rng(0)
    looks_up = any(isinstance(layer, keras.layers.Embedding) for layer in calls.inside(model))

    def drawn(spec: Any) -> tf.Tensor:
        shape = [EXAMPLES, *(size or UNKNOWN_SIZE for size in spec.shape[1:])]
        if spec.dtype == tf.string:
            return tf.constant(draws.choice(["a", "b a", "c"], shape))
        if not spec.dtype.is_floating or looks_up:
            return tf.cast(draws.integers(0, 2, shape), spec.dtype)
        return tf.cast(draws.normal(size=shape), spec.dtype)

    return tf.nest.map_structure(drawn, specs)


def _compare(model: keras.Model, x: Any, training: bool) -> None:
    """Refuse a model whose examples together do not have the outputs and gradients that each has alone."""
    together, gradients, norms = _run(partial(_sums, model, x, training))
    each = [tf.nest.map_structure(lambda values, at=at: values[at : at + 1], x) for at in range(EXAMPLES)]
    alone = [_run(partial(_plain, model, row, at, training)) for at, row in enumerate(each)]
    tolerance = 0.05 if model.compute_dtype == "bfloat16" else 1e-3
    for index, output in enumerate(together):
        rows = [outputs[index] for outputs, _ in alone]
        if output.shape[0] != EXAMPLES or not _close(output, np.concatenate(rows), tolerance):
            mixing = _first_that_mixes(model, x, each, training, tolerance) or model
            raise Refused(
                f"private: {mixing.name}, a {type(mixing).__name__}, mixes the examples of a batch: what it gives for one "
                "depends on the others\nreduce and normalise within each example only (not along the first axis)"
            )
    largest = max((float(np.max(np.abs(one), initial=0)) for one in gradients), default=0.0)
    for index, variable in enumerate(model.trainable_variables):
        # Some gradients are 0 but for rounding, as of the bias of attention's keys.
        if not _close(gradients[index], sum(found[index] for _, found in alone), tolerance, 0.01 * largest):
            raise Refused(
                f"private: the weights {variable.name} are used where their layer's call does not see it, as by a second "
                "layer that computes with them\ncall the layer that has them, or use them in one layer that holds them"
            )
    expected = [np.sqrt(sum(float(np.sum(np.square(one, dtype=float))) for one in found)) for _, found in alone]
    if not _close(norms, np.array(expected), tolerance):
        raise Refused(
            f"private: the gradients of single examples of {model.name} come out wrong\n"
            "this should not be: please report the model; a layer of your own may name the class that it really is"
        )


def _run(what: Callable[[], Any]) -> Any:
    """What a function gives in a replica, as arrays."""
    traced = tf.function(what)
    strategy = tf.distribute.get_strategy()
    found = strategy.run(traced) if tf.distribute.has_strategy() else traced()
    return tf.nest.map_structure(lambda one: strategy.experimental_local_results(one)[0].numpy(), found)


def _sums(model: keras.Model, x: Any, training: bool) -> tuple[list[tf.Tensor], list[tf.Tensor], tf.Tensor]:
    """Outputs, sums of gradients that no clipping changes, and norms."""
    sums = clipped(model, x, lambda outputs: _loss(outputs, range(EXAMPLES)), 1e30, training)
    return tf.nest.flatten(sums.outputs), sums.gradients, sums.norms


def _plain(model: keras.Model, row: Any, at: int, training: bool) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Outputs and gradients of example `at` alone, by the plain way."""
    with tf.GradientTape() as tape:
        outputs = model(row, training=training)
        loss = _loss(outputs, [at])
    gradients = tape.gradient(loss, model.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return tf.nest.flatten(outputs), [tf.cast(tf.convert_to_tensor(one), tf.float32) for one in gradients]


def _loss(outputs: Any, examples: Sequence[int]) -> tf.Tensor:
    """float32 [examples]: a random direction in the outputs, another for each example."""
    total = tf.zeros([len(examples)])
    for index, output in enumerate(tf.nest.flatten(outputs)):
        if output.dtype.is_floating:
            directions = [tf.random.stateless_normal(tf.shape(output)[1:], [index, at]) for at in examples]
            products = tf.cast(output, tf.float32) * tf.stack(directions)
            total += tf.reduce_sum(tf.reshape(products, [len(examples), -1]), 1)
    return total


def _first_that_mixes(model: keras.Model, x: Any, each: list[Any], training: bool, tolerance: float) -> Any:
    """The first layer whose outputs for the examples together are not those for each alone; None if none is found."""
    together, alone = calls.outputs(model, x, training), [calls.outputs(model, row, training) for row in each]
    for (layer, outputs), *rows in zip(together, *alone, strict=False):
        for index, output in enumerate(outputs):
            parts = [found[index] for _, found in rows]
            if output.shape and output.shape[0] == EXAMPLES and not _close(output, np.concatenate(parts), tolerance):
                return layer
    return None


def _close(values: Any, others: Any, tolerance: float, least: float = 1e-6) -> bool:
    """Whether two arrays are equal, up to `tolerance` of the largest value, or of `least` where that is more."""
    values, others = np.asarray(values), np.asarray(others)
    if values.shape != others.shape:
        return False
    if not np.issubdtype(values.dtype, np.number) and values.dtype.kind in "OSUb":
        return bool(np.all(values == others))
    values, others = values.astype(float), others.astype(float)
    return bool(np.max(np.abs(values - others), initial=0) <= tolerance * max(np.max(np.abs(others), initial=0), least))


def _put_back(variables: list[tf.Variable], before: list[np.ndarray]) -> str:
    """Give variables their values again; the name of one that had another."""
    changed = ""
    for variable, value in zip(variables, before, strict=True):
        if not np.array_equal(np.asarray(variable), value):
            variable.assign(value)
            changed = variable.name
    return changed
