from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tfapp.errors import Missing, Usage
from tfapp.launch.cluster import Cluster, _from_kubernetes, current, tasks_per_node

CONFIG = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that answers as Slurm's does for n[1-2,10]."""
    script = tmp_path / "scontrol"
    script.write_text('#!/bin/sh\n[ "$*" = "show hostnames n[1-2,10]" ] && printf "n1\\nn2\\nn10\\n"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def slurm(**more: str) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_PROCID": "3",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_NODELIST": "n[1-2,10]",
        "SLURM_STEP_TASKS_PER_NODE": "2,1(x2)",
        **more,
    }


def test_tf_config_is_read_and_written() -> None:
    cluster = current({"TF_CONFIG": json.dumps(CONFIG)})
    assert cluster == Cluster(("a:1", "b:2"), 1)
    assert json.loads(cluster.config()) == CONFIG


def test_a_chief_of_its_own_kind_is_worker_0() -> None:
    config = {"cluster": {"chief": ["c:1"], "worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}
    assert current({"TF_CONFIG": json.dumps(config)}) == Cluster(("c:1", "a:1"), 1)


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({**CONFIG, "task": {"type": "worker", "index": 2}})])
def test_a_broken_tf_config_is_refused_with_what_it_should_be(text: str) -> None:
    with pytest.raises(Usage, match="it looks like"):
        current({"TF_CONFIG": text})


def test_without_any_of_them_a_process_trains_alone() -> None:
    assert current({}) is None
    assert current({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None  # A batch script.
    assert current({"JOB_COMPLETION_INDEX": "1"}) is None  # A sweep's pod.


def test_slurm_s_tasks_are_numbered_node_by_node_in_scontrol_s_order(scontrol: None) -> None:
    cluster = current(slurm())
    assert cluster is not None and cluster.worker == 3
    assert cluster.addresses == ("n1:20112", "n1:20113", "n2:20112", "n10:20112")


def test_tf_config_comes_before_slurm() -> None:
    assert current(slurm(TF_CONFIG=json.dumps(CONFIG))) == Cluster(("a:1", "b:2"), 1)


def test_without_scontrol_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Missing, match="set TF_CONFIG yourself"):
        current(slurm())


def test_slurm_s_counts_are_spelled_out() -> None:
    assert tasks_per_node("2(x3),1") == [2, 2, 2, 1]


def test_kubernetes_pods_find_each_other_by_the_service() -> None:
    environment = {"JOB_COMPLETION_INDEX": "1", "TFAPP_WORKERS": "2", "TFAPP_SERVICE": "digits"}
    cluster = _from_kubernetes(environment, "digits-1")
    assert cluster == Cluster(("digits-0.digits:2222", "digits-1.digits:2222"), 1, "Kubernetes")


@pytest.mark.parametrize(("workers", "pod"), [("1", "digits-1"), ("two", "digits-1"), ("2", "digits-1-xyz")])
def test_a_kubernetes_job_that_does_not_fit_is_refused(workers: str, pod: str) -> None:
    with pytest.raises(Usage, match="does not fit pod"):
        _from_kubernetes({"JOB_COMPLETION_INDEX": "1", "TFAPP_WORKERS": workers}, pod)


SERVERS = {"chief": ["c:1"], "worker": ["a:1", "b:2"], "ps": ["s:3"]}


@pytest.mark.parametrize(
    ("kind", "index", "number", "serves"),
    [("chief", 0, 0, False), ("worker", 0, 1, True), ("worker", 1, 2, True), ("ps", 0, 3, True)],
)
def test_parameter_servers_have_the_numbers_after_the_workers(kind: str, index: int, number: int, serves: bool) -> None:
    config = {"cluster": SERVERS, "task": {"type": kind, "index": index}}
    cluster = current({"TF_CONFIG": json.dumps(config)})
    assert cluster == Cluster(("c:1", "a:1", "b:2"), number, servers=("s:3",))
    assert cluster.task == (kind, index) and cluster.serves == serves
    assert json.loads(cluster.config()) == config


@pytest.mark.parametrize(
    ("jobs", "task"),
    [
        ({**SERVERS, "chief": []}, ("worker", 0)),
        ({**SERVERS, "worker": []}, ("chief", 0)),
        (SERVERS, ("ps", 1)),
        (SERVERS, ("worker", -1)),
        (SERVERS, ("evaluator", 0)),
    ],
)
def test_servers_without_a_chief_or_a_worker_are_refused_and_so_is_a_task_that_is_not_there(jobs, task) -> None:
    text = json.dumps({"cluster": jobs, "task": {"type": task[0], "index": task[1]}})
    with pytest.raises(Usage, match="TF_CONFIG cannot be read"):
        current({"TF_CONFIG": text})
