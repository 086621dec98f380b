"""Whether the training waits for its data, and what to do about it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tf_keras as keras

from tfapp import environment
from tfapp.data.pipeline import Batches
from tfapp.data.queue import Queue
from tfapp.run import Run
from tfapp.runtime import Machine

# The share of the time without a batch that is worth a word, and that of a maker that never rests (see tfapp.data.queue).
WAITED, MADE = 0.2, 0.9
# What is measured before it is judged: the batch that is being made at either end counts for nothing.
SECONDS, BATCHES = 5.0, 40
# Returns from TensorFlow to be passed over: the first one is mostly tracing.
BEFORE = 2
# Less of the processor is in use where the cores are not what the data waits for.
BUSY = 0.6


class Waiting(keras.callbacks.Callback):
    """Measures in every epoch, from its first return on, how long no batch was ready; says so once where data is the limit.

    Attributes:
      queue: what the training's batches are to go through. Where they do not, nothing is measured.

    Args:
      train: the batches. machine: who takes part. say: takes the line.
    """

    _supports_tf_logs = True

    def __init__(self, train: Batches, machine: Machine, say: Any):
        super().__init__()
        self.queue = Queue()
        self._train, self._machine, self._say = train, machine, say
        self._cores = environment.usable_cores() / environment.workers_here()
        self._returns, self._told = 0, False
        self._last: np.ndarray | None = None
        self._recent, self._whole = np.zeros(5), np.zeros(5)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # While the queue was not emptied, by validation say, it tells nothing.
        self._last = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._returns += 1
        if self._returns < BEFORE:
            return
        now = np.array([batch, time.perf_counter(), time.process_time(), *self.queue.seconds()])
        if self._last is not None:
            self._recent += now - self._last
            self._whole += now - self._last
        self._last = now
        if self._recent[0] >= BATCHES and self._recent[1] >= SECONDS:
            if not self._told and _bound(*self._recent):
                self._told = True
                self._say(f"input-bound: {_share(*self._recent):.0%} of the time no batch is ready; {self.remedy()}")
            self._recent = np.zeros(5)

    def remedy(self) -> str:
        """What makes this training's data come faster."""
        _, seconds, processor, _, _ = self._whole
        idle = processor < BUSY * seconds * self._cores
        examples = self._train.examples
        if idle and examples.load is not None:
            return "its files come slowly and cores are idle: copy them to a faster disk"
        if idle:
            return "cores are idle while its own code makes each batch: make it do more at once, or beforehand"
        if examples.load is not None:
            return "decoding files takes the cores: a smaller size, more cores, or memory to keep them decoded"
        if self._train.augment is not None:
            return "augmentation takes the cores: change the examples less, make them smaller, or use more cores"
        if self._train.transform is not None:
            return "preprocessing takes the cores: use more of them, or memory to do it beforehand"
        return "gathering takes the cores: use more of them, or try fit.gather=step"

    def note(self, run: Run) -> None:
        """Write waiting.json, what was measured on all workers, where it was enough. Every worker must call it.

        It holds {workers: [{seconds: measured, waited: share of them without a batch}], remedy: where data was the limit}.
        """
        batches, seconds, _, waited, made = self._whole
        enough = made > 0 and batches >= BATCHES
        bound = enough and _bound(*self._whole)
        table = self._machine.gather(enough, bound, *(min(round(1e3 * part), 2**32 - 1) for part in (seconds, waited)))
        if not table[:, 0].all() or not self._machine.chief:
            return
        workers = [
            {"seconds": float(row[2] / 1e3), "waited": round(min(1.0, float(row[3] / row[2])), 4)} for row in table
        ]
        run.write("waiting.json", {"workers": workers, **({"remedy": self.remedy()} if table[:, 1].any() else {})})


def _share(batches: float, seconds: float, processor: float, waited: float, made: float) -> float:
    return min(1.0, waited / seconds)


def _bound(batches: float, seconds: float, processor: float, waited: float, made: float) -> bool:
    """Whether the data is the limit."""
    return waited >= WAITED * seconds and made >= MADE * seconds
