"""tfapp cloud: a run on a machine that is elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfapp.cli import asking
from tfapp.errors import Expected, Missing, Usage

if TYPE_CHECKING:
    from tfapp.cloud.deployment import Deployment, Errand
    from tfapp.cloud.machines import Machine

_MACHINE = [
    click.option(
        "--gpu", metavar="TYPE[:COUNT]", help="A Google Cloud machine with GPUs, as nvidia-l4 or nvidia-l4:2."
    ),
    click.option("--tpu", metavar="TYPE", help="A Google Cloud TPU VM of one host, as v5litepod-8."),
    click.option(
        "--host",
        "hosts",
        multiple=True,
        metavar="[USER@]MACHINE[:PORT][=ADDRESS]",
        help="A machine of yours with Docker, by ssh; several are several workers. ADDRESS: what workers call it.",
    ),
    click.option("--zone", help="Where in Google Cloud, as us-central1-a."),
    click.option("--project", default="", help="Google Cloud project (default: gcloud's own)."),
    click.option("--machine-type", help="Processors and memory of a GPU machine (default: what fits the GPU)."),
    click.option("--spot", is_flag=True, help="Cheaper, and taken away at times: the run goes on when it is back."),
    click.option("--disk", type=click.IntRange(50), default=100, show_default=True, help="GB of a GPU machine's disk."),
    click.option(
        "--iap", is_flag=True, help="Reach Google's machine through Identity-Aware Proxy (no public address)."
    ),
    click.option(
        "--hourly", type=click.FloatRange(0), help="What the machine costs an hour, to be told what it comes to."
    ),
    click.option("--image", help="Image to run: one in a registry is pulled there, another is sent (tfapp:DEVICE)."),
    click.option("--bucket", default="", metavar="gs://…", help="Copy the runs to a bucket each minute."),
    click.option("--host-gpus", is_flag=True, help="Give the container the GPUs of --host machines."),
    click.option(
        "--port", type=click.IntRange(1024, 65000), default=2222, show_default=True, help="First worker's port."
    ),
    click.option("--ssh-config", default="", metavar="FILE", help="Another configuration file for ssh."),
]
_dry = click.option("--dry-run", is_flag=True, help="Print every command that would run, exactly; run none.")


def _machine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_MACHINE):
        command = option(command)
    return command


@click.group(short_help="Train on a cloud machine, or on your own by ssh.")
def command() -> None:
    """Train on a Google Cloud GPU or TPU machine, or on machines of your own by ssh.

    `train` does it all: it makes the machine, trains, brings the run back and deletes the machine, whatever happens.

    \b
      tfapp cloud train digits --gpu nvidia-l4 --zone us-central1-a --spot --dry-run
      tfapp cloud train ./mine.py fit.epochs=5 --tpu v5litepod-8 --zone us-west4-a --bucket gs://mine/runs
      tfapp cloud train digits --host me@desk --host me@attic
      tfapp cloud render slurm digits --workers 2
    """


@command.command()
@click.argument("name")
@_machine_options
@_dry
def up(name: str, dry_run: bool, **asked: Any) -> None:
    """Make a machine and leave it there, for `train --name NAME`; it is billed until `down`.

    \b
      tfapp cloud up big --gpu nvidia-h100-80gb --zone us-central1-a --hourly 11
    """
    from tfapp.cloud import deployment

    made = _deployment(name, asked)
    deployment.up(made, _terminal(dry_run))
    if dry_run:
        return
    asking.say(f"{name} is up; {deployment.cost(made)}\ntrain on it: tfapp cloud train RECIPE --name {name}")


@command.command()
@click.argument("words", nargs=-1, metavar="RECIPE [KEY=VALUE]...")
@click.option("--name", help="Of the run, and of the machine (default: the recipe's).")
@_machine_options
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder that becomes /data."
)
@click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="NAME=value lines: secrets go here.",
)
@click.option("--keep", is_flag=True, help="Leave the machine there afterwards.")
@click.option("--poll", type=click.FloatRange(0.1), default=15, show_default=True, help="Seconds between looks.")
@_dry
def train(
    words: tuple[str, ...],
    name: str | None,
    data: Path | None,
    env_file: Path | None,
    keep: bool,
    poll: float,
    dry_run: bool,
    **asked: Any,
) -> None:
    """Make the machine, train there, bring the run back, delete the machine.

    The machine is deleted also after a failure or Ctrl-C, unless --keep. The same command goes on with a run that was
    brought back unfinished. Words are those of `tfapp train`; paths in them are the machine's: --data is /data.

    \b
      tfapp cloud train digits --gpu nvidia-l4 --zone us-central1-a --spot
      tfapp cloud train tabular data=mine.csv target=price --data ./tables --host me@desk
    """
    from tfapp.cloud import deployment

    errand, stem = _errand(words, data, env_file)
    name = name or re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    if deployment.exists(name) and not any(asked[option] for option in ("gpu", "tpu", "hosts")):
        made = deployment.known(name)
    else:
        made = _deployment(name, asked)
    if made.machines[0].kind == "tpu" and not any(word.startswith("runtime.strategy=") for word in errand.words):
        errand = replace(errand, words=(*errand.words, "runtime.strategy=tpu"))
    code = deployment.train(made, errand, _terminal(dry_run), keep, poll)
    if code:
        failed = Expected(f"the training ended with {code}; what there is of it: {made.run_here}")
        failed.exit_code = code
        raise failed
    if not dry_run:
        click.echo(f"report {made.run_here / 'report.html'}")


@command.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_dry
def status(name: str | None, as_json: bool, dry_run: bool) -> None:
    """Say what is there, how far it has come, and what it costs to leave it.

    \b
      tfapp cloud status
      tfapp cloud status digits
    """
    from tfapp.cloud import deployment

    names = [name] if name else deployment.every()
    terminal = _terminal(dry_run)
    rows = [{"name": one, **row} for one in names for row in deployment.status(deployment.known(one), terminal)]
    if dry_run:
        return
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        click.echo("nothing was made from here that is not taken down")
    for row in rows:
        click.echo(f"{row['name']}: {row['machine']} {row['state']}, training {row['training']}")
        for line in (row["last"], row["cost"]):
            if line:
                click.echo(f"  {line}")


@command.command()
@click.argument("name")
@_dry
def fetch(name: str, dry_run: bool) -> None:
    """Bring a run back as far as it has come.

    \b
      tfapp cloud fetch digits
    """
    from tfapp.cloud import deployment

    folder = deployment.fetch(deployment.known(name), _terminal(dry_run))
    if not dry_run:
        click.echo(f"the run is in {folder}")


@command.command()
@click.argument("name")
@_dry
def down(name: str, dry_run: bool) -> None:
    """Stop the training with a checkpoint, bring the run back, delete the machine.

    \b
      tfapp cloud down digits
    """
    from tfapp.cloud import deployment

    deployment.give_back(deployment.known(name), _terminal(dry_run))
    if not dry_run:
        asking.say(f"{name} is down; nothing of it is billed any more")


@command.group()
def render() -> None:
    """Write a manifest for a scheduler: a Slurm script, or a Kubernetes Indexed Job.

    \b
      tfapp cloud render slurm digits --workers 2 --runs /scratch/me/runs > digits.sbatch
      tfapp cloud render k8s digits --workers 2 --image registry.example/tfapp:cpu --runs-claim runs | kubectl apply -f -
    """


_MANIFEST = [
    click.argument("words", nargs=-1, metavar="RECIPE [KEY=VALUE]..."),
    click.option("--name", help="Of the job and the run (default: the recipe's)."),
    click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Workers, a node each."),
    click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="GPUs a worker."),
    click.option("--minutes", type=click.IntRange(0), default=0, help="Time limit."),
]


def _manifest_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_MANIFEST):
        command = option(command)
    return command


@render.command()
@_manifest_options
@click.option("--runs", default="runs", show_default=True, help="Folder that all nodes share.")
@click.option("--image", default="", help="For apptainer, as tfapp.sif or docker://…; none: the tfapp on the PATH.")
@click.option("--data", default="", help="Folder that becomes /data in the image.")
def slurm(words: tuple[str, ...], name: str | None, runs: str, **asked: Any) -> None:
    """A script for sbatch, on standard output.

    \b
      tfapp cloud render slurm digits --workers 2 --runs /scratch/me/runs | sbatch
    """
    from tfapp.cloud import render

    if asked["data"] and not asked["image"]:
        raise Usage(
            "--data is where an image finds its data, and there is no --image\nname the path among the settings"
        )
    click.echo(render.slurm(_manifest(words, name, runs=runs, **asked)), nl=False)


@render.command()
@_manifest_options
@click.option("--image", required=True, help="Image in a registry that the cluster can pull from.")
@click.option("--runs-claim", default="tfapp-runs", show_default=True, help="Claim that all workers may write.")
@click.option("--data-claim", default="", help="Claim that becomes /data.")
@click.option("--secret", default="", help="Secret whose keys become environment variables.")
def k8s(words: tuple[str, ...], name: str | None, runs_claim: str, data_claim: str, **asked: Any) -> None:
    """A headless Service and an Indexed Job, on standard output.

    \b
      tfapp cloud render k8s digits --workers 2 --image registry.example/tfapp:cpu | kubectl apply -f -
    """
    from tfapp.cloud import render

    click.echo(render.kubernetes(_manifest(words, name, runs=runs_claim, data=data_claim, **asked)), nl=False)


def _terminal(dry: bool) -> Any:
    from tfapp.cloud.commands import Terminal

    # Of a dry run, only the commands are said.
    return Terminal((lambda line: None) if dry else asking.say, dry)


def _errand(words: tuple[str, ...], data: Path | None, env_file: Path | None) -> tuple[Errand, str]:
    """What to train, checked here before anything is made; and the recipe's name."""
    from tfapp.cloud.deployment import Errand
    from tfapp.cloud.render import words_there

    recipe, _, plan, _ = asking.ask(words, (), None, None)
    own = recipe.path if recipe.word != recipe.path.stem else None
    if own and not re.fullmatch(r"\w[\w.-]*\.py", own.name):
        raise Usage(
            f"the recipe's file {own.name!r} has a name that is trouble elsewhere\nuse letters, digits, - and _"
        )
    return Errand(words_there(words, own), own, data, env_file), Path(plan.recipe).stem


def _deployment(name: str, asked: dict[str, Any]) -> Deployment:
    from datetime import UTC, datetime

    from tfapp.cloud.deployment import Deployment, renewed

    _check_name(name)
    made, device = _machines(name, asked)
    if asked["bucket"] and not asked["bucket"].startswith("gs://"):
        raise Usage(f"--bucket {asked['bucket']} is no bucket\nas --bucket gs://mine/runs")
    asked_for = Deployment(
        name,
        made,
        asked["image"] or f"tfapp:{device}",
        asked["bucket"],
        asked["port"],
        asked["hourly"],
        datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return renewed(asked_for)


def _machines(name: str, asked: dict[str, Any]) -> tuple[tuple[Machine, ...], str]:
    """The machines that the options name, and the device of the image for them."""
    from tfapp.cloud import machines

    kinds = [kind for kind in ("gpu", "tpu", "hosts") if asked[kind]]
    if len(kinds) != 1:
        raise Usage("where?\nsay one of --gpu TYPE, --tpu TYPE and --host MACHINE")
    if asked["hosts"]:
        foreign = [f"--{key}" for key in ("zone", "project", "spot", "iap", "hourly") if asked[key]]
        foreign += ["--machine-type"] if asked["machine_type"] else []
        if foreign:
            raise Usage(f"{', '.join(foreign)} and --host: those are for machines that Google makes\nleave them out")
        found = tuple(machines.host(text, asked["ssh_config"], asked["host_gpus"]) for text in asked["hosts"])
        return found, "gpu" if asked["host_gpus"] else "cpu"
    if not asked["zone"]:
        raise Missing("in which zone?\nas --zone us-central1-a; gcloud compute zones list shows them")
    common = {key: asked[key] for key in ("project", "spot", "iap")}
    if asked["tpu"]:
        if asked["machine_type"]:
            raise Usage("--machine-type and --tpu: a TPU VM's processors come with its type\nleave it out")
        return (machines.tpu(f"tfapp-{name}", asked["tpu"], asked["zone"], **common),), "tpu"
    common["disk"] = asked["disk"]
    return (machines.gpu(f"tfapp-{name}", asked["gpu"], asked["zone"], asked["machine_type"], **common),), "gpu"


def _check_name(name: str) -> None:
    from tfapp.cloud.machines import NAME

    if not NAME.fullmatch(name):
        raise Usage(f"--name {name}: small letters, digits and -, a letter first, at most 42\nas --name digits-2")


def _manifest(words: tuple[str, ...], name: str | None, **asked: Any) -> Any:
    from tfapp.cloud.render import Manifest

    errand, stem = _errand(words, None, None)
    name = name or re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    _check_name(name)
    return Manifest(name, errand.words, recipe=errand.recipe, **asked)
