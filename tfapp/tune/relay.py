"""The process that has each trial trained by several workers together: to the search what worker.py is, to them a launcher.

`python -m tfapp.tune.relay NUMBER OF WORKERS FOLDER` answers the questions of worker.py, as trial NUMBER of OF at once on
this machine. Each question becomes a job of so many processes (`tfapp trial`, see cli/trial.py), through `supervise.run`:
one that dies has all started again from the checkpoint. FOLDER is for the question and the chief's answer.

Nothing here imports TensorFlow.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfapp.launch import supervise
from tfapp.launch.places import Place
from tfapp.launch.screen import Screen
from tfapp.launch.supervise import Job, Launch
from tfapp.run import Run
from tfapp.tune import worker

LOOK = 0.2
# Less than `workers.GRACE`, after which the search ends this process.
GRACE = 25.0


def main(number: int, of: int, workers: int, folder: Path) -> None:
    """Answer until told to stop, or until nobody asks any more."""
    tell = worker.answering()
    # Trial `number` has the parts of the machine from number * workers on.
    places = tuple(Place(None, number * workers + one, of * workers) for one in range(workers))
    relay = Relay(places, folder / f"worker-{number}", tell)
    threading.Thread(target=relay.listen, daemon=True).start()
    while (question := relay.questions.get()) is not None:
        tell(relay.answer(question))


class Relay:
    """Questions in, jobs of many workers, answers out.

    Args:
      places: of the workers. files: path to which .asked.json and .answer.json are added. tell: sends an answer.
    """

    def __init__(self, places: tuple[Place, ...], files: Path, tell: worker.Tell):
        self.questions: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._places, self._tell = places, tell
        self._asked, self._answer = files.with_suffix(".asked.json"), files.with_suffix(".answer.json")
        self._halt = threading.Event()
        self._looking = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        """Begin with another question: nothing told of it, nothing answered."""
        self._pauses: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._epochs = self._judged = 0
        self._why: str | None = None

    def listen(self) -> None:
        """Take in what comes on standard input; in a thread of its own."""
        for line in sys.stdin:
            asked = json.loads(line)
            if "pause" in asked:
                self._pauses.put(asked["pause"])
            elif "halt" in asked or "stop" in asked:
                self._halt.set()
                if "stop" in asked:
                    self.questions.put(None)
            else:
                # What is still said of the question before is not meant for this one.
                self._halt.clear()
                self._forget()
                self.questions.put(asked)
        # Whoever asked has died; the workers die with this process.
        os._exit(1)

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Run a job that answers a question."""
        ((what, about),) = question.items()
        self._answer.unlink(missing_ok=True)
        self._asked.write_text(json.dumps(question), encoding="utf-8")
        launch = Launch(("trial", str(self._asked), str(self._answer)), self._places, grace=GRACE)

        def look() -> bool:
            """Whether the job is to stop."""
            return self._halt.is_set() or (what == "train" and self._look(about))

        outcome = supervise.run(launch, Screen(len(self._places), quiet=True), lambda job: _follow(job, look))
        told = self._told()
        if outcome.kind == "stopped" and self._why:
            return {"ended": "paused", "reason": self._why, **worker.so_far(Run(Path(about["folder"])), self._judged)}
        if outcome.kind == "stopped":
            return {"ended": "stopped", "reason": outcome.reason}
        if not told:
            return {"ended": "failed", "reason": outcome.reason or "its workers gave no answer", "error": None}
        if "memory" in told:
            told["memory"] *= len(self._places)
        return told

    def _told(self) -> dict[str, Any]:
        """What the chief has answered, {} if it did not come so far."""
        try:
            told: dict[str, Any] = json.loads(self._answer.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        finally:
            self._answer.unlink(missing_ok=True)
            self._asked.unlink(missing_ok=True)
        return told

    def _look(self, about: Mapping[str, Any]) -> bool:
        """Tell the epochs that have ended, one by one; whether the training is to pause.

        A pause comes while the next epochs are trained already: those after the one it was said of do not count.
        """
        with self._looking:  # After a restart, two look for a moment.
            until = about["until"]
            rows = Run(Path(about["folder"])).metrics()[: until - 1 if until else None]
            for row in rows[self._epochs :]:
                self._epochs += 1
                self._tell({"epochs": [row]})
            while self._why is None and not self._pauses.empty():
                self._why = self._pauses.get()
                self._judged += 1
            return self._why is not None


def _follow(job: Job, look: Callable[[], bool]) -> None:
    """Look at a job until it is over or is to stop."""
    while not job.workers or job.running():
        if look():
            job.stop()
            return
        time.sleep(LOOK)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
