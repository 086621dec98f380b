"""Batches gathered inside the training function, where a step is so short that handing over its batch is much of it.

A dataset's iterator, its queue and the change of threads take about 60 µs a step on a CPU, as long as all of a small
model's arithmetic; the gathering alone takes a third of that. A step's number decides its batch either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any, Literal

import tensorflow as tf
import tf_keras as keras

from tfapp import fused, late_metrics
from tfapp.data.pipeline import Batches
from tfapp.data.queue import ENDLESS, Queue
from tfapp.job import Job
from tfapp.plan import Fit
from tfapp.runtime import Machine, on_cpus

# Above it the hand-over is nothing beside the step, and a queue lets the other cores gather.
MOST_BYTES = 2**20


def install(job: Job, callbacks: Sequence[Any], start: int, queue: Queue) -> tuple[Any, Any]:
    """What to give to the compiled model's `fit` as (training data, validation data), from step `start` on.

    On one CPU device a worker, with small batches of what is in memory, the model's functions for it are ones that gather;
    what `fit` is given then only counts. Otherwise it is the dataset, that of training through `queue`, and the function Keras's own.
    """
    model, machine, wanted = job.model, job.machine, job.plan.fit.gather

    def given(batches: Batches | None, kind: str, start: int = 0, queue: Queue | None = None) -> Any:
        if batches is None:
            return None
        if not chosen(batches, machine, wanted):
            if kind == "test":
                # Made where an execution happens to be of one step, as at the end of an epoch, it would take one for ever.
                model.make_test_function()
            return batches.distributed(machine, start, queue)
        name = f"{kind}_function"

        def make(self: Any, force: bool = False) -> Any:
            if getattr(self, name) is None or force:
                steps = _function(self, batches, kind, machine, start)
                setattr(self, name, steps if machine.workers == 1 else late_metrics.after(self, steps))
            return getattr(self, name)

        setattr(model, f"make_{name}", MethodType(make, model))
        counting = tf.data.Dataset.range(ENDLESS)
        # As it is, Keras would have TensorFlow share out its rows, of which it has none.
        return (
            counting if machine.workers == 1 else machine.strategy.distribute_datasets_from_function(lambda _: counting)
        )

    return given(job.train, "train", start, queue), given(job.validation, "test")


def _function(model: keras.Model, batches: Batches, kind: str, machine: Machine, start: int) -> Any:
    """As Keras makes it, and of the same name: as many steps as _steps_per_execution says, the outputs of the last."""
    step, counter = getattr(model, f"{kind}_step"), getattr(model, f"_{kind}_counter")

    def run(data: Any) -> Any:
        outputs = step(data)
        with tf.control_dependencies(tf.nest.flatten(outputs)):
            counter.assign_add(1)
        return outputs

    one = tf.function(run, jit_compile=True, reduce_retracing=True) if model.jit_compile else run

    def steps(iterator: Any) -> Any:
        # Keras sets the counter to 0 when a fit, or an evaluation, begins.
        first = start + tf.cast(counter, tf.int64)
        for number in tf.range(model._steps_per_execution):
            batch = batches.gathered(first + tf.cast(number, tf.int64), machine)
            outputs = model.distribute_strategy.run(one, args=(batch,))
        return outputs  # noqa: F821 (there is at least one step)

    steps.__name__ = f"{kind}_function"
    return tf.function(steps, reduce_retracing=True)


def chosen(batches: Batches, machine: Machine, wanted: str = "auto") -> bool:
    """Whether a step gathers its own batch: where it can, and is asked to or gains by it."""
    elsewhere = machine.devices > machine.workers or not on_cpus()
    size = None if wanted == "queue" or elsewhere else batches.bytes_held
    rows = batches.batch_size / machine.workers
    return size is not None and (wanted == "step" or size * rows <= MOST_BYTES * len(batches.examples))


def pace(fit: Fit) -> int | Literal["auto"]:
    """Steps that are run at once."""
    return fit.steps_per_execution


def line(job: Job, xla: str) -> str:
    """What was chosen to train fast (`xla`: the words for that choice), and the settings that choose otherwise."""
    fit = job.plan.fit
    kernel = fit.fused and fused.possible(job.optimizer)
    steps = "as many steps as take 0.25 s" if fit.steps_per_execution == "auto" else f"{fit.steps_per_execution} steps"
    return (
        f"{steps} at once (fit.steps_per_execution); "
        f"batches {'in the step' if chosen(job.train, job.machine, fit.gather) else 'by a queue'} (fit.gather); "
        f"optimizer {'fused' if kernel else 'as Keras composes it'} (fit.fused); {xla}"
    )
