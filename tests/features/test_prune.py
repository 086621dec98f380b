"""Pruning ends at the sparsity that was asked for, in every kind of layer, and waits with the best epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_utils

from tfapp import hold, kernels
from tfapp import job as jobs
from tfapp.cli import asking
from tfapp.errors import Refused, Usage
from tfapp.features import Prune
from tfapp.runtime import Machine

pytestmark = pytest.mark.moderate

SMALL = str(Path(__file__).parents[1] / "fixtures" / "small.py")
L = keras.layers


def job_of(*words: str) -> jobs.Job:
    _, module, plan, _ = asking.ask([SMALL, *words], [], None, None)
    return jobs.of(plan, module, module.data(plan.config), Machine(tf.distribute.get_strategy(), 1))


def trained(model: keras.Model, prune: Prune, steps: int = 12) -> keras.Model:
    """The model after so many steps of pruning on random data, three steps to an execution."""
    model.compile(keras.optimizers.Adam(0.01), "mse", steps_per_execution=3)
    hold.after_each_step(model, [(k.weight, prune._law(k, *prune.ramp(steps))) for k in kernels.of(model)])
    random = np.random.default_rng(0)
    shape = (8, *model.input_shape[1:])
    x = random.normal(size=shape).astype("float32") if model.input.dtype == "float32" else random.integers(0, 9, shape)
    model.fit(x, np.zeros((8, *model.output_shape[1:])), batch_size=4, epochs=steps // 2, verbose=0)
    return model


def test_the_ramp_ends_on_a_look_and_is_fitted_to_the_run() -> None:
    assert Prune().ramp(1000) == (1, 698, 17)
    assert Prune(frequency=100).ramp(1000) == (1, 601, 100)
    assert Prune(begin=0.5, end=0.6).ramp(20) == (10, 12, 1)
    assert Prune(schedule="constant", begin=0.25).ramp(40) == (10, 10, 1)
    with pytest.raises(Refused, match="a run of 1 steps has none for a ramp"):
        Prune().ramp(1)


def test_settings_that_contradict_each_other_are_refused() -> None:
    for words, told in (
        (["prune.pattern=2:4", "prune.sparsity=0.5"], "leave sparsity out"),
        (["prune.pattern=4:2"], "0 < n < m"),
        (["prune.begin=0.8"], "before it begins"),
        (["prune=1.5"], "less than 1"),
        (["prune.pattern=2:4", "prune.end=0.5"], "pattern=2:4 prunes at once, at begin: leave end and frequency out"),
        (["prune.schedule=constant", "prune.frequency=5"], "schedule=constant prunes at once"),
    ):
        with pytest.raises(Usage, match=told):
            asking.ask([SMALL, *words], [], None, None)


def test_a_job_that_prunes_says_so_and_settles_when_the_ramp_ends() -> None:
    job = job_of("prune=0.7", "fit.epochs=10")
    found = job.plan.prune.apply(job)
    assert found.settled == 28 and found.first_epoch == 6 and job.first_epoch == 0
    assert found.notes == ("prune: 2 kernels (90.8% of the parameters) to 70% zeros, from step 1 to 28, every 1",)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: L.Dense(9)(L.Flatten()(x)),
        lambda x: L.Flatten()(L.Conv1D(8, 3)(x)),
        lambda x: L.Bidirectional(L.LSTM(5))(x),
        lambda x: L.Flatten()(L.MultiHeadAttention(2, 4)(x, x)),
        lambda x: L.Flatten()(L.SeparableConv1D(8, 3)(L.Rescaling(2.0)(x))),
        lambda x: keras.Sequential([keras.Input((6, 8)), L.Flatten(), L.Dense(7), L.BatchNormalization()])(x),
    ],
    ids=["Dense", "Conv1D", "Bidirectional", "attention", "preprocessing inside", "nested"],
)
def test_every_kernel_ends_with_the_sparsity_asked_for(build) -> None:
    inputs = keras.Input((6, 8))
    model = trained(keras.Model(inputs, build(inputs)), Prune(sparsity=0.75))
    for kernel in kernels.of(model):
        weight = kernel.weight.numpy()
        assert np.mean(weight == 0) == pytest.approx(0.75, abs=1 / weight.size)


def test_embeddings_are_pruned_too() -> None:
    inputs = keras.Input((5,), dtype="int64")
    model = trained(keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(L.Embedding(9, 4)(inputs)))), Prune())
    assert np.mean(model.layers[1].embeddings.numpy() == 0) == pytest.approx(0.8, abs=1 / 36)


def test_the_smallest_weights_go_and_those_that_are_gone_stay_gone() -> None:
    model = keras.Sequential([keras.Input((4,)), L.Dense(4, use_bias=False)])
    kernel = model.layers[0].kernel
    kernel.assign(np.arange(1, 17, dtype=np.float32).reshape(4, 4))
    model = trained(model, Prune(sparsity=0.5, schedule="constant"))
    assert np.array_equal(kernel.numpy() == 0, np.arange(16).reshape(4, 4) < 8)


def test_a_kernel_that_begins_as_zeros_learns_before_it_is_pruned() -> None:
    model = keras.Sequential([keras.Input((4,)), L.Dense(4, kernel_initializer="zeros", bias_initializer="ones")])
    trained(model, Prune(sparsity=0.5))
    assert np.mean(model.layers[0].kernel.numpy() == 0) == 0.5


@pytest.mark.parametrize("shape", ["dense", "conv", "attention"])
def test_two_of_four_in_a_row_stay_along_what_is_summed_up(shape: str) -> None:
    inputs = keras.Input((6, 6, 8) if shape == "conv" else (6, 8))
    layer = {
        "dense": L.Dense(5),
        "conv": L.Conv2D(5, 3),
        "attention": L.EinsumDense("abc,cde->abde", (None, 2, 4)),
    }[shape]
    model = trained(keras.Model(inputs, L.Flatten()(layer(inputs))), Prune(pattern="2:4"))
    weight = layer.kernel.numpy()
    assert np.mean(weight == 0) == 0.5
    matrix = weight.reshape(8, -1) if shape == "attention" else weight
    assert pruning_utils.is_pruned_m_by_n(tf.constant(matrix), (2, 4))
    assert np.count_nonzero(np.moveaxis(weight, -2 if shape == "conv" else 0, -1).reshape(-1, 4), -1).max() == 2
    assert model.count_params()


def test_kernels_with_short_rows_keep_out_of_a_pattern() -> None:
    job = job_of("prune.pattern=2:4")
    found = job.plan.prune.apply(job)
    assert "1 kernels" in found.notes[0] and "at step 1" in found.notes[0]
    with pytest.raises(Refused, match="no kernel has rows of 80"):
        wide = job_of("prune.pattern=2:80")
        wide.plan.prune.apply(wide)
