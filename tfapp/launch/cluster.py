"""Which worker of how many this process is, whoever started it.

TF_CONFIG comes first (tfapp's own launcher sets it too), then a Slurm step, then a Kubernetes Indexed Job.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfapp.errors import Missing, Usage

KUBERNETES_PORT = 2222
# Below the ports that the system gives to outgoing connections (32768 on Linux).
SLURM_PORTS = range(20000, 32000)


@dataclass(frozen=True)
class Cluster:
    """The workers of one job.

    Attributes:
      addresses: «host:port» of each worker; worker 0 is the chief.
      worker: this process's number among them; parameter servers have the numbers after the last worker's.
      source: who said so: TF_CONFIG, Slurm or Kubernetes.
      servers: «host:port» of each parameter server. Where there are some, the training is asynchronous: the chief
        hands out steps and takes none itself.
    """

    addresses: tuple[str, ...]
    worker: int
    source: str = "TF_CONFIG"
    servers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.worker < len(self.addresses) + len(self.servers):
            raise ValueError(f"worker {self.worker} is not one of the {len(self.addresses)} workers")
        if self.servers and len(self.addresses) < 2:
            raise ValueError("parameter servers need a chief and a worker beside it")

    @property
    def workers(self) -> int:
        return len(self.addresses)

    @property
    def task(self) -> tuple[str, int]:
        """The kind and the number by which TensorFlow knows this process."""
        if not self.servers:
            return "worker", self.worker
        if self.worker >= self.workers:
            return "ps", self.worker - self.workers
        return ("worker", self.worker - 1) if self.worker else ("chief", 0)

    @property
    def jobs(self) -> dict[str, list[str]]:
        """The addresses by kind, as TensorFlow takes them."""
        if not self.servers:
            return {"worker": list(self.addresses)}
        return {"chief": [self.addresses[0]], "worker": list(self.addresses[1:]), "ps": list(self.servers)}

    @property
    def serves(self) -> bool:
        """Whether this process does what an asynchronous training's chief asks, instead of training by itself."""
        return bool(self.servers) and self.worker != 0

    def config(self) -> str:
        """The same as the value of TF_CONFIG, which is what TensorFlow reads."""
        kind, index = self.task
        return json.dumps({"cluster": self.jobs, "task": {"type": kind, "index": index}})


def current(environment: Mapping[str, str] | None = None) -> Cluster | None:
    """The cluster that this process was started in; None when it trains alone.

    Raises:
      Usage: TF_CONFIG or TFAPP_WORKERS is not what it should be. Missing: Slurm's scontrol is not there.
    """
    environment = os.environ if environment is None else environment
    if environment.get("TF_CONFIG"):
        return _from_config(environment["TF_CONFIG"])
    if int(environment.get("SLURM_STEP_NUM_TASKS") or 1) > 1 and "SLURM_PROCID" in environment:
        return _from_slurm(environment)
    if "JOB_COMPLETION_INDEX" in environment and environment.get("TFAPP_WORKERS"):
        return _from_kubernetes(environment, socket.gethostname())
    return None


def _from_config(text: str) -> Cluster:
    try:
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        chiefs, workers, servers = (tuple(jobs.get(kind, [])) for kind in ("chief", "worker", "ps"))
        if servers and len(chiefs) != 1:
            raise ValueError(f"with ps there must be one chief, not {len(chiefs)}")
        before = {"chief": 0, "worker": len(chiefs), "ps": len(chiefs) + len(workers)}
        if task["type"] not in before or not 0 <= int(task["index"]) < len(jobs.get(task["type"], [])):
            raise ValueError(f"task {task['type']} {task['index']} is not in the cluster")
        return Cluster((*chiefs, *workers), before[task["type"]] + int(task["index"]), servers=servers)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Usage(
            f"TF_CONFIG cannot be read: {error!r}\n"
            'it looks like {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
        ) from None


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    """A step's tasks, which srun numbers node by node. TensorFlow's own resolver sorts n10 before n2."""
    hosts = _hostnames(environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"])
    counts = tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
    first = SLURM_PORTS[int(environment.get("SLURM_JOB_ID", 0)) * 16 % len(SLURM_PORTS)]
    addresses = [
        f"{host}:{first + number}" for host, count in zip(hosts, counts, strict=True) for number in range(count)
    ]
    return Cluster(tuple(addresses), int(environment["SLURM_PROCID"]), "Slurm")


def _hostnames(nodes: str) -> list[str]:
    if not shutil.which("scontrol"):
        raise Missing(
            f"this is a Slurm step on {nodes}, but scontrol, which spells the node names out, is not on the PATH\n"
            "put it there (in a container: mount it), or set TF_CONFIG yourself"
        )
    done = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"scontrol show hostnames {nodes} failed: {done.stderr.strip()}\nset TF_CONFIG yourself")
    return done.stdout.split()


def tasks_per_node(text: str) -> list[int]:
    """Slurm's «2(x3),1» as [2, 2, 2, 1]."""
    counts: list[int] = []
    for part in text.split(","):
        count, _, times = part.rstrip(")").partition("(x")
        counts += [int(count)] * int(times or 1)
    return counts


def _from_kubernetes(environment: Mapping[str, str], pod: str) -> Cluster:
    """An Indexed Job's pods are JOB-0, JOB-1, … and find each other through a headless service."""
    index, workers = int(environment["JOB_COMPLETION_INDEX"]), environment["TFAPP_WORKERS"]
    job, _, last = pod.rpartition("-")
    if not workers.isdigit() or int(workers) <= index or last != str(index):
        raise Usage(
            f"TFAPP_WORKERS={workers} does not fit pod {pod!r} of index {index}\n"
            "give it the Job's completions, and leave the pods' hostname to the Job"
        )
    service = environment.get("TFAPP_SERVICE")
    domain = f".{service}" if service else ""
    addresses = tuple(f"{job}-{number}{domain}:{KUBERNETES_PORT}" for number in range(int(workers)))
    return Cluster(addresses, index, "Kubernetes")


def on_ports(hosts: Sequence[str], ports: Sequence[int]) -> tuple[str, ...]:
    """The addresses of workers on these hosts and ports; an IPv6 host gets its brackets."""
    return tuple(
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in zip(hosts, ports, strict=True)
    )
