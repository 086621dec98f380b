"""The story of a run elsewhere: up, send, start, follow, fetch, down; and nothing billable left unsaid."""

from __future__ import annotations

import json
import os
import shlex
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tfapp import run as runs
from tfapp.cloud import container, machines
from tfapp.cloud.commands import Command, Done, Say, Terminal, command, piped
from tfapp.cloud.machines import Gpu, Host, Machine, Tpu
from tfapp.errors import Failed, Missing, Usage, nearest

UP = {"RUNNING", "READY"}
ON_THE_WAY = {"PROVISIONING", "STAGING", "CREATING", "STARTING", "RESTARTING", "REPAIRING", "STOPPING", "SUSPENDING"}
# Another try gives the same answer: words, settings, a gate, data.
FINAL = {2, 3, 4, 5}
TRIES = 5
SSH_MINUTES = 15
WAIT_MINUTES = 60
LOOKS_BETWEEN_FETCHES = 20


@dataclass(frozen=True)
class Deployment:
    """A run's name and where it is.

    Attributes:
      name: of the run, here and there. machines: one, or one a worker; the first is the chief.
      image: what runs. bucket: gs://… that the runs are copied to, or "". port: of the first worker.
      hourly: what the machine costs an hour, as its owner says. since: when it was made, ISO time.
    """

    name: str
    machines: tuple[Machine, ...]
    image: str
    bucket: str = ""
    port: int = 2222
    hourly: float | None = None
    since: str = ""

    def container(self, index: int) -> str:
        return f"tfapp-{self.name}-{index}"

    def folder(self, index: int) -> str:
        """The run's place on a machine, below the home."""
        return f"tfapp/{self.name}-{index}"

    def run_there(self, index: int) -> str:
        return f"{self.folder(index)}/runs/{self.name}"

    @property
    def place(self) -> str:
        """The run's place in the bucket."""
        return f"{self.bucket.rstrip('/')}/{self.name}"

    @property
    def run_here(self) -> Path:
        return runs.root() / self.name

    def tf_config(self, index: int) -> str | None:
        """One worker's TF_CONFIG; None for a machine alone."""
        if len(self.machines) == 1:
            return None
        addresses = [
            f"{machine.address}:{self.port + number}"
            for number, machine in enumerate(self.machines)
            if isinstance(machine, Host)
        ]
        return container.tf_config(addresses, index)


@dataclass(frozen=True)
class Errand:
    """What to train there.

    Attributes:
      words: for `tfapp train`, the recipe's first. recipe: a file to bring along. data: a folder that becomes /data.
      secrets: a file of NAME=value lines for the container's environment.
    """

    words: tuple[str, ...]
    recipe: Path | None = None
    data: Path | None = None
    secrets: Path | None = None


def _note(name: str) -> Path:
    return runs.root() / ".cloud" / f"{name}.json"


def keep_note(deployment: Deployment) -> None:
    """Remember a deployment, before anything is made: `status` and `down` must find it whatever happens."""
    values = {**vars(deployment), "machines": [machines.plain(machine) for machine in deployment.machines]}
    runs.write_text(_note(deployment.name), json.dumps(values, indent=1))


def known(name: str) -> Deployment:
    """A deployment that was made from here.

    Raises:
      Missing: there is none of this name, with the nearest.
    """
    try:
        values = json.loads(_note(name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = every()
        hint = nearest(name, names) if names else "make one: tfapp cloud up NAME --gpu nvidia-l4 --zone us-central1-a"
        raise Missing(f"no deployment {name!r} was made from here ({_note(name).parent})\n{hint}") from None
    values["machines"] = tuple(machines.from_plain(machine) for machine in values["machines"])
    return Deployment(**values)


def every() -> list[str]:
    """The names of the deployments that are not taken down."""
    return sorted(path.stem for path in _note("x").parent.glob("*.json"))


def exists(name: str) -> bool:
    return _note(name).exists()


def renewed(deployment: Deployment) -> Deployment:
    """The same, as old as it is when it was made before.

    Raises:
      Usage: what was made under this name is something else, which must not be forgotten.
    """
    if not exists(deployment.name):
        return deployment
    before = known(deployment.name)
    if before.machines != deployment.machines:
        raise Usage(
            f"{deployment.name} is something else already: {', '.join(machine.name for machine in before.machines)}\n"
            f"take it down first (tfapp cloud down {deployment.name}), or take another name: --name NAME"
        )
    return replace(deployment, since=before.since)


def up(deployment: Deployment, terminal: Terminal) -> None:
    """Make the machine, or start it where it is there and stopped; wait until it answers.

    Raises:
      Missing: no gcloud, no quota, no capacity, no answer. Nothing is left behind then, or it is said.
    """
    terminal.need(*_programs(deployment))
    for machine in deployment.machines:
        if isinstance(machine, Host):
            answer = terminal.ask(machine.shell("true"), timeout=60)
            if answer.code:
                raise Missing(
                    f"{machine.name} does not answer: {answer.told}\ntry it yourself: {machine.shell('true')}"
                )
        else:
            _make(deployment, machine, terminal)
    if isinstance(deployment.machines[0], Host) and not terminal.dry:
        keep_note(deployment)


def train(deployment: Deployment, errand: Errand, terminal: Terminal, keep: bool, poll: float = 15.0) -> int:
    """The whole story; returns the training's exit code.

    Whatever happens after the machine is made, the run is brought back and, but for `keep`, the machine given back.
    """
    if not terminal.dry and runs.Run(deployment.run_here).status == "finished":
        raise Usage(f"{deployment.run_here} has this run finished already\ngive this one another name: --name NAME")
    up(deployment, terminal)
    with _given_back(deployment, terminal, keep):
        send(deployment, errand, terminal)
        start(deployment, errand, terminal)
        code = follow(deployment, errand, terminal, poll)
    return code


def send(deployment: Deployment, errand: Errand, terminal: Terminal) -> None:
    """Bring the image, the recipe, the data, the run as far as it has come, and the secrets to each machine.

    Raises:
      Missing: there is no Docker, no image, or no way.
    """
    for index, machine in enumerate(deployment.machines):
        folder = deployment.folder(index)
        checked = terminal.ask(machine.shell(container.check()))
        if checked.code:
            raise Missing(
                f"Docker cannot be used on {machine.name}: {checked.told}\n"
                "install it there (https://docs.docker.com/engine/install) and add the user to the group docker"
            )
        terminal.must(machine.shell(container.make_folders(folder)), f"no folder can be made on {machine.name}")
        _send_image(deployment.image, machine, terminal)
        if deployment.bucket:
            saving = container.save_to_bucket(deployment.run_there(index), deployment.place)
            terminal.must(machine.shell(saving), f"{machine.name} cannot use {deployment.bucket}")
        if errand.recipe:
            there = f'cat > "$HOME/{folder}/recipes/"{shlex.quote(errand.recipe.name)}'
            terminal.must(machine.shell(there, stdin=errand.recipe), "the recipe cannot be sent")
        if errand.data:
            terminal.must(machine.send(errand.data, f"{folder}/data"), "the data cannot be sent")
        if errand.secrets:
            kept = machine.shell(container.keep_secrets(folder), stdin=errand.secrets)
            terminal.must(kept, "the environment file cannot be sent")
        _send_run(deployment, index, terminal)


def start(deployment: Deployment, errand: Errand, terminal: Terminal) -> None:
    """Start the training on every machine."""
    words = ("train", *errand.words, "--run", f"/runs/{deployment.name}")
    for index, machine in enumerate(deployment.machines):
        text = container.run(
            deployment.container(index),
            deployment.folder(index),
            deployment.image,
            words,
            machine.devices(),
            deployment.tf_config(index),
            errand.secrets is not None,
        )
        terminal.must(machine.shell(text), f"the training does not start on {machine.name}")


def follow(deployment: Deployment, errand: Errand, terminal: Terminal, poll: float = 15.0) -> int:
    """Show the first worker's words until the training has ended; returns its exit code.

    A machine that was taken away is brought back; several workers are started again together when one of them dies.
    """
    chief = deployment.machines[0]
    listen = chief.shell(container.logs(deployment.container(0)))
    terminal.follow(listen)
    tries = looks = 0
    silent_since = None
    while True:
        if terminal.wait(poll) and not terminal.dry:
            time.sleep(min(2.0, poll))
        states = [_look(deployment, index, terminal) for index in range(len(deployment.machines))]
        looks += 1
        if None in states:
            silent_since = silent_since or time.monotonic()
            if _brought_back(deployment, errand, terminal, time.monotonic() - silent_since):
                silent_since = None
            continue
        silent_since = None
        ended = [code for state, code in states if state in ("exited", "dead", "gone")]  # type: ignore[misc]
        if len(ended) == len(states) and not any(ended):
            terminal.wait(5)
            return 0
        if code := next((code for code in ended if code), 0):
            if len(states) == 1 or code in FINAL or tries == TRIES:
                terminal.wait(5)
                return code
            tries += 1
            terminal.say(f"a worker ended with {code}: all start again from the last checkpoint ({tries} of {TRIES})")
            _restart(deployment, errand, terminal)
            terminal.follow(listen)
        elif terminal.wait(0):
            terminal.follow(listen)
        if looks % LOOKS_BETWEEN_FETCHES == 0:
            with _undisturbed(terminal.say, "bringing the run back"):
                _try_to_fetch(deployment, terminal, tries=1)


def fetch(deployment: Deployment, terminal: Terminal) -> Path:
    """Bring the run back from the chief, or from the bucket when the machine is gone; returns its folder here.

    Raises:
      Missing: it cannot be had, with the reason.
    """
    terminal.need(*_programs(deployment))
    if not terminal.dry:
        deployment.run_here.mkdir(parents=True, exist_ok=True)
    done = terminal.ask(deployment.machines[0].bring(deployment.run_there(0), deployment.run_here))
    if done.code and deployment.bucket:
        copied = command("gcloud", "storage", "rsync", "--recursive", deployment.place, str(deployment.run_here))
        done = terminal.ask(copied, timeout=3600)
    # rsync's 24: a file went away while it was read, as a checkpoint does that makes room for the next.
    if done.code not in (0, 24):
        _remove_empty(deployment.run_here)
        raise Missing(f"the run could not be brought back: {done.told}\ntry again: tfapp cloud fetch {deployment.name}")
    return deployment.run_here


def down(deployment: Deployment, terminal: Terminal, brought: bool = True) -> None:
    """End the training, and give every machine back; hosts of one's own lose the container alone.

    Args:
      brought: the run is here. Where it is not and in no bucket, what holds it is kept: a GPU machine's disk, a
        host's folder.

    Raises:
      Failed: a machine could not be deleted; says which, what it costs, and what to type.
    """
    terminal.need(*_programs(deployment))
    left: list[str] = []
    with _undisturbed(terminal.say, f"giving {deployment.name} back"):
        for index, machine in enumerate(deployment.machines):
            if isinstance(machine, Host):
                left += _clear(deployment, index, machine, terminal, brought)
            else:
                left += _delete(deployment, machine, terminal, brought or bool(deployment.bucket))
    if left:
        raise Failed("\n".join(left))
    if not terminal.dry:
        _note(deployment.name).unlink(missing_ok=True)


def status(deployment: Deployment, terminal: Terminal) -> list[dict[str, Any]]:
    """A row a machine: its own state, the training's, the last line of its log, and what it costs to leave it."""
    terminal.need(*_programs(deployment))
    rows = []
    for index, machine in enumerate(deployment.machines):
        there = "yours" if isinstance(machine, Host) else _state(machine, terminal, expected="RUNNING") or "not there"
        seen = _look(deployment, index, terminal) if there in UP or isinstance(machine, Host) else None
        log = f'tail -n 1 "$HOME/{deployment.run_there(index)}/logs/worker-{index}.log" 2>/dev/null'
        rows.append(
            {
                "machine": machine.name,
                "state": there,
                "training": f"{seen[0]} ({seen[1]})" if seen else "no answer",
                "last": terminal.ask(machine.shell(log), timeout=60).out.strip() if seen else "",
                "cost": _cost_of(deployment, machine, there),
            }
        )
    return rows


def cost(deployment: Deployment) -> str:
    """What it means to leave the machine, as far as it is known here."""
    machine = deployment.machines[0]
    if isinstance(machine, Host):
        return "nothing: the machine is yours"
    hours = (datetime.now(UTC) - datetime.fromisoformat(deployment.since)).total_seconds() / 3600
    made = f"made {hours:.1f} h ago and billed by the second until it is deleted"
    if deployment.hourly is None:
        return f"{made}; price: {machine.prices}"
    spent, daily = hours * deployment.hourly, 24 * deployment.hourly
    return f"{made}: {spent:.2f} so far, {daily:.2f} for each day more (at {deployment.hourly:g} an hour)"


def _cost_of(deployment: Deployment, machine: Machine, state: str) -> str:
    if not machine.billed or state == "not there":
        return ""
    if isinstance(machine, Gpu) and state in ("TERMINATED", "STOPPED"):
        return f"stopped: its disk of {machine.disk} GB alone is billed, until tfapp cloud down {deployment.name}"
    return cost(deployment)


def left_running(deployment: Deployment, machine: Gpu | Tpu) -> str:
    """Exactly what is left, what it costs, and how to end it."""
    what = machine.machine_type if isinstance(machine, Gpu) else machine.tpu
    return (
        f"STILL THERE: {machine.name} ({what}{', spot' if machine.spot else ''}) in {machine.zone}, "
        f"{cost(deployment)}\ndelete it: {machine.delete()}"
    )


@contextmanager
def _given_back(deployment: Deployment, terminal: Terminal, keep: bool) -> Iterator[None]:
    """After the training, or instead of it: end it with a checkpoint, bring the run back, give the machines back."""
    try:
        yield
    finally:
        give_back(deployment, terminal, keep)


def give_back(deployment: Deployment, terminal: Terminal, keep: bool = False) -> None:
    """End the training with a checkpoint, bring the run back, and, but for `keep`, give the machines back.

    Raises:
      Failed: something is left; says what, what it costs, and what to type.
    """
    terminal.let_go()
    terminal.need(*_programs(deployment))
    with _undisturbed(terminal.say, f"ending {deployment.name} in order"):
        for index, machine in enumerate(deployment.machines):
            terminal.ask(machine.shell(container.stop(deployment.container(index))), timeout=180)
        if deployment.bucket:
            last = container.last_to_bucket(deployment.run_there(0), deployment.place)
            terminal.ask(deployment.machines[0].shell(last), timeout=3600)
        brought = _try_to_fetch(deployment, terminal, tries=3)
        if not keep:
            down(deployment, terminal, brought)
        else:
            for machine in deployment.machines:
                if not isinstance(machine, Host):
                    terminal.say(f"{left_running(deployment, machine)}\n  or: tfapp cloud down {deployment.name}")


def _make(deployment: Deployment, machine: Gpu | Tpu, terminal: Terminal) -> None:
    there = _state(machine, terminal)
    if there and not exists(deployment.name):
        raise Usage(
            f"there is a machine {machine.name} in {machine.zone} already ({there}), and it was not made from here\n"
            "take another name: --name NAME"
        )
    if there in UP:
        terminal.say(f"{machine.name} is there and running")
    elif there and not isinstance(machine, Tpu):
        terminal.must(machine.start(), f"{machine.name} is there but does not start")
    else:
        if not terminal.dry:
            keep_note(deployment)
        if there:
            terminal.must(machine.delete(), f"{machine.name} was taken away and cannot be deleted")
        _create(deployment, machine, terminal)
    try:
        _await_answer(machine, terminal)
    except BaseException:
        # One that was there before may hold a run.
        down(deployment, terminal, brought=not there)
        raise


def _create(deployment: Deployment, machine: Gpu | Tpu, terminal: Terminal) -> None:
    terminal.say(f"making {machine.name} in {machine.zone}")
    # An order that is cut off may be carried out all the same, after anybody looks.
    with _undisturbed(terminal.say, "Google is making the machine") as came:
        created = terminal.ask(machine.create())
        if created.code == 0 and not came:
            return
        try:
            there = _state(machine, terminal)
        except Missing as error:
            raise Failed(
                f"it is not known whether a machine was made: {error}\n{left_running(deployment, machine)}"
            ) from None
        # A failed order may have left something all the same.
        if there:
            down(deployment, terminal)
        _note(deployment.name).unlink(missing_ok=True)
    _raise_again(came)
    told = created.told
    advice = "look at your rights and the words above"
    if "quota" in told.lower():
        advice = "ask for more quota (https://console.cloud.google.com/iam-admin/quotas), another --zone, or --spot"
    elif any(word in told.lower() for word in ("resource_exhausted", "enough resources", "capacity", "unavailable")):
        advice = "this zone has none free now: another --zone, another type, or later"
    raise Missing(f"Google Cloud does not give the machine: {told}\n{advice}; nothing was left behind")


def _await_answer(machine: Gpu | Tpu, terminal: Terminal) -> None:
    terminal.say(f"waiting until {machine.name} answers")
    until = time.monotonic() + 60 * SSH_MINUTES
    while (answer := terminal.ask(machine.shell("true"), timeout=120)).code:
        if time.monotonic() > until:
            raise Missing(f"{machine.name} did not answer within {SSH_MINUTES} minutes: {answer.told}")
        time.sleep(5)


def _state(machine: Gpu | Tpu, terminal: Terminal, expected: str = "") -> str:
    """What Google says of the machine; "" where there is none."""
    done = terminal.ask(machine.state(), expected, timeout=120)
    if done.code and not any(word in done.err.lower() for word in ("not found", "not_found", "notfound")):
        raise Missing(f"Google Cloud does not answer: {done.told}\nlog in (gcloud auth login) and name a --project")
    return "" if done.code else done.out.strip()


def _look(deployment: Deployment, index: int, terminal: Terminal) -> tuple[str, int] | None:
    """The container's state and exit code; None when the machine gives no answer."""
    machine = deployment.machines[index]
    asked = machine.shell(container.state(deployment.container(index)))
    done = terminal.ask(asked, expected="exited 0", timeout=60)
    if done.code == 0 and len(words := done.out.split()) == 2:
        return words[0], int(words[1])
    if "no such container" in done.err.lower():
        return "gone", 1
    return None


def _brought_back(deployment: Deployment, errand: Errand, terminal: Terminal, silent: float) -> bool:
    """Do what can be done for a machine that does not answer; returns whether it was started anew.

    Raises:
      Failed: it has been silent for too long, or is gone.
    """
    machine = deployment.machines[0]
    if isinstance(machine, Host):
        if silent > 60 * WAIT_MINUTES:
            raise Failed(f"no answer for {WAIT_MINUTES} minutes\nlook: tfapp cloud status {deployment.name}")
        return False
    there = _state(machine, terminal)
    if there in UP or there in ON_THE_WAY:
        if silent > 60 * WAIT_MINUTES:
            raise Failed(f"{machine.name} is {there} but has not answered for {WAIT_MINUTES} minutes")
        return False
    if not machine.spot:
        raise Failed(f"{machine.name} is {there or 'gone'}, and it is no spot machine: somebody stopped it")
    if isinstance(machine, Gpu) and there:
        terminal.say(f"{machine.name} was taken away ({there}); starting it again")
        _patiently(terminal, machine.start())
        # Docker starts the container with the machine, and the run goes on by itself.
        _await_answer(machine, terminal)
        return True
    terminal.say(f"{machine.name} was taken away ({there or 'deleted'}); making it again")
    if there:
        terminal.must(machine.delete(), f"{machine.name} cannot be deleted")
    _patiently(terminal, machine.create())
    _await_answer(machine, terminal)
    send(deployment, errand, terminal)
    start(deployment, errand, terminal)
    return True


def _patiently(terminal: Terminal, asked: Command) -> None:
    """Ask until there is capacity."""
    while True:
        with _undisturbed(terminal.say, "Google is making the machine") as came:
            done = terminal.ask(asked)
        _raise_again(came)
        if done.code == 0:
            return
        terminal.say(f"not yet: {done.told}; again in a minute, Ctrl-C gives up")
        time.sleep(60)


def _restart(deployment: Deployment, errand: Errand, terminal: Terminal) -> None:
    """All workers anew, each with the chief's checkpoints: none of them can rejoin alone."""
    for index, machine in enumerate(deployment.machines):
        terminal.ask(machine.shell(container.remove(deployment.container(index))), timeout=180)
    _try_to_fetch(deployment, terminal, tries=3)
    for index in range(1, len(deployment.machines)):
        _send_run(deployment, index, terminal)
    start(deployment, errand, terminal)


def _send_run(deployment: Deployment, index: int, terminal: Terminal) -> None:
    if runs.Run(deployment.run_here).file("plan.yaml").exists():
        sent = deployment.machines[index].send(deployment.run_here, deployment.run_there(index))
        terminal.must(sent, "the run, as far as it has come, cannot be sent")


def _send_image(image: str, machine: Machine, terminal: Terminal) -> None:
    if container.pullable(image):
        terminal.must(machine.shell(container.pull(image)), f"{machine.name} cannot pull {image}")
        return
    terminal.need("docker")
    here = terminal.ask(command("docker", "image", "inspect", "--format", "{{.Id}}", image), expected="here")
    if here.code:
        device = image.partition(":")[2] if image.startswith("tfapp:") else "cpu"
        raise Missing(
            f"there is no image {image} here to send: {here.told}\n"
            f"build it: docker build --build-arg DEVICE={device} -t {image} . (or name one in a registry: --image)"
        )
    there = terminal.ask(machine.shell(container.image_id(image)))
    if there.out.strip() != here.out.strip():
        terminal.say(f"sending {image} to {machine.name}")
        packed = piped(command("docker", "save", image), command("gzip", "-1"))
        terminal.must(piped(packed, machine.shell(container.load())), f"{image} cannot be sent to {machine.name}")


def _try_to_fetch(deployment: Deployment, terminal: Terminal, tries: int) -> bool:
    """Whether the run is here now, or there is none to bring."""
    chief = deployment.machines[0]
    for number in range(tries):
        begun = terminal.ask(chief.shell(f'test -e "$HOME/{deployment.run_there(0)}/plan.yaml"'), timeout=120)
        if begun.code == 1 and "error" not in begun.err.lower():
            return True
        try:
            fetch(deployment, terminal)
            return True
        except Missing as error:
            if number == tries - 1:
                terminal.say(str(error))
            else:
                time.sleep(2)
    return False


def _delete(deployment: Deployment, machine: Gpu | Tpu, terminal: Terminal, safe: bool) -> list[str]:
    keep_disk = not safe and isinstance(machine, Gpu)
    done = Done(1)
    for number in range(3):
        done = terminal.ask(machine.delete(keep_disk))
        gone = any(word in done.err.lower() for word in ("not found", "not_found"))
        if done.code == 0 or gone:
            terminal.say(f"{machine.name} is deleted")
            if keep_disk and not gone:
                return [_disk_kept(machine)]
            if not safe:
                terminal.say(f"what came after the run was last brought to {deployment.run_here} is lost with it")
            return []
        if number < 2:
            time.sleep(2)
    return [f"{machine.name} could not be deleted: {done.told}", left_running(deployment, machine)]


def _disk_kept(machine: Machine) -> str:
    assert isinstance(machine, Gpu)
    project = f" --project={machine.project}" if machine.project else ""
    return (
        f"the run could not be brought back, so the disk {machine.name} ({machine.disk} GB, in {machine.zone}) is kept: it "
        f"holds the run, and is billed until you delete it (https://cloud.google.com/compute/disks-image-pricing)\n"
        f"delete it: gcloud compute disks delete {machine.name} --zone={machine.zone}{project}"
    )


def _clear(deployment: Deployment, index: int, machine: Host, terminal: Terminal, brought: bool) -> list[str]:
    text = container.remove(deployment.container(index))
    if brought:
        text = f"{text}; {container.forget(deployment.folder(index))}"
    done = terminal.ask(machine.shell(text), timeout=180)
    if done.code:
        return [
            f"STILL THERE: perhaps the container {deployment.container(index)} on {machine.name}: {done.told}",
            f"end it: tfapp cloud down {deployment.name}",
        ]
    if not brought:
        return [f"the run is still on {machine.name}, in ~/{deployment.run_there(index)}"] if index == 0 else []
    return []


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _programs(deployment: Deployment) -> tuple[str, ...]:
    return ("ssh", "rsync") if isinstance(deployment.machines[0], Host) else ("gcloud",)


@contextmanager
def _undisturbed(say: Say, what: str) -> Iterator[list[int]]:
    """Let no Ctrl-C and no SIGTERM cut this short: it is what keeps a machine from costing money unseen.

    Yields: the signals that came meanwhile.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def wait(number: int, frame: Any) -> None:
        came.append(number)
        say(f"{what}: a moment, please")

    before = {number: signal.signal(number, wait) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise_again(came: list[int]) -> None:
    """Do what a signal asked for that was made to wait."""
    if came:
        os.kill(os.getpid(), came[0])
        time.sleep(1)  # Its handler raises here.
