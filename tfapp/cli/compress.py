"""tfapp compress: a finished run made smaller and faster, as far as the targets ask for."""

from __future__ import annotations

import json

import click

from tfapp.cli import asking


@click.command()
@click.argument("run")
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--pipeline",
    default="prune,cluster,quantize",
    show_default=True,
    help="Stages, in order: distill, prune, cluster, quantize.",
)
@click.option(
    "--target", default="", metavar="METRIC<=X,…", help="What the file must be: size, gzip, latency, a score."
)
@click.option("--epochs", type=click.IntRange(1), help="Epochs of each stage (default: two fifths of the run's).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(run: str, words: tuple[str, ...], pipeline: str, target: str, epochs: int | None, as_json: bool) -> None:
    """Make a finished run's model smaller: distil, prune, cluster, quantise, each a short training from the last.

    The strength is searched until the targets are met on the validation part; then every stage's file is
    measured on the test part, in the run's report. Targets that no level meets end in 4, with the best that
    was reached. The same command again goes on where it was stopped.

    \b
      tfapp compress digits
      tfapp compress mnist --target 'gzip<=0.1x,accuracy>=-0.01'
      tfapp compress mnist --pipeline prune,quantize prune.sparsity=0.9 --epochs 3
      tfapp compress cifar10 --pipeline distill,quantize --target 'size<=200kB,latency<=1ms'
    """
    from tfapp import run as runs
    from tfapp.compress import stages, targets
    from tfapp.errors import GateFailed
    from tfapp.runtime import import_tensorflow

    wanted, chosen = targets.parse(target), stages.parse(pipeline)
    words_of = stages.checked(words, chosen)
    found = runs.find(run)
    found.finished()
    import_tensorflow()
    from tfapp.compress import pipeline as compression

    report, made = compression.compress(found, compression.Asked(chosen, wanted, epochs, words_of), asking.say)
    told = report["compression"]
    if as_json:
        click.echo(json.dumps(told, indent=1))
    else:
        for row in report["artefacts"]:
            click.echo(_line(row))
        click.echo(f"file {told['file']}\nreport {found.file('report.html')}")
    if made.missed:
        raise GateFailed(f"no level meets {', '.join(map(str, made.missed))}; what was reached is in {told['file']}")


def _line(row: dict) -> str:
    score, change = row["score"], row["change"]
    return (
        f"{row['name']:16} {row['bytes'] / 1000:9,.1f} kB {row['gzip_bytes'] / 1000:9,.1f} kB gzipped  "
        f"{score['name']} {score['value']:.4f} ({change['value']:+.4f})  {row['latency']['1']['p50_ms']:.3f} ms"
    )
