"""A run enters TensorFlow by one door, and leaves it as it was."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf
import tf_keras as keras
from pydantic import ValidationError

from tfapp import runtime
from tfapp.errors import Missing, Refused
from tfapp.runtime import Machine, Mesh, Runtime


def test_the_precision_holds_inside_and_the_one_before_comes_back() -> None:
    for precision, policy in runtime.POLICIES.items():
        with Runtime(precision=precision).enter():  # type: ignore[arg-type]
            assert keras.mixed_precision.global_policy().name == policy
        assert keras.mixed_precision.global_policy().name == "float32"
    with pytest.raises(ZeroDivisionError), Runtime(precision="bfloat16").enter():
        raise ZeroDivisionError
    assert keras.mixed_precision.global_policy().name == "float32"


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> list[float]:
        with Runtime(seed=seed).enter():
            return list(keras.layers.Dense(3).kernel_initializer([2, 3]).numpy().ravel())

    assert weights(3) == weights(3) != weights(4)


def test_one_device_is_the_default_strategy() -> None:
    for kind in ("auto", "single"):
        with Runtime(strategy=kind).enter() as machine:  # type: ignore[arg-type]
            assert (machine.replicas, machine.worker, machine.workers, machine.chief) == (1, 0, 1, True)
            assert machine.strategy is tf.distribute.get_strategy()
            machine.wait_for_all()


def test_more_parts_of_the_cpu_than_it_was_started_with_are_missing() -> None:
    with pytest.raises(Missing, match="runtime.replicas=64, but TensorFlow has started with 1 CPU"):
        Runtime(replicas=64).enter().__enter__()
    with pytest.raises(Missing, match="a mesh of 8 × 8 devices, but TensorFlow has started with 1 CPU"):
        Runtime(mesh=Mesh(data=8, model=8)).enter().__enter__()


def test_a_mesh_is_for_one_process(monkeypatch) -> None:
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(Refused, match="runtime.mesh is for another kind of job, but TF_CONFIG says"):
        Runtime(mesh=Mesh(model=2)).enter().__enter__()


def test_several_workers_without_a_cluster_are_missing(monkeypatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(Missing, match="names the workers(.|\n)*tfapp launch --workers 2"):
        Runtime(strategy="multiworker").enter().__enter__()


def test_a_way_to_sum_is_for_several_workers_and_nccl_for_gpus(monkeypatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(Refused, match="runtime.communication=ring is for several workers(.|\n)*not for single"):
        Runtime(communication="ring").enter().__enter__()
    with pytest.raises(Missing, match="no GPU is here\n(.|\n)*ring"):
        Runtime(strategy="multiworker", communication="nccl").enter().__enter__()


def test_the_first_worker_is_the_one_that_writes() -> None:
    assert Machine(None, 4, 0, 2).chief and not Machine(None, 4, 1, 2).chief


@pytest.mark.parametrize("wrong", [{"seed": 2**31}, {"seed": -1}, {"replicas": 0}, {"precision": "float64"}])
def test_settings_beyond_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        Runtime(**wrong)
