"""tfapp evaluate: measure a run again."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tfapp.cli import asking, showing


@click.command()
@click.argument("run")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Labelled data of your own, in the form of the training data."
)
@click.option("--gate", "gates", multiple=True, metavar="METRIC>=X", help="Exit with 4 if the score misses this.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(run: str, data: Path | None, gates: tuple[str, ...], as_json: bool) -> None:
    """Measure a run's exported model: on its own test part, or on labelled data of yours.

    The result becomes a section of the run's report.

    \b
      tfapp evaluate digits
      tfapp evaluate tabular --data march.csv --gate 'roc_auc>=0.9'
    """
    from tfapp import gate
    from tfapp import run as runs
    from tfapp.runtime import import_tensorflow

    checks = [gate.parse(text) for text in gates]
    found = runs.find(run)
    found.finished()
    import_tensorflow()
    from tfapp import worth

    report, measured = worth.again(found, data, asking.say)
    if as_json:
        click.echo(json.dumps(measured, indent=1))
    else:
        # The report's calibration is that of the run's own test part.
        of_it = {} if data is None else {"calibration": None}
        showing.worth({**report, "evaluation": measured, **of_it}, found.folder)
    gate.check(checks, {"evaluation": measured})
