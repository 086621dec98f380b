"""What a profile says of the time lost to synchronisation, on planes as TensorFlow writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfapp import synchronisation
from tfapp.synchronisation import Loss

# Milliseconds in picoseconds.
MS = 10**9


def plane(name: str, **lines: list[tuple[str, float, float]]):
    """An XPlane of (event, start, end) in ms by line."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    made = xplane_pb2.XPlane(name=name)
    for line, events in lines.items():
        held = made.lines.add(name=line, timestamp_ns=1000)
        for event, start, end in events:
            number = next((n for n, known in made.event_metadata.items() if known.name == event), None)
            if number is None:
                number = len(made.event_metadata) + 1
                made.event_metadata[number].id, made.event_metadata[number].name = number, event
            held.events.add(metadata_id=number, offset_ps=round(start * MS), duration_ps=round((end - start) * MS))
    return made


def test_lost_is_a_collective_s_time_without_computation_and_each_moment_counts_once() -> None:
    host = plane(
        "/host:CPU",
        python=[("train", 0, 10), ("train", 20, 30), ("train_function", 0, 9)],
        collective_ops=[
            ("while/CollectiveReduceV2_1:CollectiveReduceV2", 2, 6),
            ("while/CollectiveReduceV2:CollectiveReduceV2", 5, 8),
            ("CollectiveExecutor::CompleteParams", 0, 1),
            ("x:CollectiveReduceV2", 28, 34),
            ("validation:CollectiveReduceV2", 12, 18),
        ],
        tf_Compute=[("ExecutorState::Process", 0, 3), ("ExecutorState::Process", 4, 5), ("dense:MatMul", 4, 8)],
    )
    found = synchronisation.of([host, plane("Task Environment")])
    assert found == Loss(seconds=0.020, collective=0.008, lost=0.006, collectives=3)


def test_a_thread_that_sums_by_itself_computes_nothing_meanwhile() -> None:
    host = plane(
        "/host:CPU",
        python=[("train", 0, 20)],
        tf_Compute=[
            ("ExecutorState::Process", 0, 18),
            ("while/body/DirectAllReduce:PyFunc", 2, 6),
            ("while/body/DirectAllReduce_1:PyFunc", 8, 9),
            ("generator:PyFunc", 10, 17),
        ],
        another=[("ExecutorState::Process", 1, 3), ("ExecutorState::Process", 5, 7)],
    )
    assert synchronisation.of([host]) == Loss(seconds=0.020, collective=0.005, lost=0.003, collectives=2)


@given(*[st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=12)] * 2)
def test_what_is_left_of_a_time_is_what_the_other_does_not_hold(one, other) -> None:
    def spans(drawn) -> synchronisation.Spans:
        return synchronisation._union((start, start + length) for start, length in drawn)

    def moments(spans) -> set[int]:
        return {moment for start, end in spans for moment in range(start, end)}

    left = synchronisation._without(spans(one), spans(other))
    assert moments(left) == moments(spans(one)) - moments(spans(other)) and left == sorted(left)


def test_on_a_gpu_the_kernels_are_what_counts() -> None:
    host = plane("/host:CPU", python=[("train", 0, 10)], tf_Compute=[("ExecutorState::Process", 0, 10)])
    gpu = plane(
        "/device:GPU:0",
        **{
            "Stream #1(Compute)": [("gemm", 0, 4), ("gemm", 7, 9)],
            "Stream #2(nccl)": [("ncclDevKernel_AllReduce_Sum_f32_RING_LL", 3, 8)],
            "TensorFlow Ops": [("dense:MatMul", 0, 10)],
        },
    )
    assert synchronisation.of([host, gpu]) == Loss(seconds=0.010, collective=0.005, lost=0.003, collectives=1)


def test_one_replica_has_nothing_to_wait_for() -> None:
    host = plane("/host:CPU", python=[("train", 0, 10)], tf_Compute=[("ExecutorState::Process", 0, 9)])
    assert synchronisation.of([host]) == Loss(seconds=0.010, collective=0, lost=0, collectives=0)


def test_a_profile_without_steps_and_a_folder_without_a_profile_say_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no training steps"):
        synchronisation.of([plane("/host:CPU", python=[("EagerExecute", 0, 1)])])
    with pytest.raises(FileNotFoundError, match="no profile"):
        synchronisation.read(tmp_path)
