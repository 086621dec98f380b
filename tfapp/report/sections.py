"""The parts of the report, one small function each: report → section, or None when its data is not there.

To show something new, write such a function with its template, put it into SECTIONS where it should appear, and its key
of the report into SHOWN. Until then the key is shown by `_others` as a plain table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from tfapp.report import figures, words
from tfapp.report.words import Report

TABLE_CLASSES = 20
SHOWN = frozenset(
    [
        "schema",
        "recipe",
        "run",
        "title",
        "about",
        "status",
        "started",
        "seconds",
        "task",
        "classes",
        "target",
        "kind",
        "data",
        "history",
        "best_epoch",
        "evaluation",
        "calibration",
        "mistakes",
        "samples",
        "artefacts",
        "model",
        "sizes",
        "latency",
        "compression",
        "privacy",
        "audit",
        "profile",
        "waiting",
        "plan",
        "environment",
    ]
)


@dataclass(frozen=True)
class Section:
    """A titled part of the page."""

    id: str
    title: str
    html: Markup


def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    env = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.do"]
    )
    env.filters |= {
        "number": words.number,
        "percent": words.percent,
        "share": words.share,
        "cell": words.cell,
        "count": words.count,
        "size": words.size,
        "ms": words.milliseconds,
        "duration": words.duration,
        "moment": words.moment,
        "span": words.span,
        "human": lambda key: str(key).replace("_", " "),
    }
    env.tests |= {"score": lambda value: isinstance(value, Mapping) and {"value", "low", "high"} <= set(value)}
    return env


ENVIRONMENT = _environment()


def fill(template: str, values: Mapping[str, Any]) -> Markup:
    """A template's HTML with the values in it, escaped."""
    return Markup(ENVIRONMENT.get_template(template).render(values))


def sections(report: Report) -> list[Section]:
    """Every part that the report has data for, in reading order."""
    found = [make(report) for make in SECTIONS]
    return [section for section in found if section] + list(_others(report))


def _scores(report: Report) -> Section | None:
    evaluation = report.get("evaluation") or {}
    scores = evaluation.get("scores") or {}
    if not scores:
        return None
    order = [key for key in words.SCORES if key in scores and key not in words.REPEATED]
    order += [key for key in scores if key not in words.SCORES]
    ranges = {key: found for key in order if (found := _range(key, scores[key]))}
    # Good scores crowd at the right end: the axis begins where there is something to see.
    least = min((low for _, low, _ in ranges.values()), default=0)
    start = next((begin for begin in (0.9, 0.8, 0.5) if least >= begin), 0)
    rows = [
        {
            "name": words.SCORES.get(key, key.replace("_", " ")),
            "score": scores[key],
            "bar": _bar(ranges.get(key), start),
        }
        for key in order
    ]
    values = {
        "rows": rows,
        "n": evaluation.get("n"),
        "of": evaluation.get("tokens", "examples"),
        "regression": "mae" in scores,
        "start": start if ranges else None,
    }
    return Section("scores", "Scores", fill("scores.html", values))


def _range(key: str, score: Any) -> tuple[float, float, float] | None:
    """A score's value and the ends of its interval, if it is one of those that lie between 0 and 1."""
    value = words.value_of(score)
    if key in words.LOWER_IS_BETTER or not words.is_number(value) or not 0 <= value <= 1:
        return None
    ends = [score.get(end) if words.is_number(score.get(end)) else value for end in ("low", "high")]
    low, high = (min(max(end, 0), 1) for end in ends)
    return value, low, high


def _bar(ends: tuple[float, float, float] | None, start: float) -> dict[str, float] | None:
    """The same in percent of an axis from `start` to 1."""
    if not ends:
        return None
    value, low, high = (100 * (end - start) / (1 - start) for end in ends)
    return {"value": value, "low": low, "width": high - low}


def _learning(report: Report) -> Section | None:
    history = report.get("history") or []
    plots = figures.learning_curves(history, report.get("best_epoch")) if history else []
    return _plots("learning", "Learning curves", plots)


def _plots(id: str, title: str, plots: list[figures.Plot], lead: str = "") -> Section | None:
    return Section(id, title, fill("plots.html", {"plots": plots, "lead": lead})) if plots else None


def _confusion(report: Report) -> Section | None:
    evaluation = report.get("evaluation") or {}
    matrix, classes = evaluation.get("confusion_matrix"), evaluation.get("classes") or report.get("classes")
    if not matrix or not classes:
        return None
    values: dict[str, Any] = {"swaps": _swaps(matrix, classes), "classes": classes}
    if len(classes) > TABLE_CLASSES:
        values["plot"] = figures.confusion(matrix, classes)
    else:
        values["rows"] = [
            {"name": name, "cells": [_cell(c, sum(row), i == j) for j, c in enumerate(row)], "total": sum(row)}
            for i, (name, row) in enumerate(zip(classes, matrix, strict=True))
        ]
        values["upright"] = len(classes) > 6 and max(len(str(name)) for name in classes) > 3
    return Section("confusion", "Confusion matrix", fill("confusion.html", values))


def _cell(count: int, total: int, right: bool) -> dict[str, Any]:
    share = count / total if total else 0
    # The square root lets rare mistakes be seen beside a diagonal near 1.
    return {"count": count, "share": share, "ink": round(100 * share**0.5), "right": right}


def _swaps(matrix: list[list[int]], classes: list[str]) -> list[dict[str, Any]]:
    """The commonest mistakes, at most five."""
    pairs: list[dict[str, Any]] = [
        {"true": classes[i], "predicted": classes[j], "count": count, "share": count / sum(row)}
        for i, row in enumerate(matrix)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: -pair["count"])[:5]


def _classes(report: Report) -> Section | None:
    rows = (report.get("evaluation") or {}).get("per_class")
    return Section("classes", "Class by class", fill("classes.html", {"rows": rows})) if rows else None


def _curves(report: Report) -> Section | None:
    return _plots("curves", "Trade-offs", figures.curves(report.get("evaluation") or {}))


def _calibration(report: Report) -> Section | None:
    given = report.get("calibration") or {}
    if not given.get("before"):
        return None
    values = {"plot": figures.reliability(given), "calibration": given}
    return Section("calibration", "Calibration", fill("calibration.html", values))


def _residuals(report: Report) -> Section | None:
    given = (report.get("evaluation") or {}).get("residuals") or {}
    plots = figures.residuals(given)
    values = {"plots": plots, "quantiles": given.get("quantiles") or {}}
    return Section("residuals", "What is left unexplained", fill("residuals.html", values)) if plots else None


def _mistakes(report: Report) -> Section | None:
    mistakes = report.get("mistakes") or []
    if not mistakes:
        return None
    title = "Largest errors" if "error" in mistakes[0] else "Most confident mistakes"
    return Section("mistakes", title, fill("mistakes.html", {"mistakes": mistakes}))


def _language(report: Report) -> Section | None:
    losses = (report.get("evaluation") or {}).get("by_position") or []
    samples = report.get("samples") or []
    if not losses and not samples:
        return None
    plots = [figures.by_position(losses)] if losses else []
    return Section("language", "How it goes on", fill("language.html", {"plots": plots, "samples": samples}))


def _cost(report: Report) -> Section | None:
    sizes, latency = report.get("sizes") or {}, report.get("latency") or {}
    if not sizes and not latency:
        return None
    return Section("cost", "Size and latency", fill("cost.html", {"sizes": sizes, "latency": latency}))


def _compression(report: Report) -> Section | None:
    compression = report.get("compression") or {}
    if not compression:
        return None
    values = {"compression": compression, "score": compression["score"]}
    return Section("compression", "Compression", fill("compression.html", values))


def _privacy(report: Report) -> Section | None:
    privacy = report.get("privacy") or {}
    if not privacy:
        return None
    canaries = (report.get("audit") or {}).get("canaries")
    values = {
        "privacy": {**privacy, "insecure": words.insecure(privacy)},
        "told": words.private(privacy),
        "measured": words.bounded(canaries) if canaries else "",
        "plot": figures.spent(privacy["curve"], privacy["delta"]) if privacy.get("curve") else None,
        "rows": words.ledger_rows(privacy),
        "readings": [(said, words.epsilon(value)) for said, value in privacy.get("readings") or []],
    }
    return Section("privacy", "Privacy", fill("privacy.html", values))


def _audit(report: Report) -> Section | None:
    audit = report.get("audit") or {}
    if not audit.get("attacks"):
        return None
    attacks = [(label, audit["attacks"][key]) for key, label in words.ATTACKS.items() if key in audit["attacks"]]
    canaries: Any = audit.get("canaries")
    by_class = audit.get("by_class") or {}
    values = {
        "audit": audit,
        "verdict": words.verdict(audit),
        "attacks": attacks,
        "few": [at for at, score in attacks[0][1]["tpr"].items() if "reason" not in score][::-1],
        "lacking": [score["reason"] for score in attacks[0][1]["tpr"].values() if "reason" in score],
        "rates": max(found["epsilon"]["epsilon"] for _, found in attacks),
        "plot": figures.attacks(audit["attacks"]),
        "bounded": words.bounded(canaries) if canaries else "",
        "broken": canaries and canaries.get("upper") is not None and canaries["epsilon"] > canaries["upper"],
        "classes": by_class.get("rows") or [],
        "by": words.ATTACKS.get(str(by_class.get("attack")), ""),
    }
    return Section("audit", "What it gives away", fill("audit.html", values))


def _profile(report: Report) -> Section | None:
    profile = report.get("profile") or {}
    if not profile:
        return None
    values = {"workers": profile["workers"], "told": words.synchronisation(profile)}
    return Section("profile", "A step's time", fill("profile.html", values))


def _waiting(report: Report) -> Section | None:
    found = report.get("waiting") or {}
    return (
        Section("waiting", "Waiting for data", fill("waiting.html", {"told": words.waiting(found)})) if found else None
    )


def _artefacts(report: Report) -> Section | None:
    rows = report.get("artefacts") or []
    if not rows:
        return None
    key = rows[0]["score"]["name"]
    label = words.SCORES.get(key, key.replace("_", " "))
    values = {
        "rows": [{**row, "moved": words.change(row["change"])} for row in rows],
        "label": label,
        "plot": figures.artefacts(rows, label),
        "kept": [row for row in rows if row.get("kept_in_float")],
    }
    return Section("artefacts", "What ships", fill("artefacts.html", values))


def _data(report: Report) -> Section | None:
    data = report.get("data") or {}
    if not data:
        return None
    parts = [(part, data[part]) for part in ("train", "validation", "test") if words.is_number(data.get(part))]
    values = {"data": data, "parts": parts, "total": sum(count for _, count in parts)}
    return Section("data", "Data", fill("data.html", values))


def _model(report: Report) -> Section | None:
    model = report.get("model") or {}
    return Section("model", "Model", fill("model.html", {"model": model})) if model else None


def _plan(report: Report) -> Section | None:
    plan = report.get("plan") or {}
    if not plan:
        return None
    text = yaml.safe_dump(plan, sort_keys=False, allow_unicode=True, width=60)
    return Section("plan", "Plan", fill("plan.html", {"text": text}))


def _environment_section(report: Report) -> Section | None:
    given = report.get("environment") or {}
    return Section("environment", "Environment", fill("other.html", {"value": given})) if given else None


def _others(report: Report) -> Iterator[Section]:
    """What no function above knows, so that nothing a verb wrote is lost."""
    for key in report:
        if key not in SHOWN and report[key] not in (None, "", [], {}):
            title = str(key).replace("_", " ").capitalize()
            yield Section(f"other-{figures.slug(str(key))}", title, fill("other.html", {"value": report[key]}))


SECTIONS: tuple[Callable[[Report], Section | None], ...] = (
    _scores,
    _learning,
    _confusion,
    _classes,
    _curves,
    _calibration,
    _residuals,
    _mistakes,
    _language,
    _artefacts,
    _cost,
    _compression,
    _privacy,
    _audit,
    _profile,
    _waiting,
    _data,
    _model,
    _plan,
    _environment_section,
)
