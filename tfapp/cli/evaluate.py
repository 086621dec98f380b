"""tfapp evaluate: measure a run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tfapp.cli import asking, showing
from tfapp.errors import Usage


@click.command()
@click.argument("model", metavar="RUN|MODEL.tflite")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Labelled data of your own, in the form of the training data."
)
@click.option("--gate", "gates", multiple=True, metavar="METRIC>=X", help="Exit with 4 if the score misses this.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(model: str, data: Path | None, gates: tuple[str, ...], as_json: bool) -> None:
    """Measure a run's exported model: on its own test part, or on labelled data of yours.

    The result becomes a section of the run's report. A TFLite file is measured on data of yours (its row in the run's
    report is of the test part).

    \b
      tfapp evaluate digits
      tfapp evaluate tabular --data march.csv --gate 'roc_auc>=0.9'
      tfapp evaluate model.int8.tflite --data march.csv
    """
    from tfapp import gate
    from tfapp import run as runs
    from tfapp.runtime import import_tensorflow

    checks = [gate.parse(text) for text in gates]
    if (path := Path(model)).suffix == ".tflite" and not path.is_dir():
        measured = _by_lite(path, data)
        if as_json:
            click.echo(json.dumps(measured, indent=1))
        else:
            from tfapp.report import text

            click.echo(text.plain({"evaluation": measured}))
        gate.check(checks, {"evaluation": measured})
        return
    found = runs.find(model)
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


def _by_lite(model: Path, data: Path | None) -> dict[str, Any]:
    """What a TFLite file is worth on labelled data."""
    from tfapp import predict

    call = predict.opened(model)
    if data is None:
        raise Usage(
            f"{model} does not hold the data it was tested on\n"
            "give some: --data FILE; what it is worth on the run's test part is in the run's report, under «What ships»"
        )
    return predict.score(call, call.facts, data, asking.say)
