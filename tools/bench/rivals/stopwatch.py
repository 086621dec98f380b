"""What every rival notes alike: the first step, each epoch's end, and what the process took. No framework in it."""

from __future__ import annotations

import json
import os
import resource
import sys
import time


class Stopwatch:
    """Times one training; the driver says when the process was started (BENCH_BEGAN, seconds since 1970)."""

    def __init__(self):
        self.first = None
        self.marks = []

    def step(self):
        """A step has been taken: only the first is noted."""
        if self.first is None:
            self.first = time.time() - float(os.environ["BENCH_BEGAN"])

    def epoch(self):
        """An epoch, with its validation and all else, is over."""
        self.marks.append((time.perf_counter(), time.process_time()))

    def tell(self, examples, **more):
        """One line for the driver: what came after the first epoch, in which programs are traced and compiled.

        Args:
          examples: in an epoch.
        """
        (wall, cpu), (last_wall, last_cpu) = self.marks[0], self.marks[-1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seen = examples * (len(self.marks) - 1)
        told = {"first": self.first, "wall": seen / (last_wall - wall), "cpu": seen / (last_cpu - cpu), "peak": peak}
        print("\n" + json.dumps({**told, **more}), file=sys.stdout, flush=True)
