"""What a verb shows when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def worth(report: dict[str, Any], folder: Path) -> None:
    """The few lines that say what a run is worth and where its page is, on standard output."""
    from rich.console import Console

    from tfapp.report import text

    console = Console(highlight=False)
    page = folder / "report.html"
    if console.is_terminal:
        console.print(text.summary(report, page))
    else:
        print(text.plain(report, page))


def artefact(row: dict[str, Any]) -> list[str]:
    """What `shipped.measure` found, in a few lines."""
    from tfapp.report import words

    score, change = row["score"], row["change"]
    name = words.SCORES.get(score["name"], score["name"])
    moved = f"{change['value']:+.4f} against the run's model" + (
        f" (95 % interval {change['low']:+.4f} to {change['high']:+.4f})" if change.get("low") is not None else ""
    )
    times = [f"{words.milliseconds(times['p50_ms'])} on {count} threads" for count, times in row["latency"].items()]
    times[0] = times[0].replace("on 1 threads", "on one thread")
    return [
        f"{words.size(row['bytes'])}, {words.size(row['gzip_bytes'])} gzipped · {', '.join(times)}",
        f"{name} {words.number(score['value'])} on {row['n']:,} {row['part']} examples, {moved}; "
        f"agreement {words.number(row['agreement']['share'])}",
    ]
