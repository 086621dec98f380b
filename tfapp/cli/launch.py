"""tfapp launch: one command for many workers."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from tfapp.cli import launching
from tfapp.errors import Usage
from tfapp.launch import places
from tfapp.launch.places import SSH, Ssh


@click.command()
@click.option("--workers", type=click.IntRange(1), help="So many processes on this machine.")
@click.option(
    "--ps", type=click.IntRange(1), help="With --workers: asynchronous, on variables that so many servers hold."
)
@click.option(
    "--hosts", metavar="A,B,…", help="A process on each of these hosts, through ssh; the first is the chief's."
)
@click.option("--hostfile", type=click.Path(path_type=Path), help="The hosts from a file: «a» or «a slots=2» a line.")
@click.option(
    "--max-restarts",
    type=click.IntRange(0),
    help="Start the job again so many times when a worker died (default: 3 once a step was trained, before that 0).",
)
@click.option("--grace", type=click.FloatRange(1), default=60, show_default=True, help="Seconds to stop on a signal.")
@click.option(
    "--start-timeout", type=click.FloatRange(1), default=600, show_default=True, help="Seconds to wait for all workers."
)
@click.option(
    "--hang-timeout", type=click.FloatRange(1), default=600, show_default=True, help="Seconds without a step: a hang."
)
@click.option("--ssh", "ssh", metavar="COMMAND", help=f"The ssh command (default: {shlex.join(SSH)}).")
@click.option("--python", default=sys.executable, help="The interpreter on the hosts (default: the path of this one).")
@click.option("--port", type=click.IntRange(1, 65000), help="The workers' port, where a firewall asks (default: any).")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="-- train RECIPE …")
@click.pass_context
def command(
    ctx, workers, ps, hosts, hostfile, max_restarts, grace, start_timeout, hang_timeout, ssh, python, port, words
) -> None:
    """Train with many workers, on this machine or on several.

    The workers' lines are shown with their numbers and kept in the run's logs/. When one dies, all are
    ended, started again, and go on from the last checkpoint; with --ps, the others train on meanwhile, and only
    the one is started again. Ctrl-C and SIGTERM write a checkpoint first.

    \b
      tfapp launch --workers 2 -- train digits
      tfapp launch --workers 2 --ps 1 -- train digits
      tfapp launch --hosts a,b --max-restarts 10 -- train image_folder folder=/nfs/photos --run /nfs/runs/photos
    """
    if sum(value is not None for value in (workers, hosts, hostfile)) != 1:
        raise Usage("say where the workers run, in one way: --workers 2, --hosts a,b or --hostfile FILE")
    if not words or words[0] != "train":
        raise Usage("what is launched is a train command, after --\nas tfapp launch --workers 2 -- train digits")
    _check(words[1:])
    if ps is not None and (workers is None or port is not None):
        raise Usage(
            "--ps goes with --workers: the servers of tfapp launch are on this machine, at ports that it finds\n"
            "on several machines, start tfapp train on each with a TF_CONFIG of chief, worker and ps"
        )
    if ps:
        words, where = tuple(launching.asynchronous(words)), places.around_servers(workers, ps)
    elif workers is not None:
        where = places.here(workers)
    else:
        where = places.from_hostfile(hostfile) if hostfile else places.on_hosts(hosts.split(","))
    launching.run(
        ctx,
        words,
        where,
        servers=ps or 0,
        ssh=Ssh(tuple(shlex.split(ssh)) if ssh else SSH, python),
        port=port,
        max_restarts=max_restarts,
        grace=grace,
        timeouts={"TFAPP_START_SECONDS": f"{start_timeout:g}", "TFAPP_HANG_SECONDS": f"{hang_timeout:g}"},
    )


def _check(words: tuple[str, ...]) -> None:
    """Let a mistyped option fail here and now, not once a worker."""
    from tfapp.cli import train

    parsed = train.command.make_context("tfapp train", list(words))
    for option in ("workers", "ps"):
        if parsed.params[option] is not None:
            raise Usage(f"--{option} stands before the --: leave it out after")
    if parsed.params["dry_run"]:
        raise Usage("a dry run needs no workers\nas tfapp train … --dry-run")
