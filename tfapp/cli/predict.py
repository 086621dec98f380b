"""tfapp predict: the model's answers for new files."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("model", metavar="RUN|MODEL.tflite")
@click.argument("file", nargs=-1, required=True)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of standard output."
)
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of CSV.")
@click.option("--tokens", type=click.IntRange(1), help="Language models: how much to write (200).")
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    help="Language models: 0 takes the likeliest, 1 draws as predicted (0.8).",
)
@click.option("--seed", type=click.IntRange(0), help="Language models: of the draws (0).")
def command(
    model: str,
    file: tuple[str, ...],
    output: Path | None,
    as_json: bool,
    tokens: int | None,
    temperature: float | None,
    seed: int | None,
) -> None:
    """Predict new files with a run's exported model or a TFLite file: images, tables, texts or arrays, as it was trained on.

    Prints a row an example: its name, the predicted class or value, and the probability of each class.
    A language model goes on from the end of each text.
    What could not be read is named on standard error.

    \b
      tfapp predict digits seven.png
      tfapp predict tabular new.csv --output predicted.csv
      tfapp predict language_model prompt.txt --tokens 500
      tfapp predict model.int8.tflite seven.png
    """
    from tfapp import predict
    from tfapp import run as runs

    said = [tokens, temperature, seed] != [None] * 3
    usual = predict.Continuation()
    continuation = predict.Continuation(
        usual.tokens if tokens is None else tokens,
        usual.temperature if temperature is None else temperature,
        usual.seed if seed is None else seed,
    )
    if (path := Path(model)).suffix == ".tflite" and not path.is_dir():
        table, dropped = predict.files_by_lite(path, file, continuation if said else None)
    else:
        from tfapp.runtime import import_tensorflow

        found = runs.find(model)
        found.finished()
        import_tensorflow()
        table, dropped = predict.files(found, file, continuation if said else None)
    for one in dropped:
        click.echo(f"left out {one.name}: {one.reason}", err=True)
    text = predict.json_lines(table) if as_json else predict.csv_text(table)
    if output is None:
        click.echo(text, nl=False)
    else:
        runs.write_text(output, text)
        click.echo(f"wrote {len(table)} predictions to {output}", err=True)
