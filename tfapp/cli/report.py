"""tfapp report: the page that says what a run is worth."""

from __future__ import annotations

import json

import click

from tfapp.cli import showing
from tfapp.errors import Missing


@click.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print the report's numbers as JSON instead.")
def command(run: str, as_json: bool) -> None:
    """Write a run's report.html anew from its numbers, and say where it is.

    \b
      tfapp report runs/digits
      tfapp report digits --json
    """
    from tfapp import run as runs

    found = runs.find(run)
    whole = found.read("report.json")
    if not whole:
        raise Missing(
            f"{found.folder} has no report yet: it is {found.status}\nfinish it: tfapp train -c {found.file('plan.yaml')}"
        )
    if as_json:
        click.echo(json.dumps(whole, indent=1))
        return
    from tfapp import report as pages

    runs.write_text(found.file("report.html"), pages.render(whole))
    showing.worth(whole, found.folder)
