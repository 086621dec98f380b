"""The secret that a private run's sampling and noise are functions of: made once, kept in the run, shown to nobody.

It comes from the operating system and is never the seed of reproducibility: who knows it can take the noise off again.
With it a step that is done again, after a kill, draws the same and so releases nothing new.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfapp.errors import Missing

FILE = "private.key"
BYTES = 32


@dataclass(frozen=True)
class Secret:
    """A run's secret.

    Attributes:
      value: 32 bytes.
      fixed: it was given in the plan, for a test: whoever reads the plan can take the noise off.
    """

    value: bytes
    fixed: bool = False

    def key(self, purpose: str) -> int:
        """A 64-bit key of the Philox generator for one purpose; keys of several purposes tell nothing of each other."""
        return int.from_bytes(hashlib.blake2b(purpose.encode(), key=self.value, digest_size=8).digest(), "little")


def fixed(word: str) -> Secret:
    """The secret that a word stands for, for tests alone."""
    return Secret(hashlib.sha256(word.encode()).digest(), fixed=True)


def of(folder: Path | None, machine: Any) -> Secret:
    """The run's secret on every worker: the chief reads or makes it, the others are told.

    Args:
      folder: the run's; None: one that is kept nowhere, for measuring.

    Raises:
      Missing: the file is damaged, or its training went on without it.
    """
    own = _kept(folder) if machine.chief else bytes(BYTES)
    words = [int.from_bytes(own[i : i + 4], "little") for i in range(0, BYTES, 4)]
    told = machine.gather(*words)[0] if machine.workers > 1 else words
    return Secret(b"".join(int(word).to_bytes(4, "little") for word in told))


def _kept(folder: Path | None) -> bytes:
    if folder is None:
        return secrets.token_bytes(BYTES)
    path = folder / FILE
    try:
        held = bytes.fromhex(path.read_text("ascii").strip())
    except FileNotFoundError:
        if any((folder / "checkpoints").glob("ckpt-*.index")):
            raise Missing(
                f"{path} is gone, and with it the noise of the steps that were taken\n"
                "put it back, or train anew with --fresh (what was trained so far counts as a run of its own)"
            ) from None
        held = secrets.token_bytes(BYTES)
        _keep(path, held)
    except (ValueError, UnicodeDecodeError):
        held = b""
    if len(held) != BYTES:
        raise Missing(
            f"{path} is damaged: it holds {2 * BYTES} hexadecimal digits\nput it back, or train anew with --fresh"
        )
    return held


def _keep(path: Path, value: bytes) -> None:
    """Write it whole or not at all, for its owner's eyes alone from the first moment."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(value.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
