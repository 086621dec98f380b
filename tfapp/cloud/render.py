"""Manifests for schedulers that place workers themselves: a Slurm batch script, a Kubernetes Indexed Job.

Both say TF_CONFIG outright, and the few plain variables besides by which an application can find its place.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PORT = 2222
# Exit codes that another try does not change.
FINAL = (2, 3, 4, 5)


@dataclass(frozen=True)
class Manifest:
    """What a scheduler is asked for.

    Attributes:
      name: of the job and the run. words: for `tfapp train`, the recipe's first. workers: 1 or more, a node each.
      gpus: a worker. image: "" runs the `tfapp` on the PATH (Slurm alone). runs: a folder (Slurm) or a claim that all
      workers can write (Kubernetes). data: the same, to read, or "". recipe: a file that the manifest carries.
      secret: a Secret of Kubernetes for the environment, or "". minutes: the time limit; 0 is the scheduler's own.
    """

    name: str
    words: tuple[str, ...]
    workers: int
    runs: str
    gpus: int = 0
    image: str = ""
    data: str = ""
    recipe: Path | None = None
    secret: str = ""
    minutes: int = 0

    @property
    def train(self) -> tuple[str, ...]:
        return ("train", *self.words)


def slurm(manifest: Manifest) -> str:
    """A script for sbatch. It starts over after a worker's death, and asks to be queued again when its time is up.

    TF_CONFIG comes from `scontrol show hostnames`, which keeps the order in which srun numbers its tasks.
    """
    asked = [f"--job-name={manifest.name}", f"--nodes={manifest.workers}", "--ntasks-per-node=1", "--requeue"]
    asked += [f"--gpus-per-node={manifest.gpus}"] if manifest.gpus else []
    asked += [f"--time={manifest.minutes}"] if manifest.minutes else []
    asked += ["--open-mode=append", f"--output={manifest.name}-%j.log", "--signal=TERM@120"]
    head = "\n".join(f"#SBATCH {word}" for word in asked)
    final = "|".join(map(str, FINAL))
    return f"""#!/bin/bash
# tfapp {shlex.join(manifest.train)}: submit with `sbatch THIS_FILE`.
{head}
set -u
{_slurm_places(manifest)}
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST") || exit 5
# Two jobs that share a node must not share a port.
port=$((20000 + SLURM_JOB_ID % 10000))
workers=
for host in $hosts; do workers="$workers${{workers:+, }}\\"$host:$port\\""; done
export TFAPP_CLUSTER="{{\\"worker\\": [$workers]}}"

# One worker's death ends all of them; they start again together and go on from the last checkpoint.
for attempt in 1 2 3 4 5; do
  # shellcheck disable=SC2016  # Each task has its own SLURM_PROCID.
  srun --kill-on-bad-exit=1 sh -c '
    if [ "$SLURM_NTASKS" -gt 1 ]; then
      export TF_CONFIG="{{\\"cluster\\": $TFAPP_CLUSTER, \\"task\\": {{\\"type\\": \\"worker\\", \\"index\\": $SLURM_PROCID}}}}"
    fi
    exec "$@"' worker \\
    {_slurm_command(manifest)}
  code=$?
  case $code in
    0|{final}) exit $code ;;
    143) scontrol requeue "$SLURM_JOB_ID"; exit $code ;;
  esac
  echo "attempt $attempt ended with $code" >&2
done
exit "$code"
"""


def _slurm_places(manifest: Manifest) -> str:
    lines = [f"export TFAPP_RUNS={shlex.quote(manifest.runs)}", 'mkdir -p "$TFAPP_RUNS"']
    if manifest.recipe:
        text = manifest.recipe.read_text(encoding="utf-8")
        mark = "END_OF_RECIPE"
        while mark in text:
            mark += "_"
        target = f'"$TFAPP_RUNS/.recipes/{manifest.name}/"{shlex.quote(manifest.recipe.name)}'
        lines += [
            f'mkdir -p "$TFAPP_RUNS/.recipes/{manifest.name}"',
            f"cat >{target} <<'{mark}'\n{text.rstrip()}\n{mark}",
        ]
    return "\n".join(lines)


def _slurm_command(manifest: Manifest) -> str:
    if not manifest.image:
        words = shlex.join(["tfapp", *manifest.train])
        recipe = f'"$TFAPP_RUNS/.recipes/{manifest.name}"/' if manifest.recipe else ""
        if manifest.recipe:
            words = f"tfapp train {recipe}{shlex.quote(manifest.recipe.name)} {shlex.join(manifest.words[1:])}".rstrip()
        return f'{words} --run "$TFAPP_RUNS/{manifest.name}"'
    binds = ['--bind "$TFAPP_RUNS:/runs"']
    binds += [f"--bind {shlex.quote(manifest.data + ':/data:ro')}"] if manifest.data else []
    binds += [f'--bind "$TFAPP_RUNS/.recipes/{manifest.name}:/recipes:ro"'] if manifest.recipe else []
    gpu = "--nv " if manifest.gpus else ""
    inside = shlex.join([manifest.image, "tfapp", *manifest.train, "--run", f"/runs/{manifest.name}"])
    return f"apptainer exec {gpu}--env TFAPP_RUNS=/runs {' '.join(binds)} {inside}"


def kubernetes(manifest: Manifest) -> str:
    """YAML of a headless Service, an Indexed Job and, for a recipe of one's own, a ConfigMap.

    Indexed pods are called NAME-0, NAME-1, … and find each other as NAME-0.NAME.
    """
    parts: list[dict[str, Any]] = []
    if manifest.recipe:
        parts.append(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": _named(manifest),
                "data": {manifest.recipe.name: manifest.recipe.read_text(encoding="utf-8")},
            }
        )
    parts += [_service(manifest), _job(manifest)]
    return yaml.safe_dump_all(parts, sort_keys=False, allow_unicode=True, width=120)


def _named(manifest: Manifest) -> dict[str, Any]:
    return {"name": manifest.name, "labels": {"app.kubernetes.io/name": "tfapp"}}


def _service(manifest: Manifest) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _named(manifest),
        "spec": {
            "clusterIP": "None",
            # Workers look one another up before any of them is ready.
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": manifest.name},
            "ports": [{"name": "tensorflow", "port": PORT}],
        },
    }


def _job(manifest: Manifest) -> dict[str, Any]:
    volumes = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "runs", "persistentVolumeClaim": {"claimName": manifest.runs}},
    ]
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "runs", "mountPath": "/runs"}]
    if manifest.data:
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": manifest.data, "readOnly": True}})
        mounts.append({"name": "data", "mountPath": "/data", "readOnly": True})
    if manifest.recipe:
        volumes.append({"name": "recipes", "configMap": {"name": manifest.name}})
        mounts.append({"name": "recipes", "mountPath": "/recipes", "readOnly": True})
    container = {
        "name": "tfapp",
        "image": manifest.image,
        "args": [_escaped(word) for word in (*manifest.train, "--run", f"/runs/{manifest.name}")],
        "env": _environment(manifest),
        **({"envFrom": [{"secretRef": {"name": manifest.secret}}]} if manifest.secret else {}),
        "ports": [{"containerPort": PORT}],
        **({"resources": {"limits": {"nvidia.com/gpu": manifest.gpus}}} if manifest.gpus else {}),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    rules: list[dict[str, Any]] = [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": list(FINAL)}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _named(manifest),
        "spec": {
            "completionMode": "Indexed",
            "completions": manifest.workers,
            "parallelism": manifest.workers,
            # One worker's death ends all of them: five times, together.
            "backoffLimit": 5 * manifest.workers,
            "podFailurePolicy": {"rules": rules},
            **({"activeDeadlineSeconds": 60 * manifest.minutes} if manifest.minutes else {}),
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/name": "tfapp"}},
                "spec": {
                    "subdomain": manifest.name,
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 60,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 1000,
                        "runAsGroup": 1000,
                        "fsGroup": 1000,
                        "fsGroupChangePolicy": "OnRootMismatch",
                    },
                    "containers": [container],
                    "volumes": volumes,
                },
            },
        },
    }


def _environment(manifest: Manifest) -> list[dict[str, Any]]:
    if manifest.workers == 1:
        return []
    addresses = [f"{manifest.name}-{number}.{manifest.name}:{PORT}" for number in range(manifest.workers)]
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    # Kubernetes puts the index in where it says $(…), for a variable that was named before.
    config = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": "INDEX"}})
    return [
        {"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": index}}},
        {"name": "TFAPP_WORKERS", "value": str(manifest.workers)},
        {"name": "TFAPP_SERVICE", "value": manifest.name},
        {"name": "TF_CONFIG", "value": config.replace('"INDEX"', "$(JOB_COMPLETION_INDEX)")},
    ]


def _escaped(word: str) -> str:
    """A word of which Kubernetes expands nothing."""
    return word.replace("$(", "$$(")


def words_there(words: Sequence[str], recipe: Path | None) -> tuple[str, ...]:
    """The words as they are said there, where a recipe file is in /recipes."""
    return (f"/recipes/{recipe.name}", *words[1:]) if recipe else tuple(words)
