"""What a search of a private recipe gives away: all its trainings together, never one trial's ε alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfapp.private import ledger
from tfapp.run import Run

PLACES = ("trials/*", "trials/*/*", "best")
COMPOSED = (
    "Every training of the search counts with the steps that it took, whether it was scored, paused, stopped, diverged or "
    "failed, each of its seeds too."
)


def write(folder: Path) -> dict[str, Any] | None:
    """Bring a search's privacy.json up to date: `ledger.together` of its runs; None where none is private.

    `each` holds their ledgers: a run that is trained anew replaces its folder, and what it had spent stays spent.

    Raises:
      Missing: a ledger is damaged. OSError: from the disk.
    """
    search = Run(folder)
    every = [ledger.of(one) for one in search.read(ledger.FILE).get("each", [])]
    paths = sorted(path for place in PLACES for path in folder.glob(f"{place}/{ledger.FILE}"))
    every += [found for path in paths if (found := ledger.read(path.parent))]
    whole = ledger.together(every)
    if not whole:
        return None
    whole["not_covered"] = [COMPOSED, *whole["not_covered"]]
    search.write(ledger.FILE, {**whole, "each": [ledger.plain(one) for one in ledger.unlike(every)]})
    return whole


def told(folder: Path, report: dict[str, Any], whole: dict[str, Any] | None) -> dict[str, Any]:
    """The report of the winner's run with what the whole search gave away, which is what its weights cost."""
    if whole is None or not report.get("privacy"):
        return report
    from tfapp import worth

    return worth.publish(Run(folder), {**report, "privacy": {**report["privacy"], "search": whole}})
