"""Where the workers of a job run, and how one is started there: as a process here, or through ssh."""

from __future__ import annotations

import os
import random
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tfapp.errors import Missing, Usage
from tfapp.launch import remote, share, worker

# Below what the system gives to outgoing connections, so that none takes a port between our look and TensorFlow's use.
PORTS = range(20000, 32000)
# What of this environment a worker on another host is given.
SENT = ("TFAPP_", "TF_", "XLA_", "NCCL_", "PYTHONPATH")
# What a worker's process runs.
WORKER = worker.__name__
SSH = (
    "ssh",
    *("-o", "BatchMode=yes", "-o", "ConnectTimeout=15"),
    # A host that is gone is noticed after 15 seconds.
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"),
)


@dataclass(frozen=True)
class Place:
    """A worker's place: a host (None: this machine) and which part of it, `number` of `of`, with its GPUs or without."""

    host: str | None
    number: int
    of: int
    devices: bool = True

    @property
    def name(self) -> str:
        """What other workers call it."""
        return "127.0.0.1" if self.host is None else self.host.rpartition("@")[2]


@dataclass(frozen=True)
class Ssh:
    """How other hosts are reached: the ssh command, the interpreter there, and the folder to work in."""

    command: tuple[str, ...] = SSH
    python: str = sys.executable
    folder: Path = Path()


def here(workers: int) -> tuple[Place, ...]:
    """That many workers on this machine."""
    return tuple(Place(None, number, workers) for number in range(workers))


def around_servers(workers: int, servers: int) -> tuple[Place, ...]:
    """An asynchronous training on this machine: the chief, the workers, the servers.

    The workers share the machine out among them. The others are given all of its cores, and need little of them.
    """
    rest = Place(None, 0, 1, devices=False)
    return (rest, *here(workers), *[rest] * servers)


def on_hosts(names: Sequence[str]) -> tuple[Place, ...]:
    """A worker on each of the hosts; one that is named twice gets two.

    Raises:
      Usage: none, or a word that ssh would take for an option.
    """
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise Usage("no host is named\nas --hosts a,b,c")
    wrong = [name for name in names if name.startswith("-") or any(letter.isspace() for letter in name)]
    if wrong:
        raise Usage(f"{wrong[0]!r} is not a host\nas --hosts a,b,c or --hosts me@a,me@b")
    return tuple(Place(name, names[:index].count(name), names.count(name)) for index, name in enumerate(names))


def from_hostfile(path: Path) -> tuple[Place, ...]:
    """A host a line, as «a» or «a slots=2» for two workers; # begins a comment.

    Raises:
      Missing: no such file. Usage: a line that is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Missing(f"cannot read the hostfile {path}: {error.strerror}") from None
    names: list[str] = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        slots = words[1].removeprefix("slots=") if len(words) > 1 else "1"
        if len(words) > 2 or not slots.isdigit() or int(slots) < 1:
            raise Usage(f"{path}: cannot read {line.strip()!r}\na line is a host, or a host and slots=2")
        names += [words[0]] * int(slots)
    return on_hosts(names)


def ports(places: Sequence[Place], first: int | None = None) -> list[int]:
    """A port for each worker: free ones here, chosen at random elsewhere; counted up from `first` where it is given."""
    if first is not None:
        return [first + place.number for place in places]
    taken: list[int] = []
    for place in places:
        taken.append(next(port for port in _shuffled() if port not in taken and (place.host or _free(port))))
    return taken


def _shuffled() -> list[int]:
    # Its own generator: a seed that someone has set must not give two jobs the same ports.
    return random.SystemRandom().sample(PORTS, len(PORTS))


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


class Process:
    """A started worker, on this machine or another: its output, its signals, its end."""

    def __init__(self, place: Place, words: Sequence[str], own: Mapping[str, str], ssh: Ssh):
        self.place = place
        own = {**own, share.VARIABLE: f"{place.number}/{place.of}"}
        if not place.devices:
            own["CUDA_VISIBLE_DEVICES"] = ""
        if place.host is None:
            command = [sys.executable, "-m", WORKER, *words]
            environment = {**os.environ, **own, worker.PARENT: str(os.getpid())}
        else:
            command, environment = [*ssh.command, place.host, over_ssh(words, own, ssh)], dict(os.environ)
        try:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if place.host is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                # A Ctrl-C on the terminal must reach the launcher alone, which then asks all workers.
                start_new_session=True,
            )
        except FileNotFoundError:
            raise Missing(f"{command[0]} is not on the PATH, and other hosts are reached through it") from None

    def signal(self, number: int) -> None:
        """Send the worker itself a signal."""
        with suppress(ProcessLookupError, BrokenPipeError, ValueError):
            if self.popen.stdin is None:
                self.popen.send_signal(number)
            else:
                self.popen.stdin.write(f"{number}\n".encode())
                self.popen.stdin.flush()

    def kill(self) -> None:
        """End the worker at once, with all that it has started."""
        with suppress(ProcessLookupError, BrokenPipeError, PermissionError):
            if self.popen.stdin is None:
                os.killpg(self.popen.pid, signal.SIGKILL)
            else:
                # The keeper there kills its worker when this ends.
                self.popen.stdin.close()

    def drop(self) -> None:
        """Give up a connection whose other end does not answer."""
        self.kill()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)


def over_ssh(words: Sequence[str], own: Mapping[str, str], ssh: Ssh) -> str:
    """The one line that a host's shell gets, with every word quoted."""
    sent = {key: value for key, value in os.environ.items() if key.startswith(SENT)} | dict(own)
    run = ["env", *(f"{key}={value}" for key, value in sorted(sent.items())), ssh.python, "-m", remote.__name__, *words]
    return f"cd {shlex.quote(str(ssh.folder.absolute()))} && exec {shlex.join(run)}"
