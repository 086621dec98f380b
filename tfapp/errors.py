"""Every error a user can cause, with the exit code it ends in.

The message is one to three lines: what came, what is allowed, what to type next. The command line
prints it without a traceback; anything else that is raised is a defect of tfapp and shows one.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path


class Expected(Exception):
    """Something went wrong that the user can understand and mend."""

    exit_code = 1


class Failed(Expected):
    """The work was possible but did not succeed, as when the loss became NaN."""

    exit_code = 1


class Diverged(Failed):
    """The loss is no number any more; the same training would end the same way again."""


class Usage(Expected):
    """The words or a config file are wrong."""

    exit_code = 2


class Refused(Expected):
    """Each setting is fine alone, but the combination is not."""

    exit_code = 3


class GateFailed(Expected):
    """The run finished and did not reach the score it was asked to reach."""

    exit_code = 4


class Missing(Expected):
    """Data, a file, a package or a device that is needed is not there."""

    exit_code = 5


class PeersLost(Expected):
    """Another worker of the job died or cannot be reached; starting all workers again goes on from the checkpoint."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: worth another try.


class Interrupted(Expected):
    """Ctrl-C: a checkpoint was written and the same command goes on from it."""

    exit_code = 130


class Preempted(Expected):
    """SIGTERM: a checkpoint was written and the same command goes on from it."""

    exit_code = 143


class Paused(Expected):
    """Whoever watches a training has seen enough for now: a checkpoint was written, and it can go on from there."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """A «did you mean» clause for a mistyped word, or the list of what is allowed."""
    known = sorted(allowed)
    return guess(word, known) or "allowed: " + (", ".join(known) if known else "nothing")


def guess(word: str, allowed: Iterable[str]) -> str:
    """A «did you mean» clause for a mistyped word; nothing where none of the allowed ones is like it."""
    close = difflib.get_close_matches(word, sorted(allowed), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else ""


def of_system(error: BaseException) -> Expected | None:
    """A full or forbidden disk, whichever library ran into it, as an error that names the path; None if it is neither."""
    number, path = (error.errno, error.filename) if isinstance(error, OSError) else (None, None)
    # Without the names that TensorFlow gives to the operation.
    where = path or re.sub(r"\{\{.*?\}\}\s*", "", str(error).partition("\n")[0])

    def means(*codes: int) -> bool:
        # TensorFlow and HDF5 wrap the system's error in classes of their own, but keep its words.
        return number in codes or any(os.strerror(code) in str(error) for code in codes)

    if means(errno.ENOSPC, errno.EDQUOT):
        return Failed(f"the disk is full: {where}\nfree some space, or put the runs elsewhere: TFAPP_RUNS=FOLDER")
    if means(errno.EROFS):
        return Missing(f"the disk is read-only: {where}\nput the runs elsewhere: TFAPP_RUNS=FOLDER")
    if means(errno.EACCES) or isinstance(error, PermissionError):
        return Missing(
            f"the system does not allow it: {where}" + (f"\nsee who may: ls -ld '{_there(path)}'" if path else "")
        )
    return None


def _there(path: str | os.PathLike[str]) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next((each for each in (Path(path), *Path(path).absolute().parents) if os.path.lexists(each)), Path(path))
