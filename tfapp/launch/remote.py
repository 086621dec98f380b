"""A worker's keeper on another host: `python -m tfapp.launch.remote WORDS`, started through ssh.

ssh carries no signals, so they come as numbers on standard input. When that ends, the launcher or the
connection is gone, and the worker is killed with all that it has started.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress

from tfapp.launch import signs, worker


def keep(words: list[str]) -> int:
    """Run a worker until it ends or the launcher is gone; returns its exit code."""
    with tempfile.TemporaryDirectory(prefix="tfapp-worker-", ignore_cleanup_errors=True) as temporary:
        process = subprocess.Popen(
            [sys.executable, "-m", worker.__name__, *words],
            stdin=subprocess.DEVNULL,
            env={**os.environ, worker.PARENT: str(os.getpid()), "TMPDIR": temporary},
            start_new_session=True,
        )
        threading.Thread(target=_obey, args=(process,), daemon=True).start()
        code = process.wait()
        _kill(process)
    if code < 0:
        signs.tell(killed=-code)
    return code if code >= 0 else 128 - code


def _obey(process: subprocess.Popen[bytes]) -> None:
    for line in sys.stdin:
        process.send_signal(int(line))
    _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 9)


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
