"""A TensorBoard profile of some steps, and what it says of the time lost to waiting for other workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfapp import synchronisation
from tfapp.run import Run
from tfapp.runtime import Machine

# Returns from TensorFlow to be passed over: the first one is mostly tracing, and the next finds its buffers.
BEFORE = 2


class Profile(keras.callbacks.Callback):
    """Profiles `steps` steps after the first returns of this process, on every worker.

    It comes after the callbacks that set the pace, so that it can end on its last step. What is computed stays the same.

    Args:
      steps: how many, at least 1. folder: the run's folder for TensorBoard. machine: who takes part.
    """

    _supports_tf_logs = True

    def __init__(self, steps: int, folder: Path, machine: Machine):
        super().__init__()
        self._wanted, self._machine = steps, machine
        self.folder = folder / f"worker-{machine.worker}"
        self._returns = self._done = self._last = 0
        self._running = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._end_on_the_last_step()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        # Not at the end of the last step, of which Keras's own trace would be cut off.
        self._stop_if_done()
        self._last = batch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._returns += 1
        if self._running:
            self._done += batch + 1 - self._last
        elif self._returns == BEFORE:
            # Beyond the default level TensorFlow would trace each of its operations, and slow the small ones down.
            tf.profiler.experimental.start(str(self.folder))
            self._running = True
        self._end_on_the_last_step()

    def on_test_begin(self, logs: Any = None) -> None:
        self._stop_if_done()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._stop_if_done()

    def close(self) -> None:
        """End a profile that the end of the training has cut short."""
        if self._running:
            self._running = False
            tf.profiler.experimental.stop()

    def note(self, run: Run) -> None:
        """Write profile.json, what the profiles of all workers say (see `found`), where steps were profiled.

        Every worker must call it.
        """
        found = self.found()
        if found and self._machine.chief:
            run.write("profile.json", found)

    def found(self) -> dict[str, Any]:
        """What the profiles of all workers say; every worker must call it. {} where no step was profiled.

        Returns:
          {steps: in the profile; workers: [{step_ms, collective_ms, lost_ms, collectives: of one step}]}, where lost_ms
          is the time in which a collective was under way and nothing was computed.
        """
        try:
            loss = synchronisation.read(self.folder) if self._done else None
        except (FileNotFoundError, ValueError):
            loss = None
        told = [loss.seconds, loss.collective, loss.lost] if loss else [0.0, 0.0, 0.0]
        micro = [min(round(1e6 * seconds), 2**32 - 1) for seconds in told]
        table = self._machine.gather(self._done, *micro, loss.collectives if loss else 0)
        if not table[:, :2].all():
            return {}
        return {"steps": int(table[0, 0]), "workers": [_each(*map(int, row)) for row in table]}

    def _end_on_the_last_step(self) -> None:
        if self._running and self._done < self._wanted:
            pace = self.model._steps_per_execution
            pace.assign(min(int(pace.numpy()), self._wanted - self._done))

    def _stop_if_done(self) -> None:
        if self._done >= self._wanted:
            self.close()


def _each(steps: int, whole: int, collective: int, lost: int, collectives: int) -> dict[str, float]:
    """One worker's numbers of all steps, times in microseconds, as those of one step."""
    times = {"step_ms": whole, "collective_ms": collective, "lost_ms": lost}
    return {
        **{name: round(time / steps / 1e3, 3) for name, time in times.items()},
        "collectives": round(collectives / steps, 1),
    }
