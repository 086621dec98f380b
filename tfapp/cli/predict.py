"""tfapp predict: the model's answers for new files."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run")
@click.argument("file", nargs=-1, required=True)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of standard output."
)
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of CSV.")
def command(run: str, file: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Predict new files with a run's exported model: images, tables, texts or arrays, as it was trained on.

    Prints a row an example: its name, the predicted class or value, and the probability of each class.
    What could not be read is named on standard error.

    \b
      tfapp predict digits seven.png
      tfapp predict tabular new.csv --output predicted.csv
    """
    from tfapp import run as runs
    from tfapp.runtime import import_tensorflow

    found = runs.find(run)
    found.finished()
    import_tensorflow()
    from tfapp import predict

    table, dropped = predict.files(found, file)
    for one in dropped:
        click.echo(f"left out {one.name}: {one.reason}", err=True)
    text = predict.json_lines(table) if as_json else predict.csv_text(table)
    if output is None:
        click.echo(text, nl=False)
    else:
        runs.write_text(output, text)
        click.echo(f"wrote {len(table)} predictions to {output}", err=True)
