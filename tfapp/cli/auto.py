"""tfapp auto: from a file to a model."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from tfapp.cli import asking, launching, showing
from tfapp.errors import Interrupted, Usage


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--target", metavar="COLUMN", help="The column to predict; of a folder of images the folders tell.")
@click.option("--budget", metavar="TIME", default="10m", show_default=True, help="For everything: 90s, 30m, 2h.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, help="Seed of the search.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where it all goes (default: under runs/tune/).")
@click.option("--fresh", is_flag=True, help="Set what is there aside (nothing is deleted) and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(data, words, target, budget, seed, folder, fresh, as_json) -> None:
    """Make a model of raw data within a given time: a CSV, TSV or Parquet file, texts in a CSV, or a folder of images.

    A look at the data picks the recipe. Its own settings and those that a search finds are tried; the best few
    together become one model that takes raw rows, trained on training and validation examples and measured once on
    held-out ones. Settings of the recipe may be given as words.

    \b
      tfapp auto adult.csv --target income --budget 10m
      tfapp auto photos/ --budget 30m
      tfapp predict runs/tune/…/best new.csv
    """
    from tfapp import run as runs
    from tfapp.cli.tune import parse_budget
    from tfapp.tune import infer, space
    from tfapp.tune import search as searches

    launching.alone("a search is started once: env -u TF_CONFIG tfapp auto …")
    seconds = parse_budget(budget)
    params, _ = space.parse(words)
    found = infer.infer(data, target)
    if params:
        raise Usage(
            f"{params[0].word} is a range, and auto searches what the space() of {found.recipe} says\n"
            f"give one value; or choose the ranges: tfapp tune {shlex.join((found.recipe, *found.words, *words))}"
        )
    recipe, module, own, asked = asking.layers([found.recipe, *found.words, *words], [], None, None)
    search = searches.ask(recipe, module, [own, *asked], (), seed=seed, stop="median")
    folder = folder or searches.place(search)
    searches.begin(folder, search, fresh)
    with runs.held(runs.Run(folder)):
        asking.say(f"{found.why}: the recipe {found.recipe}; all of it is in {folder}")
        from tfapp.tune import automl

        try:
            report = automl.auto(search, folder, seconds, asking.say)
        except KeyboardInterrupt:
            raise Interrupted("stopped; the same command goes on with what was found") from None
    if as_json:
        told = {"run": str(folder / "best"), "test_looks": report["test_looks"], **report.get("evaluation", {})}
        click.echo(json.dumps(told, indent=1))
        return
    showing.worth(report, folder / "best")
    if report["test_looks"] > 1:
        click.echo(f"test        looked at {report['test_looks']} times, by the model of each time the search went on")
