"""What happened in a search, a line of JSON each, so that it can be killed at any moment and go on."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from tfapp.errors import Missing


class Journal:
    """Lines that are on disk before anything follows from them; one that a kill has torn is as if it had not been.

    Args:
      path: the file, made when the first line is written.
    """

    def __init__(self, path: Path):
        self._path = path

    def read(self) -> list[dict[str, Any]]:
        """Every whole line, oldest first; what a kill left of another is removed.

        Raises:
          Missing: a line in the middle is damaged.
        """
        if not self._path.exists():
            return []
        content = self._path.read_bytes()
        whole, _, torn = content.rpartition(b"\n")
        if torn:
            with open(self._path, "r+b") as file:
                file.truncate(len(content) - len(torn))
        events = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                events.append(json.loads(line))
            except ValueError:
                raise Missing(
                    f"{self._path} is damaged in line {number}\n"
                    "cut it off there (head -n shows what is before), or search anew with --fresh"
                ) from None
        return events

    def add(self, **event: Any) -> dict[str, Any]:
        """Write an event with its time (Unix, seconds) and have it on disk; returns it."""
        event["at"] = round(time.time(), 3)
        with open(self._path, "ab") as file:
            file.write(json.dumps(event).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return event
