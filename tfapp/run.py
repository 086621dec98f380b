"""The run directory: how one is named, opened, written whole or not at all, and read back."""

from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tfapp import batch_size, environment, features
from tfapp.errors import Interrupted, Missing, Paused, Preempted, Usage, nearest
from tfapp.plan import Plan, difference, from_file

if TYPE_CHECKING:
    from tfapp.data.examples import Data
    from tfapp.runtime import Machine


@dataclass(frozen=True)
class Run:
    """One run's folder.

    It holds plan.yaml, batch_size.json and xla.json (where it was measured), run.json (status and times), environment.json,
    data.json, metrics.csv, dropped.csv, tensorboard/, checkpoints/, model/ (SavedModel), model.keras, report.json,
    report.html and logs/.
    """

    folder: Path

    def file(self, name: str) -> Path:
        """The path of one of the run's files."""
        return self.folder / name

    def read(self, name: str) -> dict[str, Any]:
        """One of the run's JSON files, {} when it is not there yet.

        Raises:
          Missing: it is damaged, with the way to have it written anew.
        """
        try:
            held = json.loads(self.file(name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError) as error:
            raise Missing(f"{self.file(name)} is damaged: {error}\n{self._anew}") from None
        if not isinstance(held, dict):
            raise Missing(f"{self.file(name)} is damaged: it holds {type(held).__name__}\n{self._anew}")
        return held

    @property
    def _anew(self) -> str:
        return f"remove it, and have it written anew: tfapp train -c {self.file('plan.yaml')} --run {self.folder}"

    def write(self, name: str, value: Any) -> Path:
        """Write one of the run's JSON files, whole."""
        return write_text(self.file(name), json.dumps(value, indent=1, ensure_ascii=False))

    def metrics(self) -> list[dict[str, float]]:
        """The numbers of each epoch so far, as metrics.csv has them; [] when it is not there yet."""
        try:
            with open(self.file("metrics.csv"), encoding="utf-8", newline="") as file:
                return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
        except FileNotFoundError:
            return []

    def note(self, **facts: Any) -> None:
        """Change facts of run.json: status, seconds, …"""
        self.write("run.json", {**self.read("run.json"), **facts})

    @property
    def status(self) -> str:
        """running, stopped, failed or finished; «running» also after a kill that nothing could note."""
        return self.read("run.json").get("status", "new")

    @property
    def lacking(self) -> list[str]:
        """What a finished run has and this one has not, or has lost."""
        promised = ["data.json", "model", *([] if self.rounds else ["model.keras"]), "report.json"]
        return [name for name in promised if not self.file(name).exists()]

    @property
    def digest(self) -> str:
        """SHA-256 over the model that it ended with, and what it says of its data."""
        return digest([*self.file("model").rglob("*"), self.file("model.keras"), self.file("data.json")])

    @property
    def rounds(self) -> bool:
        """Whether the model was trained with quantisation, so that its deliverable is a TFLite file."""
        return self.file("plan.yaml").exists() and bool(self.plan().get("quantize"))

    def describe(self, data: Data) -> None:
        """Write data.json, which is all that reading new files needs, and dropped.csv, which names what was left out.

        A digest of all examples goes into run.json: a verb that needs the run's own examples sees whether it has them.
        """
        from tfapp.data import splits

        self.write(
            "data.json",
            {
                "task": data.task,
                "kind": data.kind,
                "classes": list(data.classes),
                "target": data.target,
                "reader": dict(data.reader),
            },
        )
        self.note(data_sha256=splits.digest(data))
        rows = io.StringIO()
        csv.writer(rows).writerows([("name", "reason"), *((one.name, one.reason) for one in data.dropped)])
        write_text(self.file("dropped.csv"), rows.getvalue())

    def log(self, machine: Machine) -> Path:
        """This worker's own log file."""
        return self.file(f"logs/worker-{machine.worker}.log")

    @contextmanager
    def recorded(self, machine: Machine) -> Iterator[None]:
        """Keep others out of the run and note how it goes: running, then finished, stopped or failed.

        Raises:
          Usage: another process is at it.
        """
        if not machine.chief:
            yield
            return
        with held(self):
            _sweep(self.folder)
            self.note(status="running")
            self.write("environment.json", environment.describe())
            try:
                yield
            except (Interrupted, Preempted, Paused, KeyboardInterrupt, SystemExit):
                self.note(status="stopped")
                raise
            except Exception as error:
                _sweep(self.folder)  # What is half written may be what fills the disk.
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                with suppress(OSError):  # The disk may be what failed.
                    self.note(status="failed", reason=reason)
                raise
            self.note(status="finished", finished=now())

    def finished(self) -> None:
        """Make sure that there is a model to work with.

        Raises:
          Missing: the run has none yet, with the command that finishes it.
        """
        state = self.status
        if state == "finished" and not self.lacking:
            return
        what = f"has lost its {self.lacking[0]}" if state == "finished" else f"is not finished (it is {state})"
        raise Missing(
            f"{self.folder} {what}\ngo on with it: tfapp train -c {self.file('plan.yaml')} --run {self.folder}"
        )

    def plan(self) -> dict[str, Any]:
        """The saved plan as nested plain values.

        Raises:
          Missing: there is none, so this is no run; or it is damaged.
        """
        path = self.file("plan.yaml")
        if not path.is_file():
            raise Missing(f"{self.folder} is not a run: it has no plan.yaml\nlist the runs that there are: tfapp runs")
        try:
            held = from_file(path)
        except Usage as error:
            held, why = {}, f"damaged: {error}"
        else:
            why = "damaged: it names no recipe"
        if not isinstance(held.get("recipe"), str):
            raise Missing(
                f"{path} is {why}\n"
                f"train anew, with this run set aside: tfapp train RECIPE [KEY=VALUE]… --run {self.folder} --fresh"
            )
        return held


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 over files, in the order of their names; what is no file is left out."""
    whole = hashlib.sha256()
    for path in sorted(path for path in paths if path.is_file()):
        with open(path, "rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def root() -> Path:
    """Where runs are kept: TFAPP_RUNS, or runs/ in the current folder.

    Raises:
      Usage: that is a file.
    """
    folder = Path(os.environ.get("TFAPP_RUNS") or "runs")
    if folder.exists() and not folder.is_dir():
        raise Usage(f"{folder} is a file, and runs are kept in a folder\nname another: TFAPP_RUNS=FOLDER")
    return folder


def place(plan: Plan, defaults: Plan) -> Path:
    """Where this plan's run is when the user names none: the same plan always gets the same folder."""
    name = Path(plan.recipe).stem
    if plan == defaults:
        return root() / name
    digest = hashlib.sha256(plan.model_dump_json().encode()).hexdigest()
    return root() / f"{name}-{digest[:6]}"


def find(word: str) -> Run:
    """A run by its folder, or by its name under the runs' root.

    Raises:
      Missing: neither is there, with the nearest name.
    """
    for folder in (Path(word), root() / word):
        if (folder / "plan.yaml").exists():
            return Run(folder)
    known = [run.folder.name for run in every()]
    hint = nearest(word, known) if known else "train one: tfapp train digits"
    raise Missing(f"no run {word!r} here or in {root()}/\n{hint}")


def every() -> list[Run]:
    """All runs under the root, newest first."""
    found = [Run(path.parent) for path in root().glob("*/plan.yaml")]
    return sorted(found, key=_started, reverse=True)


def _started(run: Run) -> str:
    try:
        return str(run.read("run.json").get("started", ""))
    except (Missing, OSError):
        return ""


def begin(folder: Path, plan: Plan, recipe_digest: str, fresh: bool = False) -> Run:
    """Open the folder for this plan: a new run, or the unfinished one of the same plan.

    Raises:
      Usage: the folder holds another plan's run, with the difference, or no run, or another process is at it; or what it
        rests on has changed.
      Missing: it is somebody else's, who lets nobody write there; or what it rests on is not there. PermissionError, OSError: from the disk.
    """
    run = Run(folder)
    if folder.exists() and not folder.is_dir():
        raise Usage(f"{folder} is a file, and a run is a folder\ngive --run a new or empty folder")
    _check_writable(folder)
    if fresh and run.file("plan.yaml").exists():
        run = Run(folder := Path(os.path.abspath(folder)))  # Moved, «.» would still be the old one.
        with held(run):
            move_aside(folder)
    if run.file("plan.yaml").exists():
        saved = run.plan()
        if plan.fit.batch_size == "auto" and run.file(batch_size.FILE).exists():
            # plan.yaml holds the number that was found; what this run was asked for is auto.
            saved = {**saved, "fit": {**saved["fit"], "batch_size": "auto"}}
        changes = difference(saved, plan.model_dump(mode="json"))
        if run.read("run.json").get("recipe_sha256", recipe_digest) != recipe_digest:
            changes.append("the recipe's file has changed since this run began")
        if run.status != "finished" or run.lacking:
            known = run.read("run.json").get("rests_on", {})
            there = features.rests_on(plan)
            changes += [f"{name} has changed since this run began" for name in there if known.get(name) != there[name]]
        if changes:
            raise Usage(
                f"{folder} holds the run of another plan: {'; '.join(changes[:4])}{' …' if len(changes) > 4 else ''}\n"
                "train elsewhere with --run FOLDER, or set that run aside with --fresh"
            )
        return run
    # The workers of a cluster open the same folder at the same time: what one has half written is hidden.
    if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise Usage(f"{folder} is not empty and is no run\ngive --run a new or empty folder")
    there = features.rests_on(plan)
    make_folder(folder)
    write_text(run.file("plan.yaml"), plan.to_yaml())
    facts = {"status": "new", "started": now(), "recipe_sha256": recipe_digest}
    run.write("run.json", {**facts, "rests_on": there} if there else facts)
    run.file("logs").mkdir(exist_ok=True)
    return run


def _check_writable(folder: Path) -> None:
    """Say before the training what would else be found out when its result is written."""
    # The folders that are written into; the export replaces others whole.
    for path in (folder, *(folder / name for name in ("checkpoints", "logs", "tensorboard"))):
        if path.is_dir() and not os.access(path, os.W_OK | os.X_OK):
            if os.statvfs(path).f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            raise Missing(not_yours(path))


def not_yours(path: Path) -> str:
    """What to tell who may not write in a folder: whose it is, who asks, and what to do."""
    owner, user = path.stat().st_uid, os.geteuid()
    return (
        f"{path} belongs to user {owner}, and user {user} may not write there\n"
        f"run as its owner (docker run --user {owner}), make it yours (sudo chown -R {user} FOLDER), "
        "or train elsewhere with --run FOLDER"
    )


@contextmanager
def held(run: Run) -> Iterator[None]:
    """Keep a second process out of the same run.

    Raises:
      Usage: another process is at it.
    """
    with open(run.file(".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Usage(
                f"another process is training in {run.folder}\nwait for it, or train elsewhere with --run FOLDER"
            ) from None
        yield


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises:
      Usage: something that is no folder is in the way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (NotADirectoryError, FileExistsError, FileNotFoundError) as error:
        raise Usage(
            f"cannot make the folder {folder}: {error.strerror}\nis a file in its way? give another path"
        ) from None


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears whole or not at all: written aside, flushed to the disk, then renamed."""
    make_folder(path.parent)
    aside = path.with_name(f".{path.name}.{_own()}.part")
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        if error.filename is None:  # A full disk does not say where it is.
            error.filename = str(path)
        raise
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a text file, whole."""
    with writing(path) as file:
        file.write(text.encode("utf-8"))
    return path


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """A folder that appears whole or not at all; one that was there is replaced at the end."""
    aside = path.with_name(f".{path.name}.{_own()}.part")
    try:
        yield aside
        old = path.with_name(f".{path.name}.{_own()}.old")
        if path.exists():
            path.rename(old)
        aside.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what a process left half written when it was killed; called by the one process that holds the run."""
    names = (
        ".*.part",
        ".*.old",
        ".*.part.keras",
        "checkpoints/.*.part",
        "checkpoints/*_temp",
        "checkpoints/*.tempstate*",
    )
    for path in [path for name in names for path in folder.glob(name)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _own() -> str:
    """A name that no other process has, on any host: in containers every worker is process 1."""
    return f"{socket.gethostname()}.{os.getpid()}"


def move_aside(folder: Path) -> None:
    """Give a folder another name, so that a new one can take its place."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    folder.rename(aside)
