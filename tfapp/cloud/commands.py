"""Commands as values, so that what is printed by --dry-run is what runs."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tfapp.errors import Missing

Say = Callable[[str], None]

# Where a program is had from when it is missing.
_SOURCES = {
    "gcloud": "install the Google Cloud CLI (https://cloud.google.com/sdk/docs/install), "
    "or use a machine of your own: --host user@machine",
    "docker": "install Docker (https://docs.docker.com/engine/install), or name an image in a registry: --image",
    "ssh": "install OpenSSH's client",
    "rsync": "install rsync",
}


@dataclass(frozen=True)
class Command:
    """Programs whose output flows from one to the next.

    Attributes:
      argvs: each program's words. stdin: a file that the first one reads.
    """

    argvs: tuple[tuple[str, ...], ...]
    stdin: Path | None = None

    def __str__(self) -> str:
        """As one would type it in a shell."""
        text = " | ".join(shlex.join(argv) for argv in self.argvs)
        return f"{text} < {shlex.quote(str(self.stdin))}" if self.stdin else text


def command(*words: str, stdin: Path | None = None) -> Command:
    """One program and its words."""
    return Command((words,), stdin)


def piped(first: Command, second: Command) -> Command:
    """The output of one into the other."""
    return Command((*first.argvs, *second.argvs), first.stdin)


@dataclass(frozen=True)
class Done:
    """How a command ended: its code (of the first program that failed), and what it said."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def told(self) -> str:
        """The line of its complaint that says most: the one with «error», else the last."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else f"exit {self.code}")


@dataclass
class Terminal:
    """Runs commands; with `dry`, prints them instead and takes them for done."""

    say: Say
    dry: bool = False
    _follower: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def ask(self, asked: Command, expected: str = "", timeout: float | None = None) -> Done:
        """Run a command to its end. With `dry`, `expected` stands for what it would say."""
        if self.dry:
            print(asked)
            return Done(0, expected)
        return _run(asked, timeout)

    def must(self, asked: Command, what: str, expected: str = "") -> Done:
        """Run a command that has to succeed.

        Raises:
          Missing: it does not, with `what` failed and its own words.
        """
        done = self.ask(asked, expected)
        if done.code:
            raise Missing(f"{what}: {done.told}\nthe command was: {asked}")
        return done

    def follow(self, asked: Command) -> None:
        """Show what a command says until it ends, or until another is followed."""
        self.let_go()
        if self.dry:
            print(asked)
            return
        # Its own session: a Ctrl-C is ours to answer.
        self._follower = subprocess.Popen(asked.argvs[0], stdin=subprocess.DEVNULL, start_new_session=True)

    def wait(self, seconds: float) -> bool:
        """Wait for the followed command, at most so long; returns whether it has ended."""
        if self._follower is None:
            return True
        try:
            self._follower.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._follower = None
        return True

    def let_go(self) -> None:
        """Stop following."""
        if self._follower is not None:
            self._follower.terminate()
            self._follower.wait()
            self._follower = None

    def need(self, *programs: str) -> None:
        """Check that programs are installed, before anything is begun.

        Raises:
          Missing: one is not, with where to get it.
        """
        for program in programs:
            if not self.dry and shutil.which(program) is None:
                raise Missing(f"{program} is not on the PATH of this computer\n{_SOURCES[program]}")


def _run(asked: Command, timeout: float | None) -> Done:
    """Each program in a session of its own: a Ctrl-C must not stop the one that deletes a machine."""
    source = open(asked.stdin, "rb") if asked.stdin else subprocess.DEVNULL
    programs: list[subprocess.Popen[bytes]] = []
    try:
        for argv in asked.argvs:
            piping = programs[-1].stdout if programs else source
            programs.append(
                subprocess.Popen(
                    argv, stdin=piping, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
                )
            )
            if len(programs) > 1:
                programs[-2].stdout.close()  # type: ignore[union-attr]
                programs[-2].stdout = None
        out, err = programs[-1].communicate(timeout=timeout)
        errors = [program.communicate()[1] for program in programs[:-1]] + [err]
    except FileNotFoundError as error:
        raise Missing(
            f"{error.filename} is not on the PATH of this computer\n{_SOURCES.get(error.filename, '')}".rstrip()
        ) from None
    except subprocess.TimeoutExpired:
        return Done(124, "", f"no answer within {timeout:.0f} s")
    finally:
        for program in programs:
            if program.poll() is None:
                program.kill()
        if asked.stdin:
            source.close()  # type: ignore[union-attr]
    codes = [program.wait() for program in programs]
    said = next((text for code, text in zip(codes, errors, strict=True) if code), err)
    return Done(next((code for code in codes if code), 0), out.decode(errors="replace"), said.decode(errors="replace"))
