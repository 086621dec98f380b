"""tfapp plan: what would it cost?"""

from __future__ import annotations

import json

import click

from tfapp.cli import asking


@click.command()
@asking.words
@asking.files
@asking.seed
@asking.steps
@click.option(
    "--workers", type=click.IntRange(1), help="Plan for so many machines like this one (default: as TF_CONFIG says)."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON: also all that tfapp validate --json gives.")
def command(words, files, seed, steps, workers, as_json) -> None:
    """Measure what a plan would cost: memory by batch size, examples a second, time, checkpoints; train nothing.

    Runs real training steps of growing batches for up to two minutes, in a process of its own. It shows what
    fit.batch_size=auto would take, and the cost of the batch size that the plan has. Exit code 5 when the
    plan's batch size, or any, does not fit. tfapp validate checks the same plan without running a step.

    \b
      tfapp plan digits
      tfapp plan digits fit.batch_size=auto --workers 4
      tfapp plan tabular data=mine.csv target=price --json
    """
    _, module, plan, _ = asking.ask(words, files, seed, steps)
    from tfapp import cost

    asking.say("running training steps of growing batches, for up to two minutes …")
    found = cost.estimate(plan, module, cost.workers(workers))
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    from rich.console import Console

    Console(highlight=False).print(cost.table(found))
    click.echo()
    for line in cost.lines(found):
        click.echo(line)
