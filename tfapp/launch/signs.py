"""What a worker tells its launcher: a marked line on standard error, which reaches it from any host.

It needs no shared folder and no port, and arrives in order with all else that the worker says.
"""

from __future__ import annotations

import json
import os
from typing import Any

MARK = "\x1e"
VARIABLE = "TFAPP_LAUNCHED"


def launched() -> bool:
    """Whether a launcher listens."""
    return VARIABLE in os.environ


def shown_live() -> bool:
    """Whether the launcher shows the progress itself, on a terminal."""
    return os.environ.get(VARIABLE) == "live"


def tell(**facts: Any) -> None:
    """Tell the launcher; without one, nothing happens."""
    if launched():
        # One write of less than a pipe's atomic size: no other thread's line comes in between.
        os.write(2, f"{MARK}{json.dumps(facts)[:4000]}\n".encode())


def read(line: str) -> tuple[str, dict[str, Any]]:
    """(what a person may see, what the worker told) of one line."""
    shown, mark, told = line.partition(MARK)
    if not mark:
        return line, {}
    try:
        return shown, json.loads(told)
    except ValueError:
        return shown, {}
