"""tfapp train: from words to a finished run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tfapp.cli import asking, launching, showing
from tfapp.errors import Refused, Usage
from tfapp.launch import cluster, places, signs


class _Train(click.Command):
    """Remembers its words as they came, for the workers of `--workers`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["words"] = list(args)
        return super().parse_args(ctx, args)


@click.command(cls=_Train)
@asking.words
@asking.files
@asking.seed
@asking.steps
@click.option("--run", "folder", type=click.Path(path_type=Path), help="The run's folder (default: under runs/).")
@click.option("--fresh", is_flag=True, help="Set a run that is there aside (nothing is deleted) and start anew.")
@click.option("--dry-run", is_flag=True, help="Show the resolved plan and where it would run; train nothing.")
@click.option("--gate", "gates", multiple=True, metavar="METRIC>=X", help="Exit with 4 if the test score misses this.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--profile",
    type=click.IntRange(1, 1000),
    is_flag=False,
    flag_value=20,
    metavar="[STEPS]",
    help="Write a TensorBoard profile of so many steps (20), and tell what of their time is lost to synchronisation.",
)
@click.option(
    "--workers", type=click.IntRange(1), help="Train with so many processes of this machine; more: tfapp launch."
)
@click.option(
    "--ps", type=click.IntRange(1), help="With --workers: asynchronous, on variables that so many servers hold."
)
@click.pass_context
def command(ctx, words, files, seed, steps, folder, fresh, dry_run, gates, as_json, profile, workers, ps) -> None:
    """Train a recipe: data, model, checkpoints, export, evaluation and report, in one run directory.

    The same command again goes on with an unfinished run. Settings are key=value words; `tfapp recipes
    show RECIPE` lists them all.

    \b
      tfapp train digits
      tfapp train digits fit.epochs=5 learning_rate=1e-3 average.momentum=0.95
      tfapp train ./mine.py --steps 20 --run /tmp/smoke
      tfapp train -c runs/digits/plan.yaml
      tfapp train digits --gate 'accuracy>=0.98'
      tfapp train digits --workers 2 --profile 20
      tfapp train digits --workers 2 --ps 1
    """
    from tfapp import gate, runtime
    from tfapp import run as runs

    checks = [gate.parse(text) for text in gates]
    if ps is not None and workers is None:
        raise Usage("--ps without --workers: who is to train?\nas tfapp train digits --workers 2 --ps 1")
    if workers is not None and not dry_run:
        theirs = ["train", *launching.without_workers(ctx.meta["words"])]
        if ps:
            launching.run(ctx, launching.asynchronous(theirs), places.around_servers(workers, ps), servers=ps)
        launching.run(ctx, theirs, places.here(workers))
    recipe, module, plan, own = asking.ask(words, files, seed, steps)
    folder = folder or runs.place(plan, own)
    if dry_run:
        click.echo(f"# would train in {folder}\n{plan.to_yaml()}", nl=False)
        return
    if profile and plan.runtime.asynchronous:
        raise Refused("--profile with parameter servers: no step waits for others, so none of its time is lost to them")
    here = cluster.current()
    if here is not None and here.serves:
        from tfapp.launch import servers

        servers.serve(here, lambda: runs.Run(folder).status == "finished")
        return
    if fresh and not signs.launched() and here is not None and here.workers > 1:
        raise Refused(
            "--fresh on many workers that were not started by tfapp launch: each would set the others' run aside\n"
            "move the old run away first, or name a new one with --run FOLDER"
        )
    run = runs.begin(folder, plan, recipe.digest, fresh)
    signs.tell(run=str(folder.absolute()))
    if run.status == "finished" and not run.lacking:
        nothing = "; there is nothing left to profile" if profile else ""
        asking.say(f"{folder} has this run finished; --fresh trains it anew{nothing}")
        report = run.read("report.json")
    else:
        asking.say(f"{'going on with' if run.file('checkpoints').exists() else 'training in'} {folder}")
        runtime.import_tensorflow()
        from tfapp.train import train

        report = train(plan, module, run, asking.say, profile=profile)
    if not report:
        return  # A worker that is not the first: the first one tells.
    if as_json:
        click.echo(json.dumps({"run": str(folder), **report.get("evaluation", {})}, indent=1))
    else:
        showing.worth(report, folder)
    gate.check(checks, report)
