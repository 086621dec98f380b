"""From words to a launched job: what `launch` and `train --workers` share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import click

from tfapp.errors import Usage
from tfapp.launch import cluster
from tfapp.launch.places import Place


def run(ctx: click.Context, words: Sequence[str], places: tuple[Place, ...], **how: Any) -> NoReturn:
    """Launch and leave with the job's exit code.

    Args:
      words: the workers' command line. places: where they run. how: the other fields of Launch.

    Raises:
      Usage: this process is a worker itself.
    """
    from tfapp.launch.screen import Screen
    from tfapp.launch.supervise import Launch, run

    alone("there every worker is started with plain tfapp train; to launch here: env -u TF_CONFIG tfapp …")
    if ctx.find_root().obj:
        words = [*words, "--debug"]
    launch = Launch(tuple(words), places, **how)
    raise click.exceptions.Exit(run(launch, Screen(len(places), servers=launch.servers)).code)


def alone(way_out: str) -> None:
    """Make sure that this process is no worker of a job.

    Raises:
      Usage: it is one; the way out is told.
    """
    already = cluster.current()
    if already is not None and already.workers > 1:
        raise Usage(
            f"{already.source} says that this is worker {already.worker} of {already.workers} already\n{way_out}"
        )


def without_workers(words: Sequence[str]) -> list[str]:
    """The words of `train` for a worker."""
    kept, skip = [], False
    for word in words:
        option, given, _ = word.partition("=")
        if not skip and option not in ("--workers", "--ps"):
            kept.append(word)
        skip = not skip and option in ("--workers", "--ps") and not given
    return kept


def asynchronous(words: Sequence[str]) -> list[str]:
    """The words of `train` with the strategy that parameter servers are for.

    Raises:
      Usage: they ask for another strategy.
    """
    key, wanted = "runtime.strategy=", "parameter_server"
    others = [word for word in words if word.startswith(key) and word not in (f"{key}auto", f"{key}{wanted}")]
    if others:
        raise Usage(f"--ps with {others[-1]}: servers are for {key}{wanted}\nleave one of them out")
    return [*words, f"{key}{wanted}"]
