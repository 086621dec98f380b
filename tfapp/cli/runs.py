"""tfapp runs: what has been trained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tfapp.private.ledger import Ledger


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
    private = any(row["epsilon"] for row in rows)
    for column in ("run", "recipe", "status", "started", "score", *(["privacy"] if private else [])):
        table.add_column(column, no_wrap=column == "run")
    for row in rows:
        shown = [row["run"], row["recipe"], row["status"], row["started"].replace("T", " ")[:16], row["score"] or ""]
        table.add_row(*shown, *([row["epsilon"] or ""] if private else []))
    Console().print(table)


def _row(run: Any) -> dict[str, Any]:
    from tfapp.errors import Missing
    from tfapp.private import ledger

    try:
        facts, report, plan = run.read("run.json"), run.read("report.json"), run.plan()
        spent = ledger.read(run.folder)
    except (Missing, OSError):  # One run that cannot be read does not hide the others.
        facts, report, plan, spent = {"status": "damaged"}, {}, {}, None
    scores = report.get("evaluation", {}).get("scores", {})
    name = next((name for name in ("accuracy", "rmse") if name in scores), None)
    return {
        "run": run.folder.name,
        "folder": str(run.folder),
        "recipe": str(plan.get("recipe", "")),
        "status": facts.get("status", "new"),
        "started": facts.get("started", ""),
        "score": f"{name} {scores[name]['value']:.4g}" if name else None,
        "epsilon": _private(spent) if spent else None,
    }


def _private(spent: Ledger) -> str:
    from tfapp.private.ledger import said

    told = f"ε {said(spent.spent)} at δ {spent.delta:g}"
    return f"none: known key ({told})" if spent.insecure else told
