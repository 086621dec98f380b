"""The three kinds of machine that a run can be sent to, and the commands that reach each.

What is here is pure: frozen values in, commands out. Flags: `gcloud compute instances create`, `gcloud compute tpus
tpu-vm create` (Google Cloud CLI reference), ssh(1), rsync(1).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from tfapp.cloud.commands import Command, command, piped
from tfapp.errors import Refused, Usage

# Google Cloud's rule for names; ours leaves room for the «tfapp-» before and a worker's number after.
NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,40}[a-z0-9])?")

# NVIDIA's driver, Docker and the container toolkit are on this one.
GPU_IMAGE = ("deeplearning-platform-release", "common-cu128-ubuntu-2204-nvidia-570")

# Runtime by kind of TPU, as Google's table of TPU software versions gives them.
TPU_RUNTIMES = {
    "v2": "tpu-ubuntu2204-base",
    "v3": "tpu-ubuntu2204-base",
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
# The largest slice of each kind that is one machine; v2 to v5p count cores, v5litepod and v6e chips.
TPU_ONE_HOST = {"v2": 8, "v3": 8, "v4": 8, "v5litepod": 8, "v5p": 8, "v6e": 8}

# Machine types that have their GPUs built in, by GPU.
BUILT_IN = {
    "nvidia-l4": "g2-standard-{cores}",
    "nvidia-tesla-a100": "a2-highgpu-{count}g",
    "nvidia-a100-80gb": "a2-ultragpu-{count}g",
    "nvidia-h100-80gb": "a3-highgpu-{count}g",
}
_L4_CORES = {1: 4, 2: 24, 4: 48, 8: 96}


@dataclass(frozen=True)
class Gpu:
    """A virtual machine of Compute Engine with NVIDIA GPUs.

    Attributes:
      name: of the machine. zone, project: where; project "" is gcloud's own. gpu, count: as Google names them.
      machine_type: its processors and memory. spot: cheaper, and taken away when Google needs it. disk: GB.
      iap: reach it through Identity-Aware Proxy, when it has no public address.
    """

    kind: ClassVar[str] = "gpu"
    billed: ClassVar[bool] = True
    prices: ClassVar[str] = "https://cloud.google.com/compute/gpus-pricing"
    name: str
    zone: str
    gpu: str
    count: int
    machine_type: str
    project: str = ""
    spot: bool = False
    disk: int = 100
    iap: bool = False

    def create(self) -> Command:
        spot = ("--provisioning-model=SPOT", "--instance-termination-action=STOP") if self.spot else ()
        attached = () if self.machine_type.split("-")[0] in ("g2", "a2", "a3") else self._accelerator()
        return command(
            "gcloud", "compute", "instances", "create", self.name, *self._where(), f"--machine-type={self.machine_type}",
            *attached, "--maintenance-policy=TERMINATE", *spot, f"--image-project={GPU_IMAGE[0]}",
            f"--image-family={GPU_IMAGE[1]}", f"--boot-disk-size={self.disk}GB", "--boot-disk-type=pd-balanced",
            "--metadata=install-nvidia-driver=True", "--scopes=cloud-platform", "--labels=made-by=tfapp", "--quiet",
        )  # fmt: skip

    def delete(self, keep_disk: bool = False) -> Command:
        disk = ("--keep-disks=boot",) if keep_disk else ()
        return command("gcloud", "compute", "instances", "delete", self.name, *self._where(), *disk, "--quiet")

    def start(self) -> Command:
        """Bring a preempted machine back; its disk, and the container on it, are as they were."""
        return command("gcloud", "compute", "instances", "start", self.name, *self._where(), "--quiet")

    def state(self) -> Command:
        words = ("instances", "describe", self.name, *self._where(), "--format=value(status)", "--quiet")
        return command("gcloud", "compute", *words)

    def shell(self, text: str, stdin: Path | None = None) -> Command:
        """Run a text in the machine's shell."""
        through = ("--tunnel-through-iap",) if self.iap else ()
        words = ("ssh", self.name, *self._where(), *through, "--quiet", f"--command={text}")
        return command("gcloud", "compute", *words, stdin=stdin)

    def send(self, local: Path, remote: str) -> Command:
        return _tar_there(self, local, remote)

    def bring(self, remote: str, local: Path) -> Command:
        return _tar_back(self, remote, local)

    def devices(self) -> tuple[str, ...]:
        """What `docker run` needs to let the container at the accelerators."""
        return ("--gpus", "all")

    def _where(self) -> tuple[str, ...]:
        return (f"--zone={self.zone}", *((f"--project={self.project}",) if self.project else ()))

    def _accelerator(self) -> tuple[str, ...]:
        return (f"--accelerator=type={self.gpu},count={self.count}",)


@dataclass(frozen=True)
class Tpu:
    """A TPU VM of one host.

    Attributes:
      tpu: accelerator type, as v5litepod-8. The others are those of `Gpu`. A spot TPU that was taken away cannot be
        started again: it is deleted and made anew, and the run goes on from what was brought back or is in the bucket.
    """

    kind: ClassVar[str] = "tpu"
    billed: ClassVar[bool] = True
    prices: ClassVar[str] = "https://cloud.google.com/tpu/pricing"
    name: str
    zone: str
    tpu: str
    project: str = ""
    spot: bool = False
    iap: bool = False

    def create(self) -> Command:
        return self._gcloud(
            "create", f"--accelerator-type={self.tpu}", f"--version={TPU_RUNTIMES[self.tpu.split('-')[0]]}",
            *(("--spot",) if self.spot else ()), "--scopes=https://www.googleapis.com/auth/cloud-platform",
            "--labels=made-by=tfapp", "--quiet",
        )  # fmt: skip

    def delete(self, keep_disk: bool = False) -> Command:
        """`keep_disk` is not to be had here: the disk is part of the machine."""
        return self._gcloud("delete", "--quiet")

    def start(self) -> Command:
        return self._gcloud("start", "--quiet")

    def state(self) -> Command:
        return self._gcloud("describe", "--format=value(state)", "--quiet")

    def shell(self, text: str, stdin: Path | None = None) -> Command:
        through = ("--tunnel-through-iap",) if self.iap else ()
        done = self._gcloud("ssh", "--worker=0", *through, "--quiet", f"--command={text}")
        return Command(done.argvs, stdin)

    def send(self, local: Path, remote: str) -> Command:
        return _tar_there(self, local, remote)

    def bring(self, remote: str, local: Path) -> Command:
        return _tar_back(self, remote, local)

    def devices(self) -> tuple[str, ...]:
        return ("--privileged", "--network", "host", "--shm-size", "16g")

    def _gcloud(self, verb: str, *words: str) -> Command:
        project = (f"--project={self.project}",) if self.project else ()
        return command("gcloud", "compute", "tpus", "tpu-vm", verb, self.name, f"--zone={self.zone}", *project, *words)


@dataclass(frozen=True)
class Host:
    """A machine of one's own, with Docker, reached by ssh.

    Attributes:
      user, machine, port: as ssh takes them; "" and 0 leave it to ssh's own configuration.
      address: what the other workers call it. config: another configuration file for ssh.
      gpus: whether the container gets the machine's NVIDIA GPUs.
    """

    kind: ClassVar[str] = "host"
    billed: ClassVar[bool] = False
    machine: str
    user: str = ""
    port: int = 0
    address: str = ""
    config: str = ""
    gpus: bool = False

    @property
    def name(self) -> str:
        return f"{self.user}@{self.machine}" if self.user else self.machine

    def shell(self, text: str, stdin: Path | None = None) -> Command:
        return command(*self._ssh(), self.name, text, stdin=stdin)

    def send(self, local: Path, remote: str) -> Command:
        # Names in `remote` are checked ones; rsync's own protocol carries all others.
        return self._rsync(f"{local}/", f"{self.name}:{remote}/")

    def bring(self, remote: str, local: Path) -> Command:
        return self._rsync(f"{self.name}:{remote}/", f"{local}/")

    def devices(self) -> tuple[str, ...]:
        return (*(("--gpus", "all") if self.gpus else ()), "--network", "host")

    def _ssh(self) -> tuple[str, ...]:
        config = ("-F", self.config) if self.config else ()
        port = ("-p", str(self.port)) if self.port else ()
        return ("ssh", *config, *port, "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15")

    def _rsync(self, source: str, target: str) -> Command:
        kept_out = ("--exclude=.lock", "--exclude=.*.part", "--exclude=__pycache__")
        return command("rsync", "--archive", "--compress", *kept_out, "--rsh", shlex.join(self._ssh()), source, target)


Machine = Gpu | Tpu | Host
KINDS: dict[str, Any] = {kind.kind: kind for kind in (Gpu, Tpu, Host)}


def gpu(name: str, text: str, zone: str, machine_type: str | None, **rest: Any) -> Gpu:
    """A GPU machine from words: `text` is TYPE or TYPE:COUNT.

    Raises:
      Usage: the count is no number, or no machine type is known for this GPU.
    """
    kind, _, number = text.partition(":")
    if number and not (number.isdigit() and int(number)):
        raise Usage(f"--gpu {text}: how many is {number!r}?\nas --gpu nvidia-l4, or --gpu nvidia-l4:2")
    count = int(number or 1)
    if machine_type is None:
        if kind in BUILT_IN and (kind != "nvidia-l4" or count in _L4_CORES):
            machine_type = BUILT_IN[kind].format(count=count, cores=_L4_CORES.get(count))
        elif kind in BUILT_IN:
            raise Usage(f"--gpu {text}: machines have {', '.join(map(str, _L4_CORES))} of these GPUs")
        else:
            machine_type = "n1-standard-8"
    return Gpu(name, zone, kind, count, machine_type, **rest)


def tpu(name: str, text: str, zone: str, **rest: Any) -> Tpu:
    """A TPU VM from its accelerator type.

    Raises:
      Usage: no such type. Refused: it is a slice of several hosts.
    """
    kind, _, size = text.partition("-")
    if kind not in TPU_RUNTIMES or not size.isdigit():
        raise Usage(f"--tpu {text} is no TPU type\nas --tpu v5litepod-8; kinds: {', '.join(TPU_RUNTIMES)}")
    if int(size) > TPU_ONE_HOST[kind]:
        raise Refused(
            f"--tpu {text} is a slice of several hosts, and tfapp drives one\nuse --tpu {kind}-{TPU_ONE_HOST[kind]}"
        )
    return Tpu(name, zone, text, **rest)


_HOST = re.compile(
    r"(?:(?P<user>[\w.][\w.-]*)@)?(?P<machine>[\w.][\w.-]*)(?::(?P<port>\d+))?(?:=(?P<address>[\w.][\w.:-]*))?"
)


def host(text: str, config: str = "", gpus: bool = False) -> Host:
    """A machine from [user@]machine[:port][=address].

    Raises:
      Usage: it is not of that form. What looks like an option of ssh is not.
    """
    found = _HOST.fullmatch(text)
    if not found:
        raise Usage(f"--host {text} is no machine\nas --host user@machine, user@machine:22 or user@machine=10.0.0.2")
    machine = found["machine"]
    return Host(machine, found["user"] or "", int(found["port"] or 0), found["address"] or machine, config, gpus)


def plain(machine: Machine) -> dict[str, Any]:
    """A machine as JSON-able values."""
    return {"kind": machine.kind, **asdict(machine)}


def from_plain(values: Mapping[str, Any]) -> Machine:
    """A machine from what `plain` gave."""
    rest = dict(values)
    made: Machine = KINDS[rest.pop("kind")](**rest)
    return made


def _tar_there(machine: Gpu | Tpu, local: Path, remote: str) -> Command:
    packed = command("tar", "-C", str(local), "--exclude=.lock", "--exclude=__pycache__", "-cz", ".")
    return piped(packed, machine.shell(f'mkdir -p "$HOME/{remote}" && tar -C "$HOME/{remote}" -xz'))


def _tar_back(machine: Gpu | Tpu, remote: str, local: Path) -> Command:
    # tar's 1: a file changed while it was read, as those of a training do.
    packed = machine.shell(f'tar -C "$HOME/{remote}" --exclude=.lock -cz . || [ $? -eq 1 ]')
    return piped(packed, command("tar", "-C", str(local), "--no-same-owner", "-xz"))
