"""Every error a user can cause, with the exit code it ends in.

The message is one to three lines: what came, what is allowed, what to type next. The command line
prints it without a traceback; anything else that is raised is a defect of tfapp and shows one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Expected(Exception):
    """Something went wrong that the user can understand and mend."""

    exit_code = 1


class Failed(Expected):
    """The work was possible but did not succeed, as when the loss became NaN."""

    exit_code = 1


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


def nearest(word: str, allowed: Iterable[str]) -> str:
    """A «did you mean» clause for a mistyped word, or the list of what is allowed."""
    known = sorted(allowed)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "allowed: " + (", ".join(known) if known else "nothing")
