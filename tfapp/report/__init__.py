"""What a run leaves for people to read: one HTML page, a few lines on the terminal, a table of several runs.

All of it is made from `report.json` alone, so that it can be made again at any time. Its keys, all optional:

    schema        1
    recipe        name of the recipe;  run: name of the run's folder;  title;  about: first paragraph of its docstring
    status        "finished", or what happened instead;  started: ISO time;  seconds: of wall time
    task          "classification" | "regression" | "language";  target: what is predicted;  classes: [str];  kind: as `Data.kind`
    data          {train, validation, test, dropped: counts, dropped_examples: [{name, reason}], notes: [str]}
    history       [{epoch: from 1, loss, val_loss, accuracy, val_accuracy, …, learning_rate, seconds}]
    best_epoch    the epoch whose weights were kept
    evaluation    `evaluate.classification.measure` or `evaluate.regression.measure`, of the exported model
                  or `evaluate.language.measure`, with a `baseline`
    samples       how a language model goes on: [{name, prompt, continuation, truth}]
    calibration   `evaluate.calibration.measure`
    mistakes      `report.mistakes.worst`: [{name, label, predicted, confidence | error, image: data URI | text | row}]
    artefacts     [`shipped.measure`, with `part`: the part of the data it was measured on], a row an exported file
    model         {parameters, trainable, layers: [{name, type, output, parameters}]}
    sizes         format → `evaluate.latency.size`: {bytes, gzip_bytes}
    latency       format → `evaluate.latency.measure`: {batch size: {p50_ms, p95_ms, mean_ms, examples_per_second}}
    privacy       `private.ledger.told`, and of a search's winner `search`: `private.ledger.together`
    audit         `audit.go.audit`: attacks, by_class, canaries, proved
    profile       {steps, workers: [{step_ms, collective_ms, lost_ms, collectives}]}: where the time of a step went
    plan          the plan as nested dicts
    environment   versions, devices, … as nested dicts

A key that is not listed here is shown too, as a plain table under its own name.
"""

from __future__ import annotations

from typing import Any

__all__ = ["render", "render_comparison"]


def __getattr__(name: str) -> Any:
    # Matplotlib takes as long to import as a short training; the first step should not wait for the page that comes last.
    if name in __all__:
        from tfapp.report import page

        return getattr(page, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
