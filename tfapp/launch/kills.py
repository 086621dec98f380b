"""Kill workers at random moments, to see that nothing comes of it."""

from __future__ import annotations

import random
import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tfapp.launch.supervise import Job


@dataclass(frozen=True)
class Kill:
    """One death.

    Attributes:
      worker: who was killed. step: the last step that was told before; 0 at the start.
      at: when; time.monotonic().
    """

    worker: int
    step: int
    at: float


@dataclass
class Killer:
    """Watches each start of a job and kills one random worker of it (SIGKILL), until all kills are done.

    Attributes:
      kills: how many. steps: of the whole run, among which the moments are chosen. random: chooses.
      anywhere: seconds within which a third of the kills fall after a start, whatever is done then; 0: none.
      done: the kills so far. again: seconds from each death until a step was trained again.
    """

    kills: int
    steps: int
    random: random.Random
    anywhere: float = 0.0
    done: list[Kill] = field(default_factory=list)
    again: list[float] = field(default_factory=list)

    def __call__(self, job: Job) -> None:
        """For `supervise.run(watch=…)`: called in a thread of its own with each start."""
        if self.done:
            self._time(job, self.done[-1].at)
        if len(self.done) >= self.kills:
            return
        if self.anywhere and self.random.random() < 1 / 3:
            time.sleep(self.random.uniform(0, self.anywhere))
        else:
            # Half of what is left on average, so that later kills find something left too.
            reached = self.done[-1].step if self.done else 0
            target = self.random.randint(1, max(1, (self.steps - reached) // 2)) + reached
            while job.furthest < min(target, self.steps) and (not job.workers or job.running()):
                time.sleep(0.002)
            time.sleep(self.random.uniform(0, 0.2))
        self._kill(job)

    def median(self) -> float | None:
        """Seconds from a death to training again; None where no training followed."""
        return statistics.median(self.again) if self.again else None

    def _kill(self, job: Job) -> None:
        running: Sequence = job.running()
        if running:
            worker = self.random.choice(running)
            self.done.append(Kill(worker.number, job.furthest, time.monotonic()))
            worker.process.signal(signal.SIGKILL)

    def _time(self, job: Job, died: float) -> None:
        def wait() -> None:
            while job.trained is None and (not job.workers or job.running()):
                time.sleep(0.01)
            if job.trained is not None:
                self.again.append(job.trained - died)

        import threading

        threading.Thread(target=wait, daemon=True).start()
