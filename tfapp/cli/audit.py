"""tfapp audit: what a finished run gives away of the rows that it was trained on."""

from __future__ import annotations

import json

import click

from tfapp.cli import asking
from tfapp.errors import Interrupted, Usage


@click.command()
@click.argument("run")
@click.option(
    "--shadows", type=click.IntRange(4), metavar="N", help="Likelihood-ratio attack with N shadow runs (even; 16)."
)
@click.option("--canaries", type=click.IntRange(10), metavar="M", help="Lower bound on ε by one run with M false rows.")
@click.option("--parallel", type=click.IntRange(1), default=1, help="Trainings at once; they share cores and GPUs.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of all lots; of trainings: the run's own.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def command(run: str, shadows: int | None, canaries: int | None, parallel: int, seed: int, as_json: bool) -> None:
    """Attack a finished run: can it be told from its answers who was trained on?

    Rows that it was trained on are told from rows of its test part by thresholds and by a logistic regression; with
    --shadows by the likelihood ratio of models trained with and without each row. --canaries bounds the ε of
    (ε, δ)-privacy from below, beside what is proved of a private run: more than that ends in 4. The trainings are
    ordinary runs under RUN/audit/; the same command goes on where it was stopped.

    \b
      tfapp audit digits
      tfapp audit mnist --shadows 16 --parallel 2
      tfapp audit mnist --canaries 1000
    """
    from tfapp import run as runs

    if (shadows or 0) % 2:
        raise Usage(f"--shadows {shadows} is odd: they are made in pairs\ntake --shadows {shadows + 1}")  # type: ignore[operator]
    found = runs.find(run)
    found.finished()
    from tfapp.runtime import import_tensorflow

    import_tensorflow()
    from tfapp.audit import go
    from tfapp.report import words

    place = found.file("audit")
    runs.make_folder(place)
    try:
        with runs.held(runs.Run(place)):
            told = go.audit(found, go.Asked(shadows or 0, canaries or 0, parallel, seed), asking.say)
    except KeyboardInterrupt:
        raise Interrupted("stopped; running trainings have checkpoints, and the same command goes on") from None
    if as_json:
        click.echo(json.dumps(told, indent=1))
    else:
        for line in words.audited(told):
            click.echo(line)
        click.echo(f"report {found.file('report.html')}")
    go.gate(told)
