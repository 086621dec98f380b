"""tfapp runs: what has been trained."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> None:
    """List the runs under runs/ (or TFAPP_RUNS), newest first.

    \b
      tfapp runs
    """
    from tfapp import run as runs

    rows = [_row(run) for run in runs.every()]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        click.echo(f"no run in {runs.root()}/ yet; train one: tfapp train digits")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("run", "recipe", "status", "started", "score"):
        table.add_column(column, no_wrap=column == "run")
    for row in rows:
        table.add_row(
            row["run"], row["recipe"], row["status"], row["started"].replace("T", " ")[:16], row["score"] or ""
        )
    Console().print(table)


def _row(run: Any) -> dict[str, Any]:
    from tfapp.errors import Missing

    try:
        facts, report, plan = run.read("run.json"), run.read("report.json"), run.plan()
    except (Missing, OSError):  # One run that cannot be read does not hide the others.
        facts, report, plan = {"status": "damaged"}, {}, {}
    scores = report.get("evaluation", {}).get("scores", {})
    name = next((name for name in ("accuracy", "rmse") if name in scores), None)
    return {
        "run": run.folder.name,
        "folder": str(run.folder),
        "recipe": str(plan.get("recipe", "")),
        "status": facts.get("status", "new"),
        "started": facts.get("started", ""),
        "score": f"{name} {scores[name]['value']:.4g}" if name else None,
    }
