"""tfapp export: the model in the form that it is served in."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("run")
@click.option(
    "--format", "kind", type=click.Choice(["savedmodel", "keras", "tflite"]), required=True, help="What to write."
)
@click.option("--output", type=click.Path(path_type=Path), help="Where (default: exports/ in the run).")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(run: str, kind: str, output: Path | None, as_json: bool) -> None:
    """Write a run's model, raw features in and probabilities or values out, and check the written file.

    \b
      tfapp export digits --format tflite
      tfapp export digits --format savedmodel --output serving/digits/1
    """
    from tfapp import run as runs
    from tfapp.runtime import import_tensorflow

    found = runs.find(run)
    found.finished()
    import_tensorflow()
    from tfapp import export

    default = {"savedmodel": "savedmodel", "keras": "model.keras", "tflite": "model.tflite"}[kind]
    path = output or found.file("exports") / default
    written = export.export(found, kind, path)
    if as_json:
        click.echo(json.dumps(written, indent=1))
    else:
        click.echo(
            f"wrote {written['path']} ({written['bytes'] / 1000:,.1f} kB); on {written['checked']} examples its outputs "
            f"differ from the run's model by at most {written['max_difference']:.2g}"
        )
