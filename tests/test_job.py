"""A recipe's parts become one job, or a line that says which part does not fit."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given
from hypothesis import strategies as st

from tfapp import job as jobs
from tfapp import validate
from tfapp.cli import asking
from tfapp.errors import Failed, Refused
from tfapp.job import Job
from tfapp.recipe import Training
from tfapp.runtime import Machine

SMALL = str(Path(__file__).parent / "fixtures" / "small.py")
ONE = Machine(tf.distribute.get_strategy(), 1)


def made(*words: str, machine: Machine = ONE, **parts: Any) -> Job:
    """The small recipe's job, with some of its parts replaced."""
    _, module, plan, _ = asking.ask([SMALL, *words], [], None, None)
    recipe = ModuleType("changed")
    vars(recipe).update({**vars(module), **parts})
    return jobs.of(plan, recipe, recipe.data(plan.config), machine)


@pytest.mark.moderate
def test_the_steps_of_a_run_are_those_of_its_epochs_or_fewer_when_asked() -> None:
    assert made().total_steps == 3 * len(made().train) == 12
    assert made("fit.steps=5").total_steps == 5
    assert made("fit.steps=500").total_steps == 12


@pytest.mark.moderate
def test_the_validation_is_scaled_for_an_exact_mean_and_neither_shuffled_nor_augmented() -> None:
    job = made()
    assert job.validation is not None and job.validation.exact_mean
    assert not job.validation.shuffle and job.validation.augment is None and job.validation.class_weights is None
    assert job.train.shuffle and job.train.augment is not None and job.train.seed == 0
    assert made("config.split.validation=0").validation is None
    assert made("flip=false").train.augment is None


def test_balanced_classes_weigh_the_same_in_sum_and_one_never_seen_breaks_nothing() -> None:
    job = made("fit.class_weight=balanced")
    labels = np.array([0, 0, 0, 1])
    data = replace(job.data, train=replace(job.data.train, features=np.zeros((4, 1)), labels=labels, names=None))
    weights = jobs._class_weights(job.plan, data)
    assert weights.dtype == np.float32 and weights[:2] == pytest.approx([4 / 9, 4 / 3]) and np.isfinite(weights).all()
    assert made().train.class_weights is None


def test_class_weights_of_a_regression_are_refused() -> None:
    job = made("fit.class_weight=balanced")
    with pytest.raises(Refused, match="has no classes\nleave it out: fit.class_weight=none"):
        jobs._class_weights(job.plan, replace(job.data, task="regression"))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda config, inputs, data: None, "gave NoneType, not a tf_keras Model"),
        (lambda config, inputs, data: keras.Model(inputs, inputs), r"gives \(6, 6, 1\) an example, but 'label' needs \(3,\)"),
        (
            lambda config, inputs, data: keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(inputs))),
            "a logit a class\nend the model in keras.layers.Dense",
        ),
        (lambda config, inputs, data: keras.Model(inputs, [inputs, inputs]), "gives 2 outputs an example"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_the_data_is_told_what_would(model: Any, said: str) -> None:
    with pytest.raises(Failed, match=said):
        made(model=model)


@pytest.mark.moderate
def test_layers_are_called_the_same_whatever_was_built_before() -> None:
    first, second = made(), made()
    assert [layer.name for layer in first.model.layers] == [layer.name for layer in second.model.layers]


def trained_by(*metrics: Any) -> Any:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return lambda config, data: Training(keras.optimizers.SGD(), loss, metrics)


class Ours(keras.metrics.Metric):
    """One that takes no weights."""

    def update_state(self, labels, outputs):
        pass

    def result(self):
        return 0.0


@pytest.mark.moderate
@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (lambda: keras.metrics.Precision(), "metric Precision does not take labels of int64 \\[n\\] and outputs \\[n, 3\\]: "),
        (lambda: keras.metrics.F1Score(), "metric F1Score does not take .*dtype"),
        (lambda: keras.metrics.MeanIoU(3), "metric MeanIoU does not take .*Shapes"),
        (Ours, "metric Ours does not take .*'sample_weight'\nit gets what the loss gets, and weights"),
    ],
)  # fmt: skip
def test_a_metric_that_does_not_fit_the_data_is_told_with_one_that_does(metric: Any, said: str) -> None:
    with pytest.raises(Failed, match=said) as told:
        made(training=trained_by(metric()))
    assert len(str(told.value).splitlines()) <= 3 and "SparseCategoricalAccuracy" in str(told.value)


def test_metrics_of_one_name_are_told() -> None:
    two = trained_by(keras.metrics.SparseCategoricalAccuracy("a"), keras.metrics.SparseTopKCategoricalAccuracy(2, "a"))
    with pytest.raises(Failed, match="need a name each, but 'a' is there twice"):
        made(training=two)
    with pytest.raises(Failed, match="but 'loss' is there twice"):
        made(training=trained_by(keras.metrics.SparseCategoricalAccuracy("loss")))


def test_a_metric_that_fits_has_seen_nothing_when_the_training_begins() -> None:
    metrics = [keras.metrics.SparseCategoricalAccuracy("accuracy"), keras.metrics.SparseTopKCategoricalAccuracy(2, "2")]
    job = made(training=trained_by(*metrics))
    assert job.metrics == tuple(metrics)
    assert all(float(tf.reduce_sum(weight)) == 0 for metric in metrics for weight in metric.weights)


@pytest.mark.moderate
@pytest.mark.parametrize(
    ("augment", "said"),
    [
        (lambda image: image, "gave <lambda>, which is no function of features and seed\naugment\\(config\\) returns"),
        (tf.constant(1), "gave EagerTensor, which is no function"),
        (lambda image, seed: tf.cast(image, tf.uint8), r"makes uint8 \[6, 6, 1\] of features of float32 \[6, 6, 1\]\nend it"),
        (lambda image, seed: image[:4], r"makes float32 \[4, 6, 1\] of features of float32 \[6, 6, 1\]\nend it"),
        (lambda image, seed: (image, seed), "makes tuple of 2 of features"),
        (lambda image, seed: None, "makes NoneType of features"),
        (
            lambda image, seed: tf.image.stateless_random_crop(image, [9, 9, 1], seed),
            r"does not take features of float32 \[6, 6, 1\]: ",
        ),
        (keras.layers.RandomFlip(), "does not take features of"),
    ],
)  # fmt: skip
def test_an_augmentation_that_does_not_fit_is_told_what_would(augment: Any, said: str) -> None:
    with pytest.raises(Failed, match=said) as told:
        made(augment=lambda config: augment)
    assert len(str(told.value).splitlines()) <= 3


def test_an_error_in_the_recipe_s_own_augmentation_is_told_with_its_line(tmp_path: Path) -> None:
    text = Path(SMALL).read_text().replace("return lambda image, seed:", "return lambda image, seed: image.sise or")
    (tmp_path / "mine.py").write_text(text)
    line = next(n for n, one in enumerate(text.splitlines(), 1) if "image.sise" in one)
    _, module, plan, _ = asking.ask([str(tmp_path / "mine.py")], [], None, None)
    with pytest.raises(Failed, match=rf"mine.py:{line} failed: AttributeError: .*sise"):
        jobs.of(plan, module, module.data(plan.config), ONE)


def test_a_batch_of_several_replicas_must_share_out_evenly() -> None:
    with pytest.raises(Refused, match="use fit.batch_size=18 or 15"):
        made("fit.batch_size=16", machine=Machine(None, 3))
    with pytest.raises(Refused, match="use fit.batch_size=4$"):
        made("fit.batch_size=3", machine=Machine(None, 4))


def test_half_precision_gives_logits_in_float32() -> None:
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = made("runtime.precision=bfloat16").model
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert model.output.dtype == tf.float32


def test_what_is_trained_is_announced_with_how_a_batch_is_shared_out(capsys) -> None:
    said: list[str] = []
    job = made()
    jobs.announce(job, said.append)
    assert said == [
        "54 training, 18 validation, 18 test examples; 3 classes of label",
        "251 parameters, float32; global batch 16 (1 replica), 4 steps an epoch, 12 steps at most",
    ]
    jobs.announce(replace(job, machine=Machine(None, 4)), said.append)
    assert "global batch 16 (4 replicas × 4)" in said[-1]
    dropped = (SimpleNamespace(name="a.png", reason="truncated"),)
    jobs.announce(replace(job, data=replace(job.data, dropped=dropped, notes=("mind this",))), said.append)  # type: ignore[arg-type]
    assert said[4:6] == ["mind this", "left out 1 examples, as a.png (truncated); all are in dropped.csv"]


@pytest.mark.moderate
def test_a_trained_model_forgets_its_optimizer_and_is_saved_without_it(tmp_path: Path) -> None:
    job = made()
    model = job.model
    model.compile(keras.optimizers.Adam(), job.loss)
    jobs.count_each_example_once(model)
    model.fit(job.train.dataset(), steps_per_epoch=1, verbose=0)
    jobs.forget_training(model)
    keras.Model(model.input, model.output).save(tmp_path / "m.keras")
    model.save(tmp_path / "model.keras")
    assert (tmp_path / "model.keras").stat().st_size < 1.3 * (tmp_path / "m.keras").stat().st_size
    assert not model._is_compiled


@pytest.mark.moderate
def test_a_trained_job_holds_its_examples_only_as_they_were_read() -> None:
    job = made()
    left = jobs.without_batches(job)
    assert left.train.examples is job.data.train and left.validation is None and left.data is job.data
    assert (left.model, left.preprocess, left.plan) == (job.model, job.preprocess, job.plan)


@pytest.mark.moderate
def test_a_validated_plan_is_described_with_its_memory() -> None:
    found = validate.describe(made())
    assert found["batch"] == {"global": 16, "replicas": 1, "per_replica": 16, "inputs": "float32 [16, 6, 6, 1]"}
    memory = found["memory"]
    assert memory["weights"] == 251 * 4
    assert memory["gradients"] == 243 * 4 and memory["optimizer"] == 243 * 4  # SGD's momentum; 8 are moving statistics.
    # Input 36, convolution, normalisation, ReLU, flattening and dropout 64 each, logits 3; for 16 rows of 4 bytes.
    assert memory["activations"] == (36 + 5 * 64 + 3) * 16 * 4
    text = "\n".join(validate.lines(found))
    assert "parameters: 251 (243 trainable)" in text and "the plan is sound" in text


@pytest.mark.moderate
def test_a_layer_that_is_called_twice_keeps_two_outputs() -> None:
    def twice(config, inputs, data):
        dense = keras.layers.Dense(1)
        return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(dense(dense(inputs)))))

    assert validate.describe(made(model=twice))["memory"]["activations"] == (36 + 36 + 36 + 36 + 3) * 16 * 4


def test_the_description_of_several_replicas_is_of_one() -> None:
    found = validate.describe(replace(made(), machine=Machine(None, 2)))
    assert found["batch"]["per_replica"] == 8 and found["batch"]["inputs"] is None


@given(n=st.integers(1, 10_000), replicas=st.integers(1, 8), share=st.integers(1, 512))
def test_validation_takes_no_more_steps_and_fills_up_less_than_a_row_a_step_and_replica(n, replicas, share) -> None:
    rows = jobs._evenly(n, replicas * share, replicas)
    steps = math.ceil(n / (replicas * share))
    assert rows % replicas == 0 and rows <= replicas * share
    assert math.ceil(n / rows) <= steps and rows * steps - n < replicas * steps


def test_xla_on_several_cpu_replicas_is_refused_in_words() -> None:
    with pytest.raises(Refused, match="runtime.strategy=single"):
        made("fit.jit=true", machine=Machine(ONE.strategy, 2))
