"""The processes that run a search's trials, from the side of the search: started, asked, listened to, ended."""

from __future__ import annotations

import json
import os
import selectors
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tfapp import environment, errors
from tfapp.errors import Expected, Failed, Missing
from tfapp.launch import share
from tfapp.launch.places import SENT, Place, Ssh

GRACE = 30.0
# What ssh ends with where it fails itself.
SSH_ERROR = 255
# A host to which the connection ends so often in a row is given up.
CUTS = 2
# Runs of one process, which is then started anew: each leaves 2 to 4 MB in TensorFlow's C++ side that nothing gives back.
LIFE = 50


class Worker:
    """One process that runs trials. It is started at the first question, and again after it has ended.

    Args:
      place: this machine or a host, and its share there. log: a file for what it says. ssh: how hosts are reached.
      together: so many processes, started by this one, train a trial; more than one on this machine only.
    """

    def __init__(self, place: Place, log: Path, ssh: Ssh, together: int = 1):
        self.place, self.log, self.together = place, log, together
        self._ssh = ssh
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._runs = 0
        # How often in a row the connection to its host ended without a word from there.
        self.cut = 0

    @property
    def name(self) -> str:
        return f"{self.place.name}/{self.place.number}"

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start the process; it imports TensorFlow while nobody waits.

        Raises:
          Missing: ssh is not there.
        """
        if self._process is not None:
            return
        own = {share.VARIABLE: f"{self.place.number}/{self.place.of}", "TF_CPP_MIN_LOG_LEVEL": "3"}
        paths = os.pathsep.join(path for path in sys.path if path)
        if self.place.host is None:
            command = [sys.executable, "-P", "-m", "tfapp.tune.worker"]
            if self.together > 1:
                # It takes no share of the machine itself; those that it starts do.
                del own[share.VARIABLE]
                share_of = [str(number) for number in (self.place.number, self.place.of, self.together)]
                command = [*command[:-1], "tfapp.tune.relay", *share_of, str(self.log.parent.absolute())]
            environment = {**os.environ, **own, "PYTHONPATH": paths}
            environment.pop("TF_CONFIG", None)
        else:
            sent = {key: value for key, value in os.environ.items() if key.startswith(SENT) and key != "TF_CONFIG"}
            line = ["env", *(f"{key}={value}" for key, value in sorted((sent | own).items()))]
            line += [self._ssh.python, "-m", "tfapp.tune.worker"]
            folder = shlex.quote(str(self._ssh.folder.absolute()))
            command = [*self._ssh.command, self.place.host, f"cd {folder} && exec {shlex.join(line)}"]
            environment = dict(os.environ)
        self._runs = 0
        self._said = open(self.log, "ab")  # noqa: SIM115, as it lives as long as the process
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env=environment,
                # A Ctrl-C on the terminal must reach the search alone, which then asks all workers.
                start_new_session=True,
            )
        except FileNotFoundError:
            raise Missing(f"{command[0]} is not on the PATH, and other hosts are reached through it") from None

    def ask(self, question: dict[str, Any]) -> None:
        """Send a question; the answers come through `answers`."""
        if "train" in question and self._runs >= LIFE:
            self.stop()
            self.end(time.monotonic() + GRACE)
        self.start()
        self._runs += "train" in question
        assert self._process is not None and self._process.stdin is not None
        with suppress(BrokenPipeError):  # It has ended; reading says so.
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()

    def read(self) -> dict[str, Any] | None:
        """The next line that it told; None when it has ended.

        Raises:
          Expected: it cannot run any trial where it is, and why.
        """
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            return None
        told: dict[str, Any] = json.loads(line)
        self.cut = 0
        if "cannot" in told:
            where = f"{self.place.host}: " if self.place.host else ""
            raise _error(told["error"], where + told["cannot"])
        return told

    @property
    def stream(self) -> IO[bytes]:
        assert self._process is not None and self._process.stdout is not None
        return self._process.stdout

    def gone(self) -> str:
        """Clear away a process that has ended; says how it did."""
        process, self._process = self._process, None
        if process is None:
            return "it was not running"
        _close(process)
        if self._said is not None:
            self._said.close()
        code = process.wait()
        if self.place.host is not None and code == SSH_ERROR:
            self.cut += 1
            said = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return f"ssh to {self.place.host} ended{f' with «{said[-1]}»' if said else ''}"
        if code >= 0:
            return f"it ended with {code}, see {self.log}"
        hint = ", perhaps for want of memory" if code == -signal.SIGKILL else ""
        return f"it was ended by {signal.Signals(-code).name}{hint}"

    def stop(self) -> None:
        """Ask it to write a checkpoint and end."""
        if self._process is not None:
            self.ask({"stop": True})

    def halt(self) -> None:
        """Have it write a checkpoint of what it trains, and wait for whatever is next; only while it trains."""
        self.ask({"halt": True})
        while (told := self.read()) is not None and "ended" not in told:
            pass
        if told is None:
            self.gone()

    def end(self, until: float) -> None:
        """Wait for it to end until a moment of time.monotonic(), then end it."""
        if self._process is None:
            return
        # What it still tells must not block it. Its standard input stays open: when that closes, it ends at once.
        threading.Thread(target=self._process.stdout.read, daemon=True).start()  # type: ignore[union-attr]
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=max(0.1, until - time.monotonic()))
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.gone()


class Workers:
    """All of a search's processes. A context manager: at its end they are stopped, with checkpoints.

    Args:
      places: one a worker. folder: for their logs. ssh: how hosts are reached. together: see `Worker`.
    """

    def __init__(self, places: Sequence[Place], folder: Path, ssh: Ssh, together: int = 1):
        folder.mkdir(parents=True, exist_ok=True)
        self.all = [
            Worker(place, folder / f"worker-{number}.log", ssh, together) for number, place in enumerate(places)
        ]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask all to stop, and see to it that they do; the next question starts them anew."""
        for worker in self.all:
            worker.stop()
        until = time.monotonic() + GRACE
        for worker in self.all:
            worker.end(until)

    def fit_in_memory(self, each: int, say: Callable[[str], None]) -> None:
        """Take no more workers on this machine than its memory holds, by what the first one took to make data and model."""
        from tfapp.report import words

        here = [worker for worker in self.all if worker.place.host is None]
        if not here:
            return
        # The first one runs already, unless its processes are new ones each time. Training takes more than making the
        # model did.
        room = max(1, (here[0].together == 1) + int(environment.free_memory() / (1.5 * each)))
        if len(here) > room:
            took = words.size(1.5 * each)
            say(f"only {room} trainings at once: each takes about {took}, which is all there is room for")
            for worker in here[room:]:
                self.all.remove(worker)

    def told(self, seconds: float) -> Iterator[tuple[Worker, dict[str, Any] | None]]:
        """What running workers tell within so many seconds: (worker, line), None for one that has ended."""
        with selectors.DefaultSelector() as selector:
            for worker in self.all:
                if worker.running:
                    selector.register(worker.stream, selectors.EVENT_READ, worker)
            if not selector.get_map():
                time.sleep(min(seconds, 0.1))
                return
            ready = [key.data for key, _ in selector.select(seconds)]
        for worker in ready:
            yield worker, worker.read()

    def give_up(self, worker: Worker, how: str) -> None:
        """Do without a worker whose host cannot be reached.

        Raises:
          Failed: there is no other.
        """
        self.all.remove(worker)
        if not self.all:
            raise Failed(
                f"no host can be reached any more; the last: {how}\nthe same command goes on, there or elsewhere"
            )

    def once(self, question: dict[str, Any]) -> dict[str, Any]:
        """The first worker's only answer to a question; raises as `first_answer`."""
        self.all[0].ask(question)
        return self.first_answer()

    def train(self, plan: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Train a run on the first worker to its end, as a trial without anything to stop it; raises as `first_answer`."""
        self.all[0].ask({"train": {"plan": plan, "folder": str(folder.absolute()), "until": None, "costs": []}})
        while "epochs" in (answer := self.first_answer()):
            self.all[0].ask({"pause": None})
        return answer

    def first_answer(self) -> dict[str, Any]:
        """What the first worker answers to what it was asked.

        Raises:
          Expected: the error that it met. Failed: it ended.
        """
        worker = self.all[0]
        answer = worker.read()
        if answer is None:
            raise Failed(f"the process that runs trials has ended: {worker.gone()}")
        if answer.get("ended") == "failed":
            raise _error(answer["error"], answer["reason"])
        return answer


def _error(name: str | None, reason: str) -> Expected:
    """An error of another process; without a name it was none that is expected."""
    kind: type[Expected] = getattr(errors, name) if name else Failed
    return kind(reason)


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
