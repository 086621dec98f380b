"""How much of a step's time is lost to waiting for other replicas, read from a profile that TensorFlow wrote.

A profile (an XSpace of planes, lines and events, github.com/openxla/xprof) says when each collective was under way: from
its start to its end, the wait for the slowest replica included. What was computed meanwhile was not lost. Workers that sum
directly (tfapp.direct) do so in a thread that computes, which then computes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfapp import direct

# Spans of time: (start, end) in picoseconds, sorted, none touching the next.
Spans = list[tuple[int, int]]

# The name under which Keras's fit traces each execution of its steps, with its callbacks.
EXECUTION = "train"


@dataclass(frozen=True)
class Loss:
    """What a profile says of the steps in it.

    Attributes:
      seconds: of all executions of training steps, with what the callbacks do after each.
      collective: of them with a collective under way. lost: of these with nothing computed meanwhile.
      collectives: how many there were.
    """

    seconds: float
    collective: float
    lost: float
    collectives: int


def read(folder: Path) -> Loss:
    """The newest profile under a folder that was given to TensorFlow's profiler.

    Raises:
      FileNotFoundError: there is none. ValueError: it holds no training steps.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    files = sorted(folder.glob("plugins/profile/*/*.xplane.pb"))
    if not files:
        raise FileNotFoundError(f"no profile under {folder}")
    space = xplane_pb2.XSpace()
    space.ParseFromString(files[-1].read_bytes())
    return of(space.planes)


def of(planes: Iterable[Any]) -> Loss:
    """What the XPlanes of a process say.

    Raises:
      ValueError: they hold no training steps.
    """
    planes = list(planes)
    host = [event for plane in planes if plane.name.startswith("/host:CPU") for event in _events(plane)]
    steps = _union((start, end) for _, name, start, end in host if name == EXECUTION)
    if not steps:
        raise ValueError("the profile holds no training steps")
    gpus = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    if gpus:
        # Kernels as they ran; those of one GPU stand for all, which wait for each other.
        kernels = [event for event in _events(gpus[0]) if event[0].startswith("Stream")]
        reductions = [(start, end) for _, name, start, end in kernels if "nccl" in name.lower()]
        work = _union((start, end) for _, name, start, end in kernels if "nccl" not in name.lower())
    else:
        reductions = [(start, end) for _, name, start, end in host if _sums(name)]
        work = _union(span for line in _by_line(host) for span in _computed(line))
    inside = [span for span in reductions if _overlap([span], steps)]
    under_way = _shared(_union(inside), steps)
    return Loss(
        seconds=_length(steps) / 1e12,
        collective=_length(under_way) / 1e12,
        lost=(_length(under_way) - _overlap(under_way, work)) / 1e12,
        collectives=len(inside),
    )


def _sums(name: str) -> bool:
    """Whether an operation of a CPU, «name:kind», is a sum over the workers, by TensorFlow or by themselves."""
    path, _, kind = name.rpartition(":")
    return kind.startswith("Collective") or (kind == "PyFunc" and direct.NAME in path)


def _by_line(events: Iterable[tuple[str, str, int, int]]) -> Iterable[list[tuple[str, int, int]]]:
    """The events (name, start, end) of each line, which is a thread."""
    lines = defaultdict(list)
    for line, name, start, end in events:
        lines[line].append((name, start, end))
    return lines.values()


def _computed(line: list[tuple[str, int, int]]) -> Spans:
    """When a thread ran operations, but for sums: one that sums by itself waits within them."""
    ran = _union((start, end) for name, start, end in line if name == "ExecutorState::Process")
    return _without(ran, _union((start, end) for name, start, end in line if _sums(name)))


def _events(plane: Any) -> Iterator[tuple[str, str, int, int]]:
    """(line's name, name, start, end) of each event, in picoseconds."""
    names = {number: held.name for number, held in plane.event_metadata.items()}
    for line in plane.lines:
        for event in line.events:
            start = line.timestamp_ns * 1000 + event.offset_ps
            yield line.name, names[event.metadata_id], start, start + event.duration_ps


def _union(spans: Iterable[tuple[int, int]]) -> Spans:
    whole: Spans = []
    for start, end in sorted(spans):
        if whole and start <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]))
        else:
            whole.append((start, end))
    return whole


def _without(one: Spans, other: Spans) -> Spans:
    """The time that is in the first and not in the other."""
    found: Spans = []
    i = 0
    for start, end in one:
        while i < len(other) and other[i][1] <= start:
            i += 1
        j = i
        while j < len(other) and other[j][0] < end:
            if start < other[j][0]:
                found.append((start, other[j][0]))
            start = max(start, other[j][1])
            j += 1
        if start < end:
            found.append((start, end))
    return found


def _shared(one: Spans, other: Spans) -> Spans:
    """The time that is in both."""
    found: Spans = []
    i = j = 0
    while i < len(one) and j < len(other):
        start, end = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if start < end:
            found.append((start, end))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return found


def _overlap(one: Spans, other: Spans) -> int:
    return _length(_shared(one, other))


def _length(spans: Spans) -> int:
    return sum(end - start for start, end in spans)
