"""A job of many workers from its start to its end, through the deaths of some.

No worker of a synchronous cluster can rejoin, so when one dies all are ended and started again, and go on from
the last checkpoint. A worker of an asynchronous one is started again alone.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Literal

from tfapp.errors import Interrupted, PeersLost, Preempted
from tfapp.launch import places, signs
from tfapp.launch.cluster import Cluster, on_ports
from tfapp.launch.places import Place, Process, Ssh
from tfapp.launch.screen import Screen

RESTARTS = 3
# How often other ports are tried when someone else took one between our look and a worker's use.
PORT_TRIES = 5
# How often in a row one worker of an asynchronous training is started again without a step trained since.
COMEBACKS = 5
# After a worker has failed, the others find out by themselves and say so; who does not is asked, then killed.
ASK_AFTER, KILL_AFTER = 1.5, 4.0
# A killed connection's other end has so long to be gone.
DROP_AFTER = 3.0


@dataclass(frozen=True)
class Launch:
    """What is launched, where, and how patiently.

    Attributes:
      words: the command line of each worker, from the verb on.
      places: where the workers run; the first is the chief's.
      ssh: how other hosts are reached.
      port: the first worker's port on each host; None: any.
      max_restarts: how many times the job is started again after a death; None: 3 times once a step was
        trained, and never before, when it is most often the set-up that is wrong.
      grace: seconds that workers have to write their checkpoint when they are stopped.
      timeouts: what the workers are given as TFAPP_START_SECONDS and TFAPP_HANG_SECONDS.
      servers: so many of the last places are those of parameter servers; then the first is of a chief that only
        hands out steps, and a worker that dies comes back while the training goes on.
    """

    words: tuple[str, ...]
    places: tuple[Place, ...]
    ssh: Ssh = Ssh()
    port: int | None = None
    max_restarts: int | None = None
    grace: float = 60.0
    timeouts: dict[str, str] = field(default_factory=dict)
    servers: int = 0

    @property
    def workers(self) -> int:
        """Places that are no servers', the chief's among them."""
        return len(self.places) - self.servers


@dataclass(frozen=True)
class Outcome:
    """How a start of the job ended.

    Attributes:
      kind: done; stopped: on a signal; failed: would fail again; died: worth another start; taken: a port that the
        launcher chose was in use.
      code: the exit code if it stays with this. reason: what to tell, one or more lines.
    """

    kind: Literal["done", "stopped", "failed", "died", "taken"]
    code: int
    reason: str = ""


@dataclass
class _Worker:
    """One worker as the launcher knows it."""

    number: int
    process: Process
    last: deque[str] = field(default_factory=lambda: deque(maxlen=60))
    code: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    # Whether it ended only because the launcher had it end.
    ended_by_us: bool = False

    @property
    def step(self) -> int:
        return self.facts.get("step", 0)

    @property
    def well(self) -> bool:
        """Whether its work was done; TensorFlow may still stumble over the others' leaving when it is unloaded."""
        return self.code is not None and (self.code == 0 or self.exit_code == 0)

    @property
    def killed_by(self) -> int | None:
        """The signal that ended it, if it did not end by itself."""
        if self.exit_code is not None:
            return None
        if self.code is not None and self.code < 0:
            return -self.code
        return self.facts.get("killed")

    @property
    def exit_code(self) -> int | None:
        """What it ended with by its own will; None for a death."""
        return self.facts.get("ended")


def run(launch: Launch, screen: Screen, watch: Callable[[Job], None] | None = None) -> Outcome:
    """Run a job to its end, through restarts; returns how the last start ended.

    Args:
      launch: what to run. screen: where to show it.
      watch: called in a thread of its own with each started job (as a test that kills workers does).
    """
    restarts = furthest = taken = 0
    words = launch.words
    with _signals() as came:
        while True:
            job = Job(launch, words, screen, came, furthest)
            if watch is not None:
                threading.Thread(target=watch, args=(job,), daemon=True).start()
            outcome = job.run()
            furthest = max(furthest, job.furthest)
            # The run is begun anew once, not at each start.
            words = tuple(word for word in words if word != "--fresh")
            if outcome.kind == "taken" and taken < PORT_TRIES:
                taken += 1
                screen.say(f"{outcome.reason}: starting again with other ports ({taken} of at most {PORT_TRIES})")
                continue
            allowed = launch.max_restarts if launch.max_restarts is not None else RESTARTS if furthest else 0
            if outcome.kind == "taken":
                screen.say(f"error: {outcome.reason}, {taken + 1} times in a row\ngive one that is free: --port 2222")
            elif outcome.reason:
                screen.say(outcome.reason)
            if outcome.kind != "died" or restarts >= allowed:
                if outcome.kind == "died":
                    screen.say(_given_up(restarts, furthest, launch))
                screen.close()
                return outcome
            restarts, taken = restarts + 1, 0
            screen.say(f"starting again from the last checkpoint ({restarts} of at most {allowed})")


def _given_up(restarts: int, furthest: int, launch: Launch) -> str:
    if restarts:
        return f"error: given up after {restarts} restarts; the same command goes on from the last checkpoint"
    if furthest:
        return "error: not started again, as asked; the same command goes on from the last checkpoint"
    return "error: not started again, since no step was trained; --max-restarts 3 would try"


@contextmanager
def _signals() -> Iterator[SimpleQueue[Any]]:
    """A queue into which the stopping signals go while the job runs."""
    came: SimpleQueue[Any] = SimpleQueue()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, frame: came.put(number)) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Job:
    """All workers of one start."""

    def __init__(
        self, launch: Launch, words: Sequence[str], screen: Screen, events: SimpleQueue[Any], reached: int = 0
    ):
        self.workers: list[_Worker] = []
        self.furthest = 0
        # When this start had trained its first step; time.monotonic().
        self.trained: float | None = None
        self._launch, self._words, self._screen, self._events, self._reached = launch, words, screen, events, reached
        self._first: _Worker | None = None
        self._stopping: int | None = None
        self._ask_at = self._kill_at = self._drop_at = float("inf")
        self._temporary = ""
        self._addresses: tuple[str, ...] = ()
        # By worker: how often it came back, and the step at which it did last.
        self._comebacks: dict[int, tuple[int, int]] = {}

    def run(self) -> Outcome:
        """Start the workers and stay with them until all are gone."""
        with tempfile.TemporaryDirectory(prefix="tfapp-launch-", ignore_cleanup_errors=True) as temporary:
            try:
                self._start(temporary)
                while any(worker.code is None for worker in self.workers):
                    self._turn()
            finally:
                self._kill()
                for worker in self.workers:
                    worker.process.drop()
                self._screen.settle()
        return self._outcome()

    def _start(self, temporary: str) -> None:
        launch = self._launch
        ports = places.ports(launch.places, launch.port)
        names = [place.name for place in launch.places]
        if all(place.host is None for place in launch.places):
            names = ["127.0.0.1"] * len(names)
        self._temporary, self._addresses = temporary, on_ports(names, ports)
        for number in range(len(launch.places)):
            worker = self._begin(number)
            self.workers.append(worker)
            self._listen(worker)
            # The chief sets the old run aside before another worker can look into it.
            several = len(launch.places) > 1
            while number == 0 and several and "--fresh" in self._words and "run" not in worker.facts:
                self._turn()
                if worker.code is not None:
                    return

    def _begin(self, number: int) -> _Worker:
        """Start the process of a worker."""
        launch, place, addresses = self._launch, self._launch.places[number], self._addresses
        own = {**launch.timeouts, signs.VARIABLE: "live" if self._screen.live else "plain"}
        if place.host is None:
            own["TMPDIR"] = self._temporary
        if len(addresses) > 1:
            cluster = Cluster(addresses[: launch.workers], number, servers=addresses[launch.workers :])
            own["TF_CONFIG"] = cluster.config()
        words = [word for word in self._words if number == 0 or word != "--fresh"]
        return _Worker(number, Process(place, words, own, launch.ssh))

    def _listen(self, worker: _Worker) -> None:
        popen = worker.process.popen

        def read(stream: IO[bytes], result: bool) -> None:
            for line in stream:
                self._events.put((worker, line.decode(errors="replace").rstrip("\n"), result))

        assert popen.stdout is not None and popen.stderr is not None
        readers = [
            threading.Thread(target=read, args=(popen.stdout, True), daemon=True),
            threading.Thread(target=read, args=(popen.stderr, False), daemon=True),
        ]

        def wait() -> None:
            code = popen.wait()
            for reader in readers:
                # A grandchild may hold the pipe open; what the worker itself wrote is there at once.
                reader.join(1.0)
            self._events.put((worker, code, False))

        for thread in (*readers, threading.Thread(target=wait, daemon=True)):
            thread.start()

    def _turn(self) -> None:
        """Take in one event, or do what has become due."""
        now = time.monotonic()
        due = min(self._ask_at, self._kill_at, self._drop_at)
        try:
            event = self._events.get(timeout=max(0.0, min(due - now, 1.0)))
        except Empty:
            event = None
        if isinstance(event, int):
            self._stop(event)
        elif event is not None and event[0] in self.workers:
            worker, what, result = event
            if isinstance(what, str):
                self._hear(worker, what, result)
            else:
                self._gone(worker, what)
        now = time.monotonic()
        if now >= self._ask_at:
            self._ask_at = float("inf")
            for worker in self.running():
                worker.ended_by_us = True
                worker.process.signal(signal.SIGTERM)
        if now >= self._kill_at:
            self._kill_at, self._drop_at = float("inf"), now + DROP_AFTER
            self._kill()
        if now >= self._drop_at:
            self._drop_at = float("inf")
            for worker in self.running():
                worker.process.drop()

    def stop(self) -> None:
        """End the job as a SIGTERM to the launcher would: with a checkpoint. From any thread."""
        self._events.put(int(signal.SIGTERM))

    def running(self) -> list[_Worker]:
        """The workers that have not ended, as far as is known."""
        return [worker for worker in self.workers if worker.code is None]

    def _kill(self) -> None:
        for worker in self.workers:
            if worker.code is None:
                worker.ended_by_us = True
            # Also after its end: it may have left children.
            worker.process.kill()

    def _hear(self, worker: _Worker, line: str, result: bool) -> None:
        shown, told = signs.read(line)
        worker.facts.update(told)
        if "step" in told and self.trained is None:
            self.trained = time.monotonic()
        self.furthest = max(self.furthest, worker.step)
        if "run" in told and worker.number == 0:
            self._screen.log_in(Path(told["run"]))
        if "line" in told and worker.number == 0:
            self._screen.progress(told["line"])
        if shown or not told:
            worker.last.append(shown)
            # A traceback is for the log; that of the worker which failed first is shown at the end.
            hide = "crashed" in worker.facts or self._port_taken(worker)
            self._screen.worker(worker.number, shown, result, hide=hide)

    def _stop(self, number: int) -> None:
        """Pass a signal on, so that all workers write their checkpoint; the second Ctrl-C does not wait."""
        if self._stopping is not None and number == signal.SIGINT:
            self._kill_at = time.monotonic()
            return
        if self._stopping is None:
            self._stopping = number
            self._screen.settle()
            self._screen.say(f"{signal.Signals(number).name}: stopping at the next step, with a checkpoint")
            self._kill_at = time.monotonic() + self._launch.grace
        for worker in self.running():
            # What serves the chief is needed for the checkpoint, and goes when the chief has written it.
            if self._serves(worker):
                continue
            # Slurm's and a lost terminal's signals mean the same as SIGTERM.
            worker.process.signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

    def _gone(self, worker: _Worker, code: int) -> None:
        worker.code = code
        if self._comes_back(worker):
            return
        now = time.monotonic()
        well = worker.well or (self._stopping is not None and worker.exit_code in _STOPPED)
        if well and worker.number == 0:
            # The chief has done all there was to do; the others leave with it, and what only serves it need not be asked.
            self._kill_at = min(self._kill_at, now + (0 if self._launch.servers else self._launch.grace))
        if well or self._first is not None or self.workers[0].well:
            return
        self._first = worker
        if worker.killed_by or self._stopping is not None or self._port_taken(worker):
            self._kill_at = now + (KILL_AFTER if self._stopping is not None else 0)
        else:
            self._ask_at, self._kill_at = now + ASK_AFTER, now + KILL_AFTER

    def _serves(self, worker: _Worker) -> bool:
        """Whether it does what the chief of an asynchronous training asks."""
        return bool(self._launch.servers) and worker.number > 0

    def _comes_back(self, worker: _Worker) -> bool:
        """Start a worker of an asynchronous training again that has died, if that is all that is amiss."""
        died = worker.exit_code is None and "crashed" not in worker.facts
        needed = self._first is None and self._stopping is None and self.workers[0].code is None
        if not (self._serves(worker) and worker.number < self._launch.workers and died and needed):
            return False
        times, step = self._comebacks.get(worker.number, (0, 0))
        times = 1 if self.furthest > step else times + 1
        if times > COMEBACKS:
            return False
        self._comebacks[worker.number] = times, self.furthest
        how = f"was ended by {_signal_name(worker.killed_by)}" if worker.killed_by else _without_a_word(worker)
        self._screen.say(f"worker {worker.number} {how}: it alone is started again, the others train on")
        worker.process.drop()
        self.workers[worker.number] = again = self._begin(worker.number)
        self._listen(again)
        return True

    def _port_taken(self, worker: _Worker) -> bool:
        """Whether someone took the port that the launcher chose for it, so that another one will do."""
        return "port" in worker.facts and self._launch.port is None

    def _outcome(self) -> Outcome:
        chief = self.workers[0]
        if self._stopping is not None:
            if chief.well:
                return Outcome("done", 0)
            code = Interrupted.exit_code if self._stopping == signal.SIGINT else Preempted.exit_code
            well = all(worker.exit_code in _STOPPED for worker in self.workers if not self._serves(worker))
            return Outcome("stopped", code, "" if well else "stopped before a checkpoint was written on every worker")
        if self._first is None or chief.well:
            return Outcome("done", 0)
        worker, why = self._culprit()
        if worker is None:
            return Outcome("died", 1, why)
        server = worker.number - self._launch.workers
        name = f"parameter server {server}" if server >= 0 else f"worker {worker.number}"
        name += f" ({worker.process.place.host})" if worker.process.place.host else ""
        if self._port_taken(worker):
            return Outcome("taken", worker.exit_code or 1, f"another process took the port of {name}")
        if worker.exit_code is not None and worker.exit_code not in (PeersLost.exit_code, *_STOPPED):
            # Its lines stand alone on the screen already where it is alone.
            return Outcome("failed", worker.exit_code, _quoted(name, worker) if len(self.workers) > 1 else "")
        if worker.exit_code in _STOPPED:
            # It was told to stop by someone else, and so the others were by it.
            return Outcome("stopped", worker.exit_code or 1)
        if "crashed" in worker.facts:
            again = self.furthest > self._reached
            return Outcome("died" if again else "failed", 1, _quoted(name, worker))
        return Outcome("died", 1, f"{name} {why}" + (f" at step {self.furthest}" if self.furthest else ""))

    def _culprit(self) -> tuple[_Worker | None, str]:
        """The worker that failed first by itself, and how; None where they only lost each other."""
        assert self._first is not None
        by_itself = [w for w in [self._first, *self.workers] if not w.ended_by_us and w.code != 0]
        for worker in by_itself:
            if worker.killed_by:
                return worker, f"was ended by {_signal_name(worker.killed_by)}"
        for worker in by_itself:
            if "crashed" in worker.facts or worker.exit_code not in (None, PeersLost.exit_code):
                return worker, ""
        for worker in by_itself:
            if worker.exit_code is None:
                return worker, _without_a_word(worker)
        asked = [worker for worker in self.workers if worker.ended_by_us and worker.exit_code is None]
        silent = [worker for worker in asked if worker.code != -signal.SIGTERM]
        if silent:
            return silent[0], "does not answer: it is stopped, or its host or network is gone"
        return None, "the workers lost each other: a host or the network is gone"


_STOPPED = (Interrupted.exit_code, Preempted.exit_code)


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return name + (" (kill -9, or the system was out of memory)" if number == signal.SIGKILL else "")


def _without_a_word(worker: _Worker) -> str:
    if any(line.startswith("Timeout (") for line in worker.last):
        return "waited too long (see where in its log)" if worker.step else "waited too long for the other workers"
    if worker.process.place.host and worker.code == 255:
        said = next((line for line in reversed(worker.last) if line.strip()), "")
        return f"is lost: ssh ended{f' with «{said}»' if said else ''}"
    return f"ended with {worker.code} and without a word"


def _quoted(name: str, worker: _Worker) -> str:
    """The worker's own error: its traceback, or its lines from «error:» on."""
    lines = list(worker.last)
    for start in range(len(lines) - 1, -1, -1):
        if lines[start].startswith(("Traceback (", "error: ")):
            return "\n".join([f"{name} failed:", *(f"  {line}" for line in lines[start:])])
    return f"{name} failed: {worker.facts.get('crashed', f'exit code {worker.code}')}"
