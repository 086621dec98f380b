"""One machine's cores and GPUs, shared out among the workers on it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from tfapp.errors import Missing

VARIABLE = "TFAPP_SHARE"


def portion(things: Sequence[int], number: int, of: int) -> list[int]:
    """Part `number` of `of` of the things, as even as can be; where there are too few, one each in turn."""
    if len(things) < of:
        return [things[number % len(things)]] if things else []
    return list(things[number * len(things) // of : (number + 1) * len(things) // of])


def gpus(devices: Path = Path("/dev")) -> list[str]:
    """What CUDA_VISIBLE_DEVICES names, or the numbers of all NVIDIA devices."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    numbers = [int(path.name[6:]) for path in devices.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return [str(number) for number in range(len(numbers))]


def check(of: int) -> None:
    """Make sure that each of so many workers on this machine can have a GPU of its own, where there are GPUs.

    Raises:
      Missing: fewer GPUs than workers.
    """
    there = len(gpus())
    if of > 1 and 0 < there < of:
        raise Missing(
            f"{of} workers on this machine, but it has {there} GPU{'s' * (there > 1)}\n"
            f"ask for no more than that (--workers, --parallel or --hosts), or train on the CPU: "
            f'CUDA_VISIBLE_DEVICES="" tfapp …'
        )


def cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def take(text: str) -> None:
    """Keep this process to its share, as «1/2»: the second of two workers on this machine.

    With GPUs each worker gets some of them; then the cores stay common, since threads that feed GPUs wander.

    Raises:
      Missing: fewer GPUs than workers.
    """
    number, of = map(int, text.split("/"))
    if of == 1:
        return
    check(of)
    there = gpus()
    if there:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(there[i] for i in portion(range(len(there)), number, of))
    elif hasattr(os, "sched_setaffinity"):
        # TensorFlow makes as many threads as the process has cores.
        os.sched_setaffinity(0, portion(cores(), number, of))
