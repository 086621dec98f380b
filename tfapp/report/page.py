"""The report as one HTML file that needs nothing else: no network, no script, no font."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfapp.report import figures, words
from tfapp.report.sections import fill, sections
from tfapp.report.words import Report

# Scores that stand beside the headline.
CARDS = {"roc_auc": "ROC-AUC", "perplexity": "Perplexity", "log_loss": "Log loss", "rmse": "RMSE", "r2": "R²"}


def render(report: Report) -> str:
    """The page of one run from its report.json (keys: see `tfapp.report`); the same bytes for the same report."""
    values = {
        "report": report,
        "title": report.get("title") or str(report.get("recipe", "run")).replace("_", " "),
        "headline": words.headline(report),
        "cards": _cards(report),
        "sections": sections(report),
    }
    return str(fill("page.html", values))


def _cards(report: Report) -> list[dict[str, str]]:
    """The few numbers beside the headline that decide whether a model can be used."""
    scores = (report.get("evaluation") or {}).get("scores") or {}
    cards = [
        _card(label, words.number(words.value_of(scores[key])), words.span(scores[key]).removeprefix("95 % interval "))
        for key, label in CARDS.items()
        if words.is_number(words.value_of(scores.get(key)))
    ]
    calibration = report.get("calibration") or {}
    if calibration.get("before"):
        after = calibration.get("after")
        note = f"{words.number(after['ece'])} with temperature" if after else "before any temperature"
        cards.append(_card("Calibration error", words.number(calibration["before"]["ece"]), note))
    if (sized := words.main_size(report)) and "bytes" in sized[1]:
        packed = sized[1].get("gzip_bytes")
        cards.append(_card("Size", words.size(sized[1]["bytes"]), f"{words.size(packed)} gzipped" if packed else ""))
    if timed := words.main_latency(report):
        batch = "1" if "1" in timed[1] else next(iter(timed[1]), None)
        times = timed[1].get(batch, {}) if batch else {}
        what = "one example" if batch == "1" else f"batch of {batch}"
        if "p50_ms" in times:
            note = f"{what}; 95 % within {words.milliseconds(times.get('p95_ms'))}"
            cards.append(_card("Latency", words.milliseconds(times["p50_ms"]), note))
    model = report.get("model") or {}
    if "parameters" in model:
        trainable = model.get("trainable")
        note = "all trainable" if trainable == model["parameters"] else f"{words.count(trainable)} trainable"
        cards.append(_card("Parameters", words.count(model["parameters"]), note if trainable is not None else ""))
    if private := report.get("privacy"):
        known = words.spent(private)
        value = f"ε {words.epsilon(known)}" if known is not None else "none"
        cards.append(_card("Privacy", value, f"at δ = {(private.get('search') or private)['delta']:g}"))
    if words.is_number(report.get("seconds")):
        epochs = len(report.get("history") or [])
        best = report.get("best_epoch")
        note = f"{epochs} epoch{'s' * (epochs != 1)}" + (f", kept the {_ordinal(best)}" if best else "")
        cards.append(_card("Time", words.duration(report["seconds"]), note if epochs else ""))
    return cards


def _card(label: str, value: str, note: str) -> dict[str, str]:
    return {"label": label, "value": value, "note": note}


def _ordinal(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def render_comparison(reports: Sequence[Report], paired: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page that sets several runs side by side; the first one is what the others are compared with.

    Args:
      reports: two or more report.json.
      paired: `evaluate.compare.paired` (or `paired_errors`) of the first run with each other one, in their order, when
        they were tested on the same examples.
    """
    names = _distinct([words.name(report) for report in reports])
    curves = {name: report.get("history") or [] for name, report in zip(names, reports, strict=True)}
    values = {
        "names": names,
        "reports": reports,
        "headlines": [words.headline(report) for report in reports],
        "rows": _score_rows(reports),
        "cost": _cost_rows(reports),
        "plots": figures.overlaid_curves(curves),
        "plan": _plan_rows(reports),
        "paired": list(zip(names[1:], paired, strict=False)),
    }
    return str(fill("comparison.html", values))


def _distinct(names: list[str]) -> list[str]:
    return [f"{name} ({names[:i].count(name) + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _score_rows(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """A row a score that any run has: its values, each with its difference to the first run's."""
    every = [(report.get("evaluation") or {}).get("scores") or {} for report in reports]
    rows = []
    for key, label in words.SCORES.items():
        values = [words.value_of(scores.get(key)) for scores in every]
        if key in words.REPEATED or not any(words.is_number(value) for value in values):
            continue
        cells = [
            {"value": scores.get(key), "change": _change(value, values[0]) if i else None}
            for i, (scores, value) in enumerate(zip(every, values, strict=True))
        ]
        numbers = [value for value in values if words.is_number(value)]
        best = min(numbers) if key in words.LOWER_IS_BETTER else max(numbers)
        for cell, value in zip(cells, values, strict=True):
            cell["best"] = len(set(numbers)) > 1 and value == best
        rows.append({"name": label, "cells": cells})
    return rows


def _change(value: Any, reference: Any) -> str | None:
    if not words.is_number(value) or not words.is_number(reference):
        return None
    if value == reference:
        return "±0"
    change = words.number(value - reference)
    return change if change.startswith("−") else f"+{change}"


def _cost_rows(reports: Sequence[Report]) -> list[tuple[str, list[str]]]:
    cards = [{card["label"]: card["value"] for card in _cards(report)} for report in reports]
    labels = [
        label
        for label in ("Calibration error", "Size", "Latency", "Parameters", "Privacy", "Time")
        if any(label in c for c in cards)
    ]
    return [(label, [card.get(label, "–") for card in cards]) for label in labels]


def _plan_rows(reports: Sequence[Report]) -> list[tuple[str, list[str]]]:
    """The settings in which the plans differ."""
    plans = [dict(_flat(report.get("plan") or {})) for report in reports]
    keys = dict.fromkeys(key for plan in plans for key in plan)
    rows = [(key, [str(plan.get(key, "–")) for plan in plans]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Nested dicts as dotted keys."""
    if not isinstance(value, Mapping):
        return [(prefix, value)]
    return [pair for key, inner in value.items() for pair in _flat(inner, f"{prefix}.{key}" if prefix else str(key))]
