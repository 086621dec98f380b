"""A worker that waits for ever ends itself, and leaves in its log where it was stuck.

Missed heartbeats tell of a worker that is dead, but a stuck one beats on. The clock is the interpreter's own
(faulthandler), which runs in C: even a worker that is stuck inside TensorFlow, holding Python, is ended.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tfapp.errors import Usage

START, HANG = "TFAPP_START_SECONDS", "TFAPP_HANG_SECONDS"
DEFAULT = 600.0


def seconds(variable: str) -> float:
    """How long this worker may wait: at the start for the others, or in training for a step.

    Raises:
      Usage: the environment's value is no positive number.
    """
    text = os.environ.get(variable) or str(DEFAULT)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise Usage(f"{variable}={text!r} is not a number of seconds\nas {variable}={DEFAULT:g}")
    return value


@contextmanager
def limit(wait: float) -> Iterator[None]:
    """End the process with 1, and every thread's place on standard error, when the block takes longer (seconds)."""
    faulthandler.dump_traceback_later(wait, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
