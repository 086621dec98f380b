"""tfapp verify-resume: the promise of resuming to the bit, put to the test."""

from __future__ import annotations

import json
import random
import secrets
import tempfile
from pathlib import Path
from typing import Any

import click

from tfapp.cli import asking
from tfapp.errors import Failed, Refused


@click.command()
@asking.words
@asking.files
@asking.steps
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes on this machine.")
@click.option("--kills", type=click.IntRange(1), default=3, show_default=True, help="How many times one is killed.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the moments of the kills.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep both runs in this folder (default: nowhere).")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
def command(words, files, steps, workers, kills, seed, keep, as_json) -> None:
    """Train without a break, train again killed at random steps (kill -9), and compare bit for bit.

    Weights, optimizer slots, the callbacks' state, metrics and predictions must be the same. The seed of
    the training itself is runtime.seed. Exit code 1 if anything differs.

    \b
      tfapp verify-resume digits fit.epochs=3
      tfapp verify-resume ./mine.py --workers 2 --kills 5 --steps 200
    """
    asked = ["train", *words, *(word for path in files for word in ("-c", path))]
    asked += ["--steps", str(steps)] if steps else []
    _, _, plan, _ = asking.ask(words, files, None, steps)
    if plan.runtime.asynchronous:
        raise Refused(
            "verify-resume with runtime.strategy=parameter_server: no two asynchronous trainings are equal\n"
            "leave the strategy out: --workers 2 trains synchronously"
        )
    if plan.private and not plan.private.insecure_key:
        # Each run draws its own noise; these two are to draw the same.
        asked.append(f"private.insecure_key={secrets.token_hex(8)}")
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise click.UsageError(f"{keep} is not empty; give --keep a new or empty folder")
        _tell(_verify(asked, workers, kills, seed, keep), as_json)
    else:
        with tempfile.TemporaryDirectory(prefix="tfapp-verify-") as folder:
            _tell(_verify(asked, workers, kills, seed, Path(folder)), as_json)


def _verify(words: list[str], workers: int, kills: int, seed: int, folder: Path) -> dict[str, Any]:
    from tfapp.launch import places
    from tfapp.launch.kills import Killer
    from tfapp.launch.screen import Screen
    from tfapp.launch.supervise import Launch, run

    whole, killed = folder / "whole", folder / "killed"
    asking.say("training without a break …")
    where = places.here(workers)
    _done(run(Launch((*words, "--run", str(whole)), where), Screen(workers, quiet=True)).code, whole)
    from tfapp.runtime import import_tensorflow

    import_tensorflow()
    from tfapp import verify, xla
    from tfapp.run import Run

    steps = verify.last_step(whole)
    every = max(1, steps // 10)
    killer = Killer(kills, steps, random.Random(seed))
    asking.say(f"training again, with a checkpoint each {every} of {steps} steps, and {kills} kills …")
    # Two trainings may choose otherwise by the clock; one that goes on keeps what it was begun with.
    chosen = Run(whole).read(xla.FILE)
    same = [f"fit.jit={chosen['chosen']}"] if chosen else []
    again = Launch(
        (*words, *same, f"fit.checkpoint.every_steps={every}", "--run", str(killed)), where, max_restarts=kills
    )
    _done(run(again, Screen(workers, quiet=True), killer).code, killed)
    found = verify.differences(whole, killed)
    deaths = ", ".join(f"{kill.step}" for kill in killer.done)
    told = f"{len(killer.done)} kills of {workers} worker{'s' * (workers > 1)}, at steps {deaths} of {steps}"
    if not killer.done:
        raise Failed("the training was over before anything could be killed\ngive it more to do: fit.epochs=20")
    if found:
        raise Failed(
            f"not the same after {told}: {'; '.join(found[:3])}{f' and {len(found) - 3} more' if len(found) > 3 else ''}\n"
            "where the order of arithmetic is free (GPUs, threads), runtime.deterministic=true holds it"
        )
    tensors, slots = verify.compared(whole)
    return {
        "tensors": tensors,
        "optimizer_tensors": slots,
        "kills": [{"worker": kill.worker, "step": kill.step} for kill in killer.done],
        "seconds_until_training_again": killer.median(),
        "told": told,
    }


def _tell(result: dict[str, Any], as_json: bool) -> None:
    median, told = result["seconds_until_training_again"], result.pop("told")
    if as_json:
        click.echo(json.dumps({"identical": True, **result}, indent=1))
        return
    what = f"{result['tensors']} tensors ({result['optimizer_tensors']} of the optimizer), metrics, predictions"
    speed = f"; {median:.1f} s from a death to training again" if median is not None else ""
    click.echo(f"the same to the bit: {what}; {told}{speed}")


def _done(code: int, folder: Path) -> None:
    if code:
        logs = sorted((folder / "logs").glob("*.log"))
        lines = [line for log in logs for line in log.read_text(encoding="utf-8").splitlines()]
        why = next((f": {line}" for line in reversed(lines) if line.startswith("error: ")), "")
        raise Failed(f"the training ended with {code}{why}\nsee what is wrong with it alone: tfapp train …")
