"""The trainings that an audit needs, as ordinary runs in processes of their own: several at once, gone on with after a kill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfapp import errors
from tfapp import run as runs
from tfapp.errors import Failed
from tfapp.launch import places
from tfapp.launch.places import Ssh
from tfapp.plan import Plan, difference
from tfapp.run import Run
from tfapp.tune.workers import Worker, Workers

LOOK = 0.5
# A process that dies may have died of something that passes, as of want of memory beside another.
TRIES = 2


@dataclass(frozen=True)
class Training:
    """A run to be trained, in its folder, by its plan."""

    run: Run
    plan: Plan

    def done(self, recipe_digest: str) -> bool:
        """Whether the folder has this very run, finished."""
        run = self.run
        if run.status != "finished" or not run.file("model").exists():
            return False
        same = run.read("run.json").get("recipe_sha256") == recipe_digest
        return same and not difference(run.plan(), self.plan.model_dump(mode="json"))


def train(
    wanted: Sequence[Training], recipe_digest: str, parallel: int, logs: Path, say: Callable[[str], None]
) -> None:
    """Train what is not trained yet, so many at once, each to its exported model.

    Raises:
      Expected: what a training met. Failed: its process died twice.
    """
    waiting = [one for one in wanted if not one.done(recipe_digest)]
    if len(waiting) < len(wanted):
        say(f"{len(wanted) - len(waiting)} of {len(wanted)} trainings are there already")
    if not waiting:
        return
    for one in waiting:
        runs.make_folder(one.run.folder.parent)
    total, ended = len(waiting), 0
    lost: dict[Path, int] = {}
    with Workers(places.here(min(parallel, total)), logs, Ssh()) as workers:
        if len(workers.all) > 1:
            workers.fit_in_memory(workers.once({"describe": waiting[0].plan.model_dump(mode="json")})["memory"], say)
        busy: dict[Worker, Training] = {}
        while waiting or busy:
            for worker in workers.all:
                if worker not in busy and waiting:
                    busy[worker] = _give(worker, waiting.pop(0))
            for worker, told in workers.told(LOOK):
                one = busy.pop(worker)
                if told is None:
                    waiting.insert(0, _once_more(one, worker.gone(), lost))
                elif told.get("ended") == "failed":
                    kind = getattr(errors, told["error"]) if told["error"] else Failed
                    raise kind(f"the training in {one.run.folder} failed: {told['reason']}")
                elif told.get("ended") == "stopped":
                    waiting.insert(0, one)  # By somebody else's signal; it has its checkpoint.
                else:
                    ended += 1
                    say(f"{ended} of {total} trained: {one.run.folder}")


def _give(worker: Worker, one: Training) -> Training:
    asked = {"plan": one.plan.model_dump(mode="json"), "folder": str(one.run.folder.absolute())}
    worker.ask({"export": asked})
    return one


def _once_more(one: Training, how: str, lost: dict[Path, int]) -> Training:
    lost[one.run.folder] = lost.get(one.run.folder, 0) + 1
    if lost[one.run.folder] >= TRIES:
        raise Failed(f"the process that trained {one.run.folder} died {TRIES} times: {how}")
    return one
