"""Job: everything that fit() needs, as one value that features can change."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras.src.engine import compile_utils

from tfapp import accumulate, batch_size, batch_statistics, fused, late_metrics, recompute, tasks
from tfapp.data.examples import Data
from tfapp.data.pipeline import Batches
from tfapp.errors import Expected, Failed, Refused, Usage, nearest
from tfapp.mesh import layout, weights
from tfapp.optimizers import clip_whole_gradients, planned
from tfapp.plan import Fit, Plan
from tfapp.preprocess import Preprocess, example, in_words, of_tf_keras
from tfapp.recipe import Training, at_work, gist
from tfapp.runtime import Machine, on_cpus
from tfapp.settings import Settings

# What a Training is made of, and what one looks like.
PARTS = {
    "optimizer": (keras.optimizers.Optimizer, "keras.optimizers.Adam(1e-3)"),
    "loss": (keras.losses.Loss, "keras.losses.SparseCategoricalCrossentropy(from_logits=True)"),
    "metric": (keras.metrics.Metric, 'keras.metrics.SparseCategoricalAccuracy("accuracy")'),
}


@dataclass(frozen=True)
class Job:
    """One training, ready to run.

    Attributes:
      plan, machine, data: what was asked for, where it runs, on what.
      preprocess: from raw features to the model's inputs; part of the exported model.
      model: from inputs to float32 logits (classification, language) or values (regression), not compiled.
      optimizer, loss, metrics: as Keras takes them; the optimizer is not built.
      train, validation: the batches; validation is None where there are no such examples.
      bind: what is done to the compiled model before it trains, in this order.
      callbacks: what features add, in the order in which it is called.
      unwrap: what makes the trained model plain again, called in reverse order.
      settled: the step from which the model is what it is to be; no epoch that ends before can be the best.
      notes: what features have to say before training.
      tells_training: whether losses and scores over the training examples are shown and written.
      folder: the run's, for what a feature keeps there; None where there is no run (a measurement).
    """

    plan: Plan
    machine: Machine
    data: Data
    preprocess: Preprocess
    model: keras.Model
    optimizer: Any
    loss: Any
    metrics: tuple[Any, ...]
    train: Batches
    validation: Batches | None
    bind: tuple[Callable[[keras.Model], None], ...] = ()
    callbacks: tuple[keras.callbacks.Callback, ...] = ()
    unwrap: tuple[Callable[[keras.Model], keras.Model], ...] = ()
    settled: int = 0
    notes: tuple[str, ...] = ()
    tells_training: bool = True
    folder: Path | None = None

    @property
    def first_epoch(self) -> int:
        """The first epoch, from 0, that can be the best: it ends with the model settled, or is the last."""
        last = math.ceil(self.total_steps / len(self.train)) - 1
        return min(last, max(0, math.ceil(self.settled / len(self.train)) - 1))

    @property
    def compiled(self) -> bool:
        """Whether XLA is certain to compile the step, so that all its shapes are fixed and it has no strings."""
        return self.plan.fit.jit is True or bool(tf.config.list_logical_devices("TPU"))

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        fit = self.plan.fit
        return min(fit.steps or fit.epochs * len(self.train), fit.epochs * len(self.train))

    @property
    def monitor(self) -> str:
        """The value that decides what is best: as planned, or the loss where there is no validation.

        Raises:
          Usage: it is none of this run's numbers.
        """
        wanted = self.plan.fit.monitor if self.validation else self.plan.fit.monitor.removeprefix("val_")
        names = ["loss", *(getattr(metric, "name", metric) for metric in (*self.metrics, *self.model.metrics))]
        names += [f"val_{name}" for name in names] if self.validation else []
        if wanted not in names:
            raise Usage(f"fit.monitor={wanted!r} is none of this run's numbers\n{nearest(wanted, names)}")
        return wanted


def of(plan: Plan, recipe: ModuleType, data: Data, machine: Machine, folder: Path | None = None) -> Job:
    """The recipe's data, model and training as one job, before any feature; called in the strategy's scope.

    Raises:
      Refused: the global batch cannot be shared out evenly, or XLA cannot compile for these devices. Failed: a part of the recipe does not fit the data.
    """
    batch_size.shareable(plan, machine.replicas)
    _compilable(plan, machine)
    # Layers have the same names whatever was built in this process before: settings name them.
    keras.backend.reset_uids()
    preprocess = Preprocess.of(recipe, plan.config, data)
    inputs = preprocess.inputs()
    made = partial(_checked, recipe, plan.config, inputs, data)
    model = made() if machine.parts == 1 else layout.shared_out(recipe, plan.config, made)
    notes = () if machine.parts == 1 else (layout.line(model, machine),)
    training = _taught(recipe.training(plan.config, data), data)
    train, validation = _batches(plan, recipe, data, preprocess, machine.replicas)
    job = Job(
        plan=plan,
        machine=machine,
        data=data,
        preprocess=preprocess,
        model=model,
        optimizer=training.optimizer,
        loss=training.loss,
        metrics=tuple(training.metrics),
        train=train,
        validation=validation,
        bind=_bindings(plan.fit, model, machine),
        notes=notes,
        folder=folder,
    )
    return replace(job, optimizer=planned(job.optimizer, plan.fit, len(train), job.total_steps))


def _compilable(plan: Plan, machine: Machine) -> None:
    """Refuse XLA where it fails with an error of its own: a step on one CPU device reaches for another's variables."""
    if plan.fit.jit is True and machine.devices > 1 and on_cpus():
        raise Refused(
            f"fit.jit=true with {machine.replicas} replicas on CPUs, for which XLA cannot compile a step\n"
            "leave fit.jit out, or train with one replica: runtime.strategy=single"
        )


def count_each_example_once(model: keras.Model) -> None:
    """Let a compiled model take the pipeline's two kinds of weights: one for the loss, one for the metrics."""

    def compute_loss(self, x, y, y_pred, weights):
        return type(self).compute_loss(self, x, y, y_pred, weights["loss"])

    def compute_metrics(self, x, y, y_pred, weights):
        return type(self).compute_metrics(self, x, y, y_pred, weights["metrics"])

    model.compute_loss = MethodType(compute_loss, model)
    model.compute_metrics = MethodType(compute_metrics, model)


def forget_training(model: keras.Model) -> keras.Model:
    """Take off a trained model what only training needs, and what would be saved with it (Adam's slots are twice its size)."""
    own = (
        "compute_loss",
        "compute_metrics",
        "get_metrics_result",
        "train_step",
        "make_train_function",
        "make_test_function",
    )
    for bound in own:
        model.__dict__.pop(bound, None)
    # They hold the graphs of the steps, and what these have of the examples.
    model.train_function = model.test_function = model.train_tf_function = None
    recompute.forget(model)
    model.optimizer = model.compiled_loss = model.compiled_metrics = None
    model._delete_tracking("optimizer")  # Keras keeps it for saving even where the attribute is None.
    model._is_compiled = False
    return model


def without_batches(job: Job) -> Job:
    """A trained job, whose preprocessed examples are let go: what comes after takes them as they were read, smaller."""
    train = Batches(job.data.train, job.train.batch_size)
    return replace(job, train=train, validation=None, bind=(), callbacks=(), unwrap=())


def on_one_device(model: keras.Model) -> keras.Model:
    """A copy of the model outside the strategy. Every worker must call it: reading batch statistics is collective."""
    copy = layout.whole(model)
    copy.set_weights(model.get_weights())
    return copy


def _bindings(fit: Fit, model: keras.Model, machine: Machine) -> tuple[Callable[[keras.Model], None], ...]:
    bind: list[Callable[[keras.Model], None]] = [
        count_each_example_once,
        *([fused.install] if fit.fused else []),
        clip_whole_gradients,
    ]
    if machine.devices > 1:
        bind += [late_metrics.install, partial(batch_statistics.share, replicas=machine.devices)]
    if machine.parts > 1:
        bind.append(weights.install)
    if fit.accumulate > 1:
        accumulate.check(model)
        bind.append(partial(accumulate.install, parts=fit.accumulate))
    return tuple(bind)


def _checked(recipe: ModuleType, config: Settings, inputs: Any, data: Data) -> keras.Model:
    """The recipe's model, which gives what the task needs, in float32."""
    model = of_tf_keras(recipe.model(config, inputs, data), "model()")
    outputs = model(inputs)
    given = tuple(outputs.shape[1:]) if hasattr(outputs, "shape") else f"{len(outputs)} outputs"
    task = tasks.of(data.task)
    if given != task.shape(data):
        raise Failed(
            f"the recipe's model gives {given} an example, but {data.target!r} needs "
            f"{task.shape(data)}: {task.ANSWER}\nend the model in {task.LAST}"
        )
    if outputs.dtype != "float32":
        # Softmax and loss in 16 bits lose what mixed precision is meant to keep.
        outputs = keras.layers.Activation("linear", dtype="float32", name="float32")(outputs)
        model = keras.Model(inputs, outputs, name=model.name)
    return model


def _taught(made: Any, data: Data) -> Training:
    """The recipe's training(), whose parts Keras will take."""
    if not isinstance(made, Training):
        raise Failed(
            f"the recipe's training() gave {type(made).__name__}, not a Training\n"
            "end it in: return Training(optimizer, loss, metrics)"
        )
    for part, value in [("optimizer", made.optimizer), ("loss", made.loss), *(("metric", m) for m in made.metrics)]:
        kind, example = PARTS[part]
        if not isinstance(value, kind):
            given = repr(value) if isinstance(value, str) else f"{type(value).__module__}.{type(value).__name__}"
            raise Failed(
                f"the recipe's {part} is {given}\ngive an object of tf_keras (not of its legacy part), as {example}"
            )
    labels = tf.constant(data.train.labels[:2])
    shape = [len(labels), *tasks.of(data.task).shape(data)]
    # Logits on both sides of 0.
    outputs = tf.reshape(tf.linspace(-2.0, 2.0, math.prod(shape)), shape)
    try:
        made.loss.call(labels, outputs)
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        wanted = (
            "class numbers want SparseCategoricalCrossentropy(from_logits=True)" if data.classes else "see training()"
        )
        raise Failed(
            f"the recipe's loss {type(made.loss).__name__} does not take labels of {labels.dtype.name} {_sizes(labels)} and "
            f"outputs {_sizes(outputs)}: {str(error).strip().splitlines()[0]}\n{wanted}"
        ) from error
    _told_apart(made.metrics)
    for metric in made.metrics:
        _measures(metric, labels, outputs, data)
    return made


def _told_apart(metrics: Sequence[Any]) -> None:
    names = ["loss", *(metric.name for metric in metrics)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise Failed(
            f"the recipe's metrics and its loss need a name each, but {twice!r} is there twice\n"
            'name them, as keras.metrics.SparseTopKCategoricalAccuracy(3, name="top_3")'
        )


def _measures(metric: Any, labels: tf.Tensor, outputs: tf.Tensor, data: Data) -> None:
    """Let a metric see two examples, as Keras will show it all of them."""
    container = compile_utils.MetricsContainer(None, [metric])

    @tf.function
    def see() -> Any:
        how = {"sample_weight": tf.ones([len(labels)])}
        return tf.distribute.get_strategy().run(container.update_state, (labels, outputs), how)

    try:
        container.build(outputs, labels)
        see()
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        wanted = (
            'keras.metrics.SparseCategoricalAccuracy("accuracy")'
            if data.classes
            else 'keras.metrics.MeanAbsoluteError("mae")'
        )
        raise Failed(
            f"the recipe's metric {type(metric).__name__} does not take labels of {labels.dtype.name} {_sizes(labels)} and "
            f"outputs {_sizes(outputs)}: {gist(error)}\nit gets what the loss gets, and weights; one that does: {wanted}"
        ) from error
    metric.reset_state()


def _sizes(tensor: tf.Tensor) -> str:
    return f"[{', '.join(['n', *map(str, tensor.shape[1:])])}]"


def _evenly(n: int, most: int, replicas: int) -> int:
    """The smallest batch size that takes no more steps for n examples than `most` does: little of it is filling."""
    steps = max(1, math.ceil(n / most))
    return max(1, math.ceil(n / steps / replicas)) * replicas


def _batches(
    plan: Plan, recipe: ModuleType, data: Data, preprocess: Preprocess, replicas: int
) -> tuple[Batches, Batches | None]:
    fit, seed, size = plan.fit, plan.runtime.seed, batch_size.number(plan)
    augment = recipe.augment(plan.config) if hasattr(recipe, "augment") else None
    if augment is not None:
        _changes(augment, recipe, example(data.train))
    train = Batches(data.train, size, seed, fit.shuffle, augment, class_weights=_class_weights(plan, data))
    # A batch that is too large to train on at once may be too large to evaluate.
    rows = _evenly(len(data.validation), size // fit.accumulate, replicas)
    validation = Batches(data.validation, rows, exact_mean=True) if len(data.validation) else None
    return preprocess.before(train), preprocess.before(validation) if validation else None


def _changes(augment: Any, recipe: ModuleType, batch: Any) -> None:
    """Let the recipe's augmentation change one example (a batch of one), as the pipeline will."""
    advice = "augment(config) returns a function: features of one example, seed int32[2] → features of the same kind"
    try:
        inspect.signature(augment).bind("features", "seed")
    except (TypeError, ValueError):
        given = getattr(augment, "__name__", type(augment).__name__)
        raise Failed(
            f"the recipe's augment() gave {given}, which is no function of features and seed\n{advice}"
        ) from None
    features = tf.nest.map_structure(lambda column: column[0], batch)
    try:
        with at_work(recipe):
            changed = tf.function(augment)(features, tf.constant([0, 0]))
    except Expected:
        raise
    except Exception as error:
        raise Failed(
            f"the recipe's augment does not take features of {in_words(features)}: {gist(error)}\n{advice}"
        ) from error
    if in_words(changed) != in_words(features):
        raise Failed(
            f"the recipe's augment makes {in_words(changed)} of features of {in_words(features)}\n"
            "end it in tf.cast(changed, features.dtype) or tf.ensure_shape(changed, features.shape), whichever is amiss"
        )


def _class_weights(plan: Plan, data: Data) -> np.ndarray | None:
    if plan.fit.class_weight == "none":
        return None
    if data.task != "classification":
        raise Refused(
            f"fit.class_weight={plan.fit.class_weight} on a {data.task} task, which has no classes\n"
            "leave it out: fit.class_weight=none"
        )
    counts = np.bincount(data.train.labels, minlength=data.outputs)
    return (len(data.train) / (data.outputs * np.maximum(counts, 1))).astype(np.float32)


def announce(job: Job, say: Callable[[str], None]) -> None:
    """Say what is about to be trained, on what, and how a batch is shared out."""
    data, plan, machine, size = job.data, job.plan, job.machine, batch_size.number(job.plan)
    for note in data.notes:
        say(note)
    if data.dropped:
        first = data.dropped[0]
        say(f"left out {len(data.dropped)} examples, as {first.name} ({first.reason}); all are in dropped.csv")
    what = f"{len(data.classes)} classes" if data.classes else "regression"
    say(
        f"{len(data.train):,} training, {len(data.validation):,} validation, {len(data.test):,} test examples; "
        f"{what} of {data.target}"
    )
    alone = "1 replica" if machine.coordinator is None else "one worker's"
    replicas = f"{machine.replicas} replicas × {size // machine.replicas}" if machine.replicas > 1 else alone
    parts = f" in {plan.fit.accumulate} parts" if plan.fit.accumulate > 1 else ""
    say(
        f"{job.model.count_params():,} parameters, {plan.runtime.precision}; global batch {size} "
        f"({replicas}{parts}), {len(job.train)} steps an epoch, {job.total_steps:,} steps at most"
    )
    for note in job.notes:
        say(note)
