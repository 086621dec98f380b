"""tfapp validate: would it train?"""

from __future__ import annotations

import json

import click

from tfapp.cli import asking


@click.command()
@asking.words
@asking.files
@asking.seed
@asking.steps
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(words, files, seed, steps, as_json) -> None:
    """Resolve and check a plan, read its data, build its model; train nothing.

    Memory is estimated by formula, without running a step; tfapp plan says the same and measures it.

    \b
      tfapp validate digits fit.batch_size=256
      tfapp validate tabular data=mine.csv target=price --json
    """
    _, module, plan, _ = asking.ask(words, files, seed, steps)
    from tfapp.runtime import import_tensorflow

    import_tensorflow()
    from tfapp import batch_size, features, validate
    from tfapp import job as jobs
    from tfapp import recipe as recipes

    asked = plan.model_dump(mode="json")
    with plan.runtime.enter() as machine, recipes.at_work(module):
        if plan.fit.batch_size == "auto":
            smallest = machine.replicas * plan.fit.accumulate
            asking.say(f"fit.batch_size=auto is measured before training; here {smallest} stands for it")
            plan = batch_size.settled(plan, smallest)
        data = features.data(plan, module)
        with machine.strategy.scope():
            job = features.apply(plan, jobs.of(plan, module, data, machine))
            found = {**validate.describe(job), "plan": asked}
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    jobs.announce(job, asking.say)
    for line in validate.lines(found):
        click.echo(line)
