"""Asynchronous training: workers take steps at their own pace, on variables that parameter servers hold (Dean et al. 2012).

The chief hands out steps, a batch of the plan's size each, to whichever worker is free; two workers may compute on weights
that the other is changing. A worker's death costs the steps it was at, which another takes instead: with its own batches,
and again where some of it was done.

Each worker goes through steps of its own of the input: of N workers, number w (from 0) takes the batches of steps
f + w, f + w + N, …, where f is the step at which its input was begun. So all examples are seen about once an epoch: exactly so
only if the workers are equally fast. One that comes back begins at the job's step then.

Validation, checkpoints and all that follows are the chief's, which reads the weights from the servers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from types import MethodType
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfapp import fused
from tfapp.data.pipeline import Batches
from tfapp.data.queue import Queue
from tfapp.job import Job
from tfapp.plan import Fit

# For each worker: one to be at, and one that waits for it. More would only make the numbers shown older.
AHEAD = 2


def install(job: Job, callbacks: Sequence[Any], start: int, queue: Queue) -> tuple[Any, Any]:
    """What to give to the compiled model's `fit` as (training data, validation data).

    The model's functions are changed for it, and the callbacks let into a fit of this strategy: Keras keeps out those that
    look at each step's numbers, which are in other processes. Here they have come when a callback sees them. So are the
    queues before the workers: `queue` stays empty.
    """
    model, machine, train, validation = job.model, job.machine, job.train, job.validation
    for callback in callbacks:
        callback._supports_tf_logs = True
    workers = machine.strategy._extended._num_workers
    step = model.optimizer.iterations

    def share(context: Any) -> Any:
        # Asked for again on a worker that comes back: it goes on from where the others are.
        worker = tf.distribute.coordinator.experimental_get_current_worker_index()
        return train.dataset(tf.cast(step, tf.int64) + tf.cast(worker, tf.int64), every=workers)

    _hand_out(model, AHEAD * workers)
    if validation is None:
        return keras.utils.experimental.DatasetCreator(share), None
    _validate_here(model, validation)
    return keras.utils.experimental.DatasetCreator(share), keras.utils.experimental.DatasetCreator(_nothing)


def pace(fit: Fit) -> int:
    """Steps that are handed out at once."""
    return 1 if fit.steps_per_execution == "auto" else fit.steps_per_execution


def line(job: Job, xla: str) -> str:
    """What this training is not, and what was chosen to train fast."""
    fit, extended = job.plan.fit, job.machine.strategy._extended
    workers, servers = (
        f"{count} {name}{'s' * (count > 1)}"
        for count, name in ((extended._num_workers, "worker"), (extended._num_ps, "server"))
    )
    return (
        f"asynchronous, {workers} and {servers}: each step is one worker's batch; no two "
        "runs are equal, nor is one that goes on from a checkpoint, and examples are seen about once an epoch\n"
        f"{pace(fit)} step{'s' * (pace(fit) > 1)} at once (fit.steps_per_execution); "
        f"optimizer {'fused' if fit.fused and fused.possible(job.optimizer) else 'as Keras composes it'} (fit.fused); {xla}"
    )


def _hand_out(model: keras.Model, ahead: int) -> None:
    """Let the training function hand a step to the workers and answer with the numbers of one that has been taken.

    It returns once fewer than `ahead` are under way, so that callbacks see plain numbers, and time passes as steps do.
    """
    under_way: deque[Any] = deque()

    def make_train_function(self: Any, force: bool = False) -> Any:
        hand_out = type(self).make_train_function(self, force)

        def run(iterator: Any) -> Any:
            under_way.append(hand_out(iterator))
            oldest = under_way.popleft() if len(under_way) >= ahead else under_way[0]
            return oldest.fetch()

        return run

    model.make_train_function = MethodType(make_train_function, model)


def _validate_here(model: keras.Model, validation: Batches) -> None:
    """Let the test function work in this process, where no example is lost with a worker."""
    batches: Any = None

    @tf.function(reduce_retracing=True)
    def test(iterator: Any, steps: Any) -> Any:
        for _ in tf.range(steps):
            outputs = model.distribute_strategy.run(model.test_step, args=(next(iterator),))
        return outputs  # noqa: F821 (there is at least one step)

    def test_function(_: Any) -> Any:
        nonlocal batches
        if not model._test_counter.numpy():
            # Keras sets the counter to 0 when an evaluation begins.
            batches = iter(validation.dataset())
        steps = model._steps_per_execution.value()
        outputs = test(batches, steps)
        model._test_counter.assign_add(tf.cast(steps, model._test_counter.dtype))
        return outputs

    def make_test_function(self: Any, force: bool = False) -> Any:
        self.test_function = test_function
        return test_function

    model.make_test_function = MethodType(make_test_function, model)


def _nothing(context: Any) -> Any:
    """What Keras may send to the workers in the place of the validation examples."""
    return tf.data.Dataset.from_tensors(0)
