"""Whether the training waits for its data, and what to do about it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tf_keras as keras

from tfapp import environment
from tfapp.data.pipeline import Batches, loading
from tfapp.data.queue import Queue
from tfapp.run import Run
from tfapp.runtime import Machine, on_cpus

# The share of the time without a batch that is worth a word, and that of a maker that never rests (see tfapp.data.queue).
WAITED, MADE = 0.2, 0.9
# The share of the processor's time that loading may take where it computes the steps too; and for how long that is measured.
LOADING, PROBED = 0.5, 0.3
# Seconds to wait at most until the queue is full.
FILLED = 10.0
# What is measured before it is judged: the batch that is being made at either end counts for nothing.
SECONDS, BATCHES = 5.0, 40
# Returns from TensorFlow to be passed over: the first one is mostly tracing.
BEFORE = 2
# Less of the processor is in use where the cores are not what the data waits for.
BUSY = 0.6


class Waiting(keras.callbacks.Callback):
    """Measures how long no batch was ready while steps were taken, and says so once where data is the limit.

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
        self._on_cores = on_cpus()
        self._returns, self._told = 0, False
        self._loading: float | None = None
        self._last: Any = None
        self._recent, self._whole = np.zeros(5), np.zeros(5)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # Validation and what else comes between two epochs is left out.
        self._last = None

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._last is None:
            self._last = self._now(batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = self._now(batch + 1)
        self._returns += 1
        if self._returns > BEFORE:
            self._recent += now - self._last
            self._whole += now - self._last
        self._last = now
        if self._recent[0] >= BATCHES and self._recent[1] >= SECONDS:
            if self._loading is None:
                self._loading = self._probed()
                self._last = self._now(batch + 1)
            what = self._limit(self._recent)
            if what and not self._told:
                self._told = True
                self._say(f"input-bound: {what}; {self.remedy()}")
            self._recent = np.zeros(5)

    def _now(self, batch: int) -> np.ndarray:
        return np.array([batch, time.perf_counter(), time.process_time(), *self.queue.seconds()])

    def remedy(self) -> str:
        """What makes this training's data come faster."""
        _, seconds, processor, *_ = self._whole
        idle = processor < BUSY * seconds * self._cores
        load, features = self._train.examples.load, self._train.examples.features
        if load is not None and "path" in features:
            shard = "tfapp data shard SOURCE FOLDER makes few large ones of them, decoded once"
            return f"its files are {'slow to come and cores idle' if idle else 'decoded again and again'}: {shard} (docs/data.md)"
        if idle and load is not None:
            return "its files come slowly and cores are idle: copy them to a faster disk"
        if idle:
            return "cores are idle while its own code makes each batch: make it do more at once, or beforehand"
        if self._train.augment is not None:
            return "augmentation takes the cores: change the examples less, make them smaller, or use more cores"
        if self._train.transform is not None:
            return "preprocessing takes the cores: use more of them, or memory to do it beforehand"
        return "gathering takes the cores: use more of them, or try fit.gather=step"

    def note(self, run: Run) -> None:
        """Write waiting.json, what was measured on all workers, where it was enough. Every worker must call it.

        It holds {workers: [{seconds: measured, waited: share of them without a batch, loading: share of the processor's time
        that loading took}], remedy: where data was the limit}.
        """
        batches, seconds, processor, waited, made = self._whole
        enough = made > 0 and batches >= BATCHES
        bound = bool(enough and self._limit(self._whole))
        times = (seconds, waited, batches * (self._loading or 0), processor)
        table = self._machine.gather(enough, bound, *(min(round(1e3 * part), 2**32 - 1) for part in times))
        if not table[:, 0].all() or not self._machine.chief:
            return
        workers = [
            {"seconds": float(row[2] / 1e3), "waited": _share(row[3], row[2]), "loading": _share(row[4], row[5])}
            for row in table
        ]
        run.write("waiting.json", {"workers": workers, **({"remedy": self.remedy()} if table[:, 1].any() else {})})

    def _probed(self) -> float:
        """Processor seconds that loading takes of this worker's part of a batch, where that is worth knowing."""
        if not self._on_cores or self._train.examples.load is None:
            return 0
        # No step is taken now: once the queue is full, nothing is done but what is to be measured.
        until, idle = time.monotonic() + FILLED, False
        while not idle and time.monotonic() < until:
            began = time.process_time()
            time.sleep(0.1)
            idle = time.process_time() - began < 0.01
        if not idle:
            return 0
        return loading(self._train.examples, PROBED) * self._train.batch_size / self._machine.workers

    def _limit(self, measured: np.ndarray) -> str:
        """In which way the data is the limit, in words; "" where it is not."""
        batches, seconds, processor, waited, made = measured
        if waited >= WAITED * seconds and made >= MADE * seconds:
            return f"{_share(waited, seconds):.0%} of the time no batch is ready"
        taken = batches * (self._loading or 0)
        if taken >= LOADING * processor and processor >= BUSY * seconds * self._cores:
            return f"loading examples takes {_share(taken, processor):.0%} of the processor's time"
        return ""


def _share(part: Any, whole: Any) -> float:
    return round(min(1.0, float(part / max(whole, 1e-9))), 4)
