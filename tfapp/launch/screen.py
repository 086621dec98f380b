"""What a person sees of many workers: their lines, each with its worker's number, and the chief's progress."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

# What TensorFlow's C++ side says belongs into the log: «2026-01-31 12:00:00.000000: E tensorflow/…», «E0131 12:00:00.…».
_NATIVE = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: )?([IWE] |[IWE]\d{4} )"
    r"|/job:worker|The tasks have crashed|The error could be from|Additional GRPC error|:UNKNOWN:"
)


class Screen:
    """Shows lines on standard error as they come, and keeps all of them in the run's logs.

    Args:
      workers: how many there are; one needs no number.
      quiet: keep the workers' lines in the logs alone.
      servers: so many of the last ones are parameter servers.
    """

    def __init__(self, workers: int, quiet: bool = False, servers: int = 0):
        self._quiet = quiet
        self._first_server = workers - servers
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._live: Live | None = None
        self._workers = workers
        self._folder: Path | None = None
        self._files: dict[int, TextIO] = {}
        self._early: list[tuple[int, str]] = []
        self._said: dict[str, int] = {}

    @property
    def live(self) -> bool:
        """Whether a progress line can be drawn."""
        return self._console.is_terminal and not self._quiet

    def worker(self, number: int, line: str, result: bool = False, hide: bool = False) -> None:
        """A worker's line; the chief's results go to standard output as they are.

        What one worker has said, no other says again: they do the same things and make the same mistakes.
        """
        self._keep(number, line)
        if self._quiet:
            return
        if result and number == 0:
            print(line, flush=True)
        elif not hide and line.strip() and not _NATIVE.match(line) and self._said.setdefault(line, number) == number:
            server = number >= self._first_server
            name = f"ps {number - self._first_server}" if server else str(number)
            self.say(f"[{name}] {line}" if self._workers > 1 else line)

    def say(self, line: str) -> None:
        """The launcher's own line."""
        if self._console.is_terminal:
            self._console.print(Text(line))
        else:
            print(line, file=sys.stderr, flush=True)

    def progress(self, line: str) -> None:
        """Redraw the progress line, where there is a terminal."""
        if not self.live:
            return
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=8)
            self._live.start()
        self._live.update(Text(line))

    def settle(self) -> None:
        """Leave the progress line as it is and go on below it, with new workers."""
        self._said = {}
        if self._live is not None:
            self._live.stop()
            self._live = None

    def log_in(self, run: Path) -> None:
        """From here on the run is known: what came before is written there too."""
        folder = run / "logs"
        if folder == self._folder:
            return
        self.close()
        if not run.is_dir():
            self.say(f"{run} is not seen from here; the workers' logs stay on their hosts")
            return
        folder.mkdir(exist_ok=True)
        self._folder = folder
        early, self._early = self._early, []
        for number, line in early:
            self._keep(number, line)

    def close(self) -> None:
        """End the progress line and close the logs."""
        self.settle()
        for file in self._files.values():
            file.close()
        self._files, self._folder = {}, None

    def _keep(self, number: int, line: str) -> None:
        if self._folder is None:
            self._early.append((number, line))
            return
        with suppress(OSError):  # A full disk must not end what watches over the workers.
            if number not in self._files:
                self._files[number] = open(self._folder / f"worker-{number}.log", "a", buffering=1, encoding="utf-8")
            print(line, file=self._files[number])
