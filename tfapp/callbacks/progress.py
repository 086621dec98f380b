"""One line that a person can follow; a plain line now and then where no person looks."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import tf_keras as keras
from rich.console import Console
from rich.live import Live
from rich.text import Text

from tfapp.launch import signs

QUIET_SECONDS = 10.0
LIVE_SECONDS = 0.25


class Progress(keras.callbacks.Callback):
    """Shows epoch, steps a second, time left and metrics, on stderr.

    Args:
      epochs: planned epochs. total: planned steps.
      log: a file that gets a line an epoch, whatever the terminal.
      show: whether this worker speaks on the terminal.
      training: whether the numbers of the training part are told beside those of validation.
    """

    _supports_tf_logs = True

    def __init__(self, epochs: int, total: int, log: Path, show: bool = True, training: bool = True):
        super().__init__()
        self._console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._last = ""
        self._epochs, self._total, self._log, self._show, self._training = epochs, total, log, show, training
        self._epoch = self._start = self._step = 0
        self._began = self._shown = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self._began = 0.0
        if self._show and self._console.is_terminal:
            self._live = Live(Text("starting: tracing the first step …"), console=self._console, refresh_per_second=8)
            self._live.start()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._step = self._epoch * self.params["steps"] + batch + 1
        if not self._began:
            self._began, self._start = time.perf_counter(), self._step
        if self._live is not None:
            self._live.update(Text(self._line(logs)))
        elif self._show and signs.shown_live() and time.perf_counter() - self._shown > LIVE_SECONDS:
            self._shown = time.perf_counter()
            signs.tell(line=self._line(logs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        line = self._line(logs)
        with open(self._log, "a", encoding="utf-8") as log:
            print(line, file=log)
        self._last = line
        if self._live is not None:
            self._live.update(Text(line))
        elif self._show and signs.shown_live():
            signs.tell(line=line)
        elif self._show and time.perf_counter() - self._shown > QUIET_SECONDS:
            self._print()

    def on_train_end(self, logs: Any = None) -> None:
        if self._show and self._live is None and self._last and not signs.shown_live():
            self._print()
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was, with the last line on it."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self) -> None:
        print(self._last, file=sys.stderr, flush=True)
        self._shown, self._last = time.perf_counter(), ""

    def _line(self, logs: Any) -> str:
        seconds = time.perf_counter() - self._began
        done = self._step - self._start
        pace = f"{done / seconds:,.0f} steps/s" if done and seconds else "first step"
        left = f"{_clock((self._total - self._step) * seconds / done)} left" if done else ""
        told = {name: value for name, value in (logs or {}).items() if self._training or name.startswith("val_")}
        numbers = "  ".join(f"{name} {float(value):.4g}" for name, value in told.items())
        return "  ".join(part for part in (f"epoch {self._epoch + 1}/{self._epochs}", pace, left, numbers) if part)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
