"""The straight line from a plan to a finished run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfapp import export, features, stateless, worth
from tfapp import job as jobs
from tfapp.callbacks.best import Best, more_is_better
from tfapp.callbacks.checkpoint import Checkpoint
from tfapp.callbacks.diverged import Diverged
from tfapp.callbacks.pace import Pace
from tfapp.callbacks.progress import Progress
from tfapp.callbacks.record import Record
from tfapp.callbacks.stop import StopOnSignal
from tfapp.errors import Usage, nearest
from tfapp.job import Job
from tfapp.plan import Plan
from tfapp.run import Run


@dataclass(frozen=True)
class Trained:
    """What fit() leaves: the plain trained model, a row of numbers an epoch, and which epoch was best (from 1)."""

    model: keras.Model
    history: list[dict[str, float]]
    best_epoch: int | None
    seconds: float


def train(plan: Plan, recipe: ModuleType, run: Run, say: Any = print) -> dict[str, Any]:
    """Train a plan's recipe into a run directory, going on from its last checkpoint; returns the report.

    Args:
      plan: checked for conflicts. recipe: its loaded module. run: opened for this plan by `run.begin`.
      say: takes the lines worth showing before training.

    Raises:
      Expected: whatever a user can mend. Interrupted, Preempted: stopped with a checkpoint.
    """
    with plan.runtime.enter() as machine, run.recorded(machine):
        data = recipe.data(plan.config)
        run.describe(data)
        with machine.strategy.scope():
            job = features.apply(plan, jobs.of(plan, recipe, data, machine))
        jobs.announce(job, say)
        trained = fit(job, run)
        report = {}
        if machine.chief:
            model = export.whole(job.preprocess, trained.model, data.task)
            export.save(model, run.folder)
            report = worth.report(run, recipe, job, trained, model)
        machine.wait_for_all()
        return report


def fit(job: Job, run: Run) -> Trained:
    """Train a job to its end, from the run's last checkpoint if there is one. It knows no feature."""
    plan, machine, model = job.plan, job.machine, job.model
    with machine.strategy.scope():
        # A steps_per_execution of 1 would compile no loop, and the pace could not be changed any more.
        model.compile(
            job.optimizer,
            job.loss,
            weighted_metrics=list(job.metrics),
            steps_per_execution=2,
            jit_compile=plan.fit.jit,
        )
        _build(job)
        restore_generators = stateless.install(model, plan.runtime.seed, model.optimizer.iterations)
    for bind in job.bind:
        bind(model)
    monitor = _monitor(job)
    record = Record(run.folder if machine.chief else None)
    best = Best(monitor, plan.fit.mode, plan.fit.min_delta, run.file("checkpoints/best.npz"), plan.fit.restore_best)
    saved = [*job.callbacks, best, *_planned(job, monitor), record]
    checkpoint = Checkpoint(run.file("checkpoints"), machine.chief, plan.fit.checkpoint, len(job.train), saved)
    checkpoint.attach(model)
    start = checkpoint.restore()
    progress = Progress(plan.fit.epochs, job.total_steps, run.log(machine), show=machine.chief)
    stop = StopOnSignal(checkpoint)
    callbacks = [
        Pace(
            plan.fit.steps_per_execution, job.total_steps, plan.fit.checkpoint.every_steps, start, machine.workers == 1
        ),
        Diverged(job.train, run.file("diverged.json"), run.file("checkpoints")),
        *saved,
        progress,
        checkpoint,
        stop,
    ]
    began = time.perf_counter()
    if checkpoint.complete or start >= job.total_steps:
        checkpoint.restore_callbacks()
        best.set_model(model)
        best.on_train_end()
    else:
        try:
            model.fit(
                job.train.distributed(machine, start),
                epochs=plan.fit.epochs,
                steps_per_epoch=len(job.train),
                validation_data=job.validation.distributed(machine) if job.validation else None,
                validation_steps=len(job.validation) if job.validation else None,
                callbacks=callbacks,
                verbose=0,
            )
        finally:
            progress.close()
            stop.close()
        checkpoint.save(complete=True)
    seconds = time.perf_counter() - began
    for unwrap in reversed([jobs.forget_training, *job.unwrap, restore_generators]):
        model = unwrap(model)
    if machine.replicas > 1:
        model = jobs.on_one_device(model)
    return Trained(model, record.rows, best.epoch if plan.fit.restore_best else None, seconds)


def _build(job: Job) -> None:
    """Make the optimizer's and the metrics' variables now, so that a checkpoint finds them."""
    model = job.model
    model.optimizer.build(model.trainable_variables)
    labels = tf.zeros([1, *job.data.train.labels.shape[1:]], job.data.train.labels.dtype)
    outputs = tf.zeros([1, *job.model.output_shape[1:]])
    model.compiled_loss.build(outputs)
    model.compiled_metrics.build(outputs, labels)


def _planned(job: Job, monitor: str) -> list[keras.callbacks.Callback]:
    """Early stopping and reduce-on-plateau, where the plan asks for them."""
    fit = job.plan.fit
    mode = "max" if more_is_better(monitor, fit.mode) else "min"
    callbacks: list[keras.callbacks.Callback] = []
    if fit.patience:
        callbacks.append(keras.callbacks.EarlyStopping(monitor, fit.min_delta, fit.patience, mode=mode))
    if fit.schedule.kind == "plateau":
        schedule = fit.schedule
        lowest = schedule.final * float(job.optimizer.learning_rate)
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor, schedule.factor, schedule.patience, mode=mode, min_delta=fit.min_delta, min_lr=lowest
            )
        )
    return callbacks


def _monitor(job: Job) -> str:
    names = [metric.name for metric in job.model.metrics]
    names += [f"val_{name}" for name in names] if job.validation else []
    if job.monitor not in names:
        raise Usage(f"fit.monitor={job.monitor!r} is none of this run's numbers\n{nearest(job.monitor, names)}")
    return job.monitor
