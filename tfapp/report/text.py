"""The few lines that end `train` and `evaluate`: what the run is worth, and where to look further."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from tfapp.report import words
from tfapp.report.words import Report


def lines(report: Report, page: str | Path | None = None) -> list[str]:
    """The lines as plain text: the headline, its quality, its cost, a profile's word, what it waited for, and the path of the HTML page if there is one."""
    headline = words.headline(report)
    told = [
        str(headline) if headline else "not measured on unseen examples",
        " · ".join(_quality(report)),
        " · ".join(_cost(report)),
        f"private: {words.private(report['privacy'])}" if report.get("privacy") else "",
        words.synchronisation(report["profile"]) if report.get("profile") else "",
        words.waiting(report["waiting"]) if (report.get("waiting") or {}).get("remedy") else "",
        f"report {page}" if page else "",
    ]
    return [line for line in told if line]


def summary(report: Report, page: str | Path | None = None) -> RenderableType:
    """The same lines for a terminal, with the number to remember in bold."""
    headline = words.headline(report)
    first, *rest = lines(report, page)
    title = Text(first)
    if headline:
        title.stylize("bold", 0, len(headline.number))
    return Group(title, *(Text(line, style="dim") for line in rest))


def plain(report: Report, page: str | Path | None = None) -> str:
    """The same lines where there is no terminal."""
    return "\n".join(lines(report, page))


def _quality(report: Report) -> list[str]:
    scores = (report.get("evaluation") or {}).get("scores") or {}
    short = {"perplexity": "perplexity", "log_loss": "log loss", "roc_auc": "ROC-AUC", "rmse": "RMSE", "r2": "R²"}
    told = [
        f"{label} {words.number(words.value_of(scores[key]))}"
        for key, label in short.items()
        if words.is_number(words.value_of(scores.get(key)))
    ]
    return [*told, *_calibration(report.get("calibration") or {})]


def _calibration(given: Report) -> Iterator[str]:
    before, after = given.get("before"), given.get("after")
    if not before:
        return
    told = f"calibration error {words.number(before['ece'])}"
    if after:
        yield f"{told} → {words.number(after['ece'])} at temperature {words.number(given['temperature'])}"
    else:
        yield f"{told} (no temperature: {given.get('reason') or 'not fitted'})"


def _cost(report: Report) -> list[str]:
    told = []
    if sized := words.main_size(report):
        told.append(f"{sized[0]} {words.size(sized[1].get('bytes'))}")
    if timed := words.main_latency(report):
        for batch, times in timed[1].items():
            what = "one example" if batch == "1" else f"a batch of {batch}"
            told.append(f"{words.milliseconds(times.get('p50_ms'))} for {what}")
    if words.is_number(report.get("seconds")):
        told.append(f"took {words.duration(report['seconds'])}")
    return told
