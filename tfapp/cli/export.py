"""tfapp export: the model in the form that it is served in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfapp.cli import asking, showing
from tfapp.errors import Expected, Usage

if TYPE_CHECKING:
    from tfapp.lite.asked import Asked

# As tfapp.lite.converter has them; here, so that --help imports nothing.
SCHEMES = ("none", "dynamic", "float16", "int8", "int16x8")
# Which scheme reads which option.
USED_BY = {"--representative": ("int8", "int16x8"), "--tolerance": ("int8", "int16x8"), "--io": ("int8",)}


@click.command()
@click.argument("run")
@click.option(
    "--format", "kind", type=click.Choice(["savedmodel", "keras", "tflite"]), required=True, help="What to write."
)
@click.option("--quantize", type=click.Choice(SCHEMES), help="TFLite: how its numbers are held (none: float32).")
@click.option(
    "--representative", type=int, metavar="N", help="int8, int16x8: training examples to learn the ranges from (256)."
)
@click.option("--io", type=click.Choice(["float32", "int8"]), help="int8: what float inputs and outputs are (float32).")
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    help="int8, int16x8: points of accuracy, or percent of an error, that it may lose on the validation part (0.5).",
)
@click.option("--output", type=click.Path(path_type=Path), help="Where (default: exports/ in the run).")
@click.option("--measure/--no-measure", default=True, help="Measure it on the test part for the report (the default).")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(
    run: str,
    kind: str,
    quantize: str | None,
    representative: int | None,
    io: str | None,
    tolerance: float | None,
    output: Path | None,
    measure: bool,
    as_json: bool,
) -> None:
    """Write a run's model, raw features in and probabilities or values out, and check the written file.

    A TFLite file or SavedModel is then measured on the run's test part: size, accuracy against the run's own model,
    latency, memory. The report's section «What ships» has a row for each.

    \b
      tfapp export digits --format tflite
      tfapp export digits --format tflite --quantize int8
      tfapp export digits --format savedmodel --output serving/digits/1
    """
    from tfapp import run as runs

    given = {"--quantize": quantize, "--representative": representative, "--io": io, "--tolerance": tolerance}
    _check(kind, quantize or "none", {option: value for option, value in given.items() if value is not None})
    asked = _asked(quantize, representative, io, tolerance) if kind == "tflite" else None
    found = runs.find(run)
    found.finished()
    from tfapp.runtime import import_tensorflow

    import_tensorflow()
    from tfapp import export
    from tfapp.lite import exporting

    if asked:
        asked = exporting.settled(found, asked)
        path = output or found.file("exports") / asked.file
        written = exporting.write(found, path, asked, asking.say)
    else:
        path = output or found.file("exports") / {"savedmodel": "savedmodel", "keras": "model.keras"}[kind]
        written = export.export(found, kind, path)
    row = _measured(found, path) if measure and kind != "keras" else None
    if as_json:
        click.echo(json.dumps({**written, **({"measured": row} if row else {})}, indent=1))
        return
    for line in _lines(written):
        click.echo(line)
    if row:
        for line in showing.artefact(row):
            click.echo(line)
        click.echo(f"report {found.file('report.html')}")


def _asked(quantize: Any, representative: int | None, io: Any, tolerance: float | None) -> Asked:
    from tfapp.lite.asked import Asked

    usual = Asked()
    return Asked(
        quantize or usual.quantize,
        usual.representative if representative is None else representative,
        io or usual.io,
        usual.tolerance if tolerance is None else tolerance,
    )


def _check(kind: str, scheme: str, given: dict[str, Any]) -> None:
    """Refuse what would be read by nobody."""
    if kind != "tflite" and given:
        raise Usage(f"{next(iter(given))} is for TFLite files, not for {kind}\nadd --format tflite, or leave it out")
    for option, schemes in USED_BY.items():
        if option in given and scheme not in schemes:
            raise Usage(
                f"{option} means nothing to --quantize {scheme}\n"
                f"it is for {' and '.join(schemes)}: leave it out, or take one of these"
            )


def _measured(found: Any, path: Path) -> dict[str, Any] | None:
    """The row of the report; the file stands whether or not the run's data is still there."""
    from tfapp.lite import exporting

    own, whole = found.file("exports").resolve(), path.resolve()
    name = str(whole.relative_to(own)) if whole.is_relative_to(own) else str(path)
    try:
        return exporting.measured(found, path, name)
    except Expected as error:
        asking.say(f"written, but not measured: {error}")
        return None


def _lines(written: dict[str, Any]) -> list[str]:
    lines = [
        f"wrote {written['path']} ({written['bytes'] / 1000:,.1f} kB); on {written['checked']} examples its outputs "
        f"differ from the run's model by at most {written['max_difference']:.2g}"
    ]
    if "preprocess" in written:
        lines.append(f"wrote {written['preprocess']}: what the raw features go through first; keep the two together")
    if kept := written.get("kept_in_float"):
        more = f" and {len(kept) - 8} more" if len(kept) > 8 else ""
        lines.append(f"kept in float: {', '.join(kept[:8])}{more}")
    if errors := written.get("layer_errors"):
        worst = ", ".join(f"{one['layer']} {one['error']:.2f}" for one in errors[:5])
        lines.append(f"error of the worst layers, in steps of their scale (rounding alone is 0.29): {worst}")
    return lines
