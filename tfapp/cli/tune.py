"""tfapp tune: search a recipe's settings."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import click

from tfapp.cli import asking, launching, showing
from tfapp.errors import Interrupted, Refused, Usage
from tfapp.launch import places, share
from tfapp.launch.places import SSH, Ssh
from tfapp.plan import Plan
from tfapp.tune import oracles

TRIALS = 20


@click.command()
@asking.words
@asking.files
@click.option("--algorithm", type=click.Choice(list(oracles.ALGORITHMS)), default="tpe", show_default=True)
@click.option("--trials", type=click.IntRange(1), help=f"So many trials in all (default: {TRIALS}, or what fits).")
@click.option("--budget", metavar="TIME", help="Stop in time, with the best so far exported: 90s, 30m, 2h.")
@click.option("--objective", metavar="NAME[,…]", help="As accuracy, or accuracy,-latency_ms,-size_kb.")
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, help="Seed of the search; of trainings: runtime.seed."
)
@click.option("--stopper", metavar="RULE", help="End hopeless trials: median, or percentile:75.")
@click.option("--folds", type=click.IntRange(2), help="Score by cross-validation with so many folds.")
@click.option("--repeat", type=click.IntRange(2), help="Score by the mean over so many seeds.")
@click.option("--parallel", type=click.IntRange(1), default=1, help="Trials at once; they share cores and GPUs.")
@click.option("--workers", type=click.IntRange(1), default=1, help="So many processes train each trial together.")
@click.option("--hosts", metavar="A,B,…", help="A trial at a time on each of these hosts, through ssh.")
@click.option("--ssh", metavar="COMMAND", help=f"The ssh command (default: {shlex.join(SSH)}).")
@click.option("--python", default=sys.executable, help="The interpreter on the hosts (default: the path of this one).")
@click.option("--folder", type=click.Path(path_type=Path), help="The search's folder (default: under runs/tune/).")
@click.option("--fresh", is_flag=True, help="Set a search that is there aside (nothing is deleted) and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def command(
    words,
    files,
    algorithm,
    trials,
    budget,
    objective,
    seed,
    stopper,
    folds,
    repeat,
    parallel,
    workers,
    hosts,
    ssh,
    python,
    folder,
    fresh,
    as_json,
) -> None:
    """Search a recipe's settings: each trial is an ordinary run, scored on validation data; the test part is for the winner.

    What is searched are words with a range beside ordinary ones; without any, what the recipe's space() says.
    The same command goes on with a search that was stopped or killed.

    \b
      tfapp tune digits units=int:32..256:32 learning_rate=log:1e-4..1e-2 fit.batch_size=choice:32,64
      tfapp tune digits dropout=float:0..0.6 --algorithm bayesian --trials 30 --objective accuracy
      tfapp tune tabular --budget 30m --stopper median --parallel 2
      tfapp tune image_folder folder=photos --workers 2
      tfapp train -c runs/tune/…/best.yaml
    """
    from tfapp import run as runs
    from tfapp.tune import search as searches
    from tfapp.tune import space

    seconds = None if budget is None else parse_budget(budget)
    params, plain = space.parse(words)
    recipe, module, own, asked = asking.layers(plain, files, None, None)
    search = searches.ask(
        recipe, module, [own, *asked], params, algorithm, objective, seed, stopper, folds or 1, repeat or 1
    )
    if hosts is not None and parallel > 1:
        raise Usage(
            "--parallel is for this machine, --hosts for others\nname a host twice for two trials at once on it"
        )
    if workers > 1:
        _check_together(search.plan({}), workers, hosts)
    elif (strategy := search.plan({}).runtime.strategy) in ("multiworker", "parameter_server"):
        raise Refused(
            f"runtime.strategy={strategy}, but one process trains a trial\n"
            "have several do it: --workers 2; or leave the strategy out"
        )
    launching.alone("a search is started once, and starts its workers itself: env -u TF_CONFIG tfapp tune …")
    if hosts is None:
        _check_share(parallel, workers)
    where = places.on_hosts(hosts.split(",")) if hosts is not None else places.here(parallel)
    reach = Ssh(tuple(shlex.split(ssh)) if ssh else SSH, python)
    folder = folder or searches.place(search)
    searches.begin(folder, search, fresh)
    if trials is None and seconds is None and algorithm not in ("grid", "hyperband"):
        trials = TRIALS
    with runs.held(runs.Run(folder)):
        asking.say(f"searching in {folder}")
        from tfapp.tune import go

        try:
            found, report = go.search(search, folder, where, reach, trials, seconds, asking.say, workers)
        except KeyboardInterrupt:
            raise Interrupted("stopped; running trials have checkpoints, and the same command goes on") from None
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    showing.worth(report, folder / "best")
    for line in go.lines(found):
        click.echo(line)


def _check_together(plan: Plan, workers: int, hosts: str | None) -> None:
    """Refuse what several workers a trial do not go together with."""
    if hosts is not None:
        raise Refused(
            f"--workers {workers} with --hosts: the workers of a trial are processes of this machine\n"
            "leave --workers out for a trial at a time on each host; over hosts, train what was found with tfapp launch"
        )
    runtime = plan.runtime
    if runtime.replicas or runtime.mesh or runtime.strategy not in ("auto", "multiworker"):
        told = f"runtime.replicas={runtime.replicas}" if runtime.replicas else f"runtime.strategy={runtime.strategy}"
        told = "runtime.mesh" if runtime.mesh else told
        raise Refused(
            f"--workers {workers} with {told}, which is for another kind of job\n"
            "leave one of the two out; each worker uses all devices of its share"
        )


def _check_share(parallel: int, workers: int) -> None:
    """Make sure that there is a part of this machine for each process; tell where cores are fewer."""
    each = parallel * workers
    share.check(each)
    cores = len(share.cores())
    if each > cores and not share.gpus():
        asking.say(
            f"{each} processes at once on {cores} core{'s' * (cores > 1)}: some share one, which seldom gains time"
        )


def parse_budget(text: str) -> float:
    """Seconds of a time such as 90s, 30m, 1.5h; without a letter it is minutes.

    Raises:
      Usage: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text.strip())
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600, None: 60}[found[2]] if found else 0.0
    if not seconds:
        raise Usage(f"cannot read --budget {text}\na time is 90s, 30m or 2h")
    return seconds
