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
