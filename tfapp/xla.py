"""`fit.jit=auto`: the training step compiled with XLA where a trial says that it pays, chosen once for a run.

XLA makes one program of a step, which helps where there are many small operations, and hurts where the device has better
kernels than XLA makes: convolutions on a CPU. It also takes seconds to compile and gives other last bits. So it is tried on
the very job, only in a training that is long beside the trial, and a run that goes on keeps what it was begun with (xla.json).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras as keras

from tfapp import environment
from tfapp.measure import stretch
from tfapp.runtime import on_cpus

if TYPE_CHECKING:
    from tfapp.job import Job
    from tfapp.run import Run

FILE = "xla.json"
# How much faster a step must be: two measurements of one thing differ by half of it.
GAIN = 1.1
# What a trial may take of the training. Tracing and compiling take COMPILING times as long as tracing the plain step.
SHARE = 0.02
COMPILING = 3
# Seconds of one stretch of steps, how many pairs of stretches, and how far off GAIN two of them decide.
WINDOW = 0.1
PAIRS = 5
CLEAR = 1.2
# As many bits at once in XLA's loops as in its products, where the processor has as many; its own choice is 256.
WIDTH = "--xla_cpu_prefer_vector_width=512"


def widen() -> None:
    """Let XLA on a CPU use vectors of WIDTH, unless the environment says how wide; for what this process compiles first and later."""
    flags = os.environ.get("XLA_FLAGS", "")
    if on_cpus() and WIDTH.split("=")[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{WIDTH} {flags}".strip()


def settle(job: Job, run: Run, training: Any, start: int) -> str:
    """Let the compiled model train with or without XLA; returns the words that say which, and why.

    Where fit.jit says so itself, it is as it says. A trial takes real steps and puts all variables back.

    Args:
      training: what the model's `fit` will be given, from step `start` on.
    """
    wanted = job.plan.fit.jit
    if wanted != "auto":
        return _words(wanted)
    if why := out_of_question(job):
        return _words(False, why)
    held = run.read(FILE)
    if held:
        job.model.jit_compile = held["chosen"]
        return _words(held["chosen"], "as when this run began" if start else held["why"])
    if start:
        return _words(False, "as when this run began")
    # Compiling takes memory. If the kernel ends it for that, the same command goes on without.
    run.write(FILE, {"chosen": False, "why": "its trial was cut short"})
    with _put_back(job.model):
        held = _tried(job.model, training, job.total_steps)
    run.write(FILE, held)
    environment.give_back_memory()
    return _words(held["chosen"], held["why"])


def out_of_question(job: Job) -> str | None:
    """Why XLA is not even tried, where it is not."""
    plan, machine = job.plan, job.machine
    if not machine.one_device:
        return "on one device alone it is tried"
    if plan.runtime.deterministic:
        return "runtime.deterministic"
    if plan.private:
        return "private steps have as many examples as were drawn"
    if tf.config.list_logical_devices("TPU"):
        return "a TPU compiles all by itself"
    if on_cpus() and _convolves(job.model):
        return "convolutions are faster by oneDNN"
    return None


def _words(chosen: bool, why: str = "") -> str:
    return f"{'with' if chosen else 'without'} XLA{why and f': {why}'} (fit.jit)"


def _convolves(model: keras.Model) -> bool:
    kinds = ("Conv", "DepthwiseConv", "SeparableConv")
    return any(
        kind.__name__.startswith(kinds)
        for layer in model._flatten_layers(include_self=False)
        for kind in type(layer).__mro__
    )


@contextmanager
def _put_back(model: keras.Model) -> Iterator[None]:
    """A block whose training steps leave no trace: what else a step depends on is a function of its number."""
    objects = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    there = tf.train.TrackableView(objects).descendants()
    with tf.device("CPU:0"):
        held = [(one, tf.identity(one)) for one in there if isinstance(one, tf.Variable)]
    try:
        yield
    finally:
        for variable, value in held:
            variable.assign(value)


def _tried(model: keras.Model, training: Any, steps: int) -> dict[str, Any]:
    """What becomes xla.json: chosen, why, and the seconds behind it.

    Args:
      steps: of the whole training.
    """
    plain = model.make_train_function()
    batches = iter(training)
    traced = stretch(model, plain, batches, 1)
    held = {"chosen": False, "steps": steps, "traced": traced}
    many = 1
    # A lone step is much slower than one of many where steps are short: it rules the trial out at once, or not yet.
    for _ in range(2):
        held["plain"] = each = stretch(model, plain, batches, many)
        if SHARE * steps * each < COMPILING * traced + 2 * PAIRS * max(WINDOW, each):
            return {**held, "why": "too short a training to try"}
        many = max(1, int(WINDOW / each))
    model.jit_compile = True
    compiled = model.make_train_function()
    try:
        held["compiled"] = stretch(model, compiled, batches, 1)
        # In turn, and the best of each: what else runs on the machine only slows.
        best = {"plain": math.inf, "xla": math.inf}
        for pair in range(PAIRS):
            for kind, function in (("plain", plain), ("xla", compiled)):
                best[kind] = min(best[kind], stretch(model, function, batches, many))
            ratio = best["plain"] / best["xla"]
            if pair and not GAIN / CLEAR < ratio < GAIN * CLEAR:
                break
    except tf.errors.OpError:
        model.jit_compile, model.train_function = False, plain
        return {**held, "why": "XLA cannot compile this step"}
    held |= {**best, "chosen": ratio >= GAIN}
    # The other one is forgotten, with its memory.
    model.jit_compile, model.train_function = held["chosen"], compiled if held["chosen"] else plain
    return {**held, "why": f"{ratio:.2f} times as fast"}
