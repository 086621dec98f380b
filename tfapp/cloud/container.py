"""What is said to a machine's shell: texts for sh, every word of the user's quoted."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

# Docker as it is, or through sudo where the user is not of its group.
_DOCKER = "S=; docker info >/dev/null 2>&1 || S='sudo -n'; $S docker"
# A container that ends in trouble is started again, also after its machine was; not one that is done.
RESTART = "on-failure:5"
GRACE = 60


def docker(*words: str) -> str:
    """A docker command."""
    return f"{_DOCKER} {shlex.join(words)}"


def check() -> str:
    """Whether Docker is there and may be used."""
    return docker("version", "--format", "{{.Server.Version}}")


def pullable(image: str) -> bool:
    """Whether the name says which registry has it, as Docker reads names."""
    first, slash, _ = image.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def pull(image: str) -> str:
    """Pull an image, with the machine's own Google account where the registry is Google's."""
    registry = image.partition("/")[0]
    login = ""
    if registry.endswith("-docker.pkg.dev") or registry.endswith("gcr.io"):
        login = f"$S gcloud auth configure-docker {shlex.quote(registry)} --quiet >/dev/null 2>&1; "
    return f"S=; docker info >/dev/null 2>&1 || S='sudo -n'; {login}$S docker pull --quiet {shlex.quote(image)}"


def load() -> str:
    """Take an image from standard input."""
    return f"{_DOCKER} load --quiet"


def image_id(image: str) -> str:
    return docker("image", "inspect", "--format", "{{.Id}}", image)


def make_folders(folder: str) -> str:
    """The run's place on the machine, in the home of whoever logs in."""
    return " ".join(["mkdir", "-p", *(f'"$HOME/{folder}/{name}"' for name in ("runs", "data", "recipes"))])


def keep_secrets(folder: str) -> str:
    """Take the environment file from standard input, for nobody else to read: it is on no command line."""
    return f'(umask 077 && cat > "$HOME/{folder}/env")'


def run(
    name: str,
    folder: str,
    image: str,
    words: Sequence[str],
    devices: Sequence[str],
    tf_config: str | None = None,
    secrets: bool = False,
) -> str:
    """Start the training and leave it alone; a container of before is ended first, and its run is gone on with.

    Args:
      name: of the container. folder: below the home. words: for tfapp. devices: `Machine.devices`.
      tf_config: this worker's TF_CONFIG; None when it trains alone. Workers are started again together, not by Docker.
    """
    before = [
        "run", "--detach", "--name", name, "--read-only", "--tmpfs", "/tmp", *devices,
        *(("--env", f"TF_CONFIG={tf_config}") if tf_config else ("--restart", RESTART)),
        "--stop-timeout", str(GRACE),
    ]  # fmt: skip
    places = " ".join(f'--volume "$HOME/{folder}/{part}:/{part}{mode}"' for part, mode in _PLACES)
    env = f' --env-file "$HOME/{folder}/env"' if secrets else ""
    whose = '--user "$(id -u):$(id -g)"'
    return f"{remove(name)}; $S docker {shlex.join(before)} {whose} {places}{env} {shlex.join([image, *words])}"


_PLACES = (("runs", ""), ("data", ":ro"), ("recipes", ":ro"))


def state(name: str) -> str:
    """Prints the state of the container and the code it ended with."""
    return docker("container", "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name)


def logs(name: str) -> str:
    return docker("logs", "--follow", "--tail", "100", name)


def stop(name: str) -> str:
    """End the training with a checkpoint."""
    return f"{docker('stop', '--time', str(GRACE), name)} >/dev/null 2>&1"


def remove(name: str) -> str:
    """Take the container away, stopped first so that its checkpoint is whole. None at all is fine."""
    return f"{stop(name)}; $S {shlex.join(['docker', 'rm', '--force', name])} >/dev/null 2>&1; true"


def forget(folder: str) -> str:
    """Delete the run's place, secrets and all."""
    return f'rm -rf "$HOME/{folder}"'


def save_to_bucket(run: str, place: str) -> str:
    """Copy a run to a bucket each minute, also when nobody looks and after the machine came back; begin with what is there."""
    here = f'"$HOME/{run}"'
    line = f"* * * * * flock -n /tmp/tfapp-bucket.lock gcloud storage rsync --recursive {here} {shlex.quote(place)}"
    return (
        f"mkdir -p {here} && gcloud storage rsync --recursive {shlex.quote(place)} {here} 2>/dev/null; "
        f"(crontab -l 2>/dev/null | grep -v tfapp-bucket; echo {shlex.quote(line)}) | crontab -"
    )


def last_to_bucket(run: str, place: str) -> str:
    return f'gcloud storage rsync --recursive "$HOME/{run}" {shlex.quote(place)}'


def tf_config(addresses: Sequence[str], index: int) -> str:
    """The TF_CONFIG of one worker."""
    return json.dumps({"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}})
