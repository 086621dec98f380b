"""The straight line from a plan to a finished run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfapp import asynchronous, batch_size, environment, features, gathered, identical, stateless, worth, xla
from tfapp import job as jobs
from tfapp import recipe as recipes
from tfapp import watch as watches
from tfapp.callbacks.beat import Beat
from tfapp.callbacks.best import Best
from tfapp.callbacks.checkpoint import Checkpoint
from tfapp.callbacks.diverged import Diverged
from tfapp.callbacks.pace import Pace
from tfapp.callbacks.pause import Pause, Watch
from tfapp.callbacks.profile import Profile
from tfapp.callbacks.progress import Progress
from tfapp.callbacks.record import Record
from tfapp.callbacks.stop import StopOnSignal
from tfapp.callbacks.waiting import Waiting
from tfapp.data.pipeline import readable
from tfapp.direction import more_is_better
from tfapp.job import Job
from tfapp.launch import signs
from tfapp.plan import Plan
from tfapp.run import Run
from tfapp.runtime import Machine


@dataclass(frozen=True)
class Trained:
    """What fit() leaves: the plain trained model, a row of numbers an epoch, and which epoch was best (from 1)."""

    model: keras.Model
    history: list[dict[str, float]]
    best_epoch: int | None
    seconds: float


def train(
    plan: Plan,
    recipe: ModuleType,
    run: Run,
    say: Any = print,
    watch: Watch | None = None,
    finish: Callable[[Run, ModuleType, Job, Trained], dict[str, Any]] = worth.shipped,
    profile: int | None = None,
) -> dict[str, Any]:
    """Train a plan's recipe into a run directory, going on from its last checkpoint; returns the report.

    Args:
      plan: checked for conflicts. recipe: its loaded module. run: opened for this plan by `run.begin`.
      say: takes the lines worth showing before training.
      watch: sees the numbers of every epoch and may pause the training; then nothing else is shown of it.
      finish: what becomes of the trained model, on the first worker: by default it is exported and measured.
      profile: of how many steps a TensorBoard profile is written; None: of none.

    Raises:
      Expected: whatever a user can mend, in the recipe too. Interrupted, Preempted, Paused: stopped with a checkpoint.
    """
    with plan.runtime.enter() as machine, run.recorded(machine), recipes.at_work(recipe):
        plan = batch_size.settle(plan, recipe, run, machine, say)
        data = features.data(plan, recipe)
        environment.give_back_memory()
        if machine.chief:
            run.describe(data)
        with machine.strategy.scope():
            job = features.apply(plan, jobs.of(plan, recipe, data, machine, run.folder))
        if machine.chief:
            jobs.announce(job, say)
        with readable(data):
            trained = fit(job, run, say, watch, profile)
            identical.check(trained.model, machine, run.log(machine))
            job = jobs.without_batches(job)
            environment.give_back_memory()
            report = finish(run, recipe, job, trained) if machine.chief else {}
        machine.wait_for_all()
        return report


def fit(job: Job, run: Run, say: Any = print, watch: Watch | None = None, profile: int | None = None) -> Trained:
    """Train a job to its end, from the run's last checkpoint if there is one. It knows no feature."""
    plan, machine, model = job.plan, job.machine, job.model
    feeding = _feeding(machine)
    restore_generators = compiled(job)
    monitor = job.monitor
    record = Record(run.folder if machine.chief else None, job.tells_training)
    best = Best(
        monitor,
        plan.fit.mode,
        plan.fit.min_delta,
        run.file("checkpoints/best.npz"),
        plan.fit.restore_best,
        job.first_epoch,
    )
    saved = [*job.callbacks, best, *_planned(job, monitor), record]
    checkpoint = Checkpoint(run.file("checkpoints"), machine, plan.fit.checkpoint, len(job.train), saved)
    checkpoint.attach(model)
    start = checkpoint.restore(say)
    shown = machine.chief and watch is None
    progress = Progress(plan.fit.epochs, job.total_steps, run.log(machine), shown, job.tells_training)
    stop = StopOnSignal(checkpoint, machine)
    waits = machine.workers > 1 or machine.coordinator or signs.launched()
    beat = Beat(watches.seconds(watches.HANG) if waits else None)
    waiting = Waiting(job.train, machine, say if shown else lambda line: None)
    profiles = [Profile(profile, run.file("tensorboard"), machine)] if profile else []
    callbacks = [
        Pace(
            feeding.pace(plan.fit),
            job.total_steps,
            plan.fit.checkpoint.every_steps,
            start,
            machine.workers == 1,
        ),
        *profiles,
        waiting,
        Diverged(job.train, run.file("diverged.json"), run.file("checkpoints"), exact=not machine.coordinator),
        *saved,
        progress,
        beat,
        checkpoint,
        stop,
        *([Pause(watch, record, checkpoint, machine, job.total_steps)] if watch else []),
    ]
    if checkpoint.ended or start >= job.total_steps:
        checkpoint.restore_callbacks()
        best.set_model(model)
        best.on_train_end()
    else:
        training, validation = feeding.install(job, callbacks, start, waiting.queue)
        chosen = xla.settle(job, run, training, start)
        if machine.chief:
            say(feeding.line(job, chosen))
        try:
            model.fit(
                training,
                epochs=plan.fit.epochs,
                steps_per_epoch=len(job.train),
                validation_data=validation,
                validation_steps=len(job.validation) if job.validation else None,
                callbacks=callbacks,
                verbose=0,
            )
        finally:
            progress.close()
            beat.close()
            stop.close()
            checkpoint.close()
            for one in profiles:
                one.close()
        for one in profiles:
            one.note(run)
        waiting.note(run)
    if not checkpoint.complete:
        checkpoint.save(complete=True)
        checkpoint.wait()
    for unwrap in reversed([jobs.forget_training, *job.unwrap, restore_generators]):
        model = unwrap(model)
    if not machine.one_device:
        model = jobs.on_one_device(model)
    # Of the epochs and not of this process: the training may have begun in another.
    seconds = sum(row["seconds"] for row in record.rows)
    return Trained(model, record.rows, best.epoch if plan.fit.restore_best else None, seconds)


def _feeding(machine: Machine) -> ModuleType:
    """How steps come by their batches: `line`, `pace` and `install`."""
    return asynchronous if machine.coordinator else gathered


def compiled(job: Job) -> Callable[[keras.Model], keras.Model]:
    """Compile a job's model with the step that the engine trains by; returns what puts its generators back."""
    plan, model = job.plan, job.model
    xla.widen()
    with job.machine.strategy.scope():
        # A steps_per_execution of 1 would compile no loop, and the pace could not be changed any more.
        model.compile(
            job.optimizer,
            job.loss,
            weighted_metrics=list(job.metrics),
            steps_per_execution=2,
            jit_compile=plan.fit.jit is True,
        )
        _build(job)
        restore_generators = stateless.install(model, plan.runtime.seed, model.optimizer.iterations)
    for bind in job.bind:
        bind(model)
    return restore_generators


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
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor, fit.min_delta, fit.patience, mode=mode, start_from_epoch=job.first_epoch
            )
        )
    if fit.schedule.kind == "plateau":
        schedule = fit.schedule
        lowest = schedule.final * float(job.optimizer.learning_rate)
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor, schedule.factor, schedule.patience, mode=mode, min_delta=fit.min_delta, min_lr=lowest
            )
        )
    return callbacks
