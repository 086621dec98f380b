"""The input of asynchronous training; whole trainings are in tests/launch/test_servers.py."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tfapp import asynchronous
from tfapp.launch import places
from tfapp.plan import Fit

# In a process of its own, which nothing takes out of the cluster again. Two workers and a server in it are real ones.
DRAWN = """
import json, sys
from types import SimpleNamespace
from tfapp.runtime import import_tensorflow
tf = import_tensorflow()
import numpy as np, tf_keras as keras
from tfapp import asynchronous
from tfapp.data.examples import Examples
from tfapp.data.pipeline import Batches
from tfapp.runtime import Machine

chief, *others = [f"127.0.0.1:{port}" for port in json.loads(sys.argv[1])]
spec = tf.train.ClusterSpec({"chief": [chief], "worker": others[:2], "ps": others[2:]})
config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=4)
servers = [
    tf.distribute.Server(spec, job_name=kind, task_index=number, protocol="grpc", config=config) for kind, number in [("worker", 0), ("worker", 1), ("ps", 0)]
]
resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(spec, task_type="chief", task_id=0, rpc_layer="grpc")
strategy = tf.distribute.ParameterServerStrategy(resolver)
coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
with strategy.scope():
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(), "mse", steps_per_execution=2)
    model.optimizer.build(model.trainable_variables)
batches = Batches(Examples(np.arange(200, dtype=np.float32), np.arange(200) % 3), 10)
callback = keras.callbacks.Callback()
machine = Machine(strategy, 1, coordinator=coordinator)
job = SimpleNamespace(model=model, machine=machine, train=batches, validation=None)
training, validation = asynchronous.install(job, [callback], 0)
assert validation is None and callback._supports_tf_logs


@tf.function
def step(iterator):
    features, labels, weights = next(iterator)
    return tf.cast(features[0], tf.int64) // 10, tf.distribute.coordinator.experimental_get_current_worker_index()


def drawn(start, count=8):
    model.optimizer.iterations.assign(start)
    iterator = iter(coordinator.create_per_worker_dataset(lambda: strategy.distribute_datasets_from_function(training)))
    values = [coordinator.schedule(step, args=(iterator,)) for _ in range(count)]
    return [[int(part) for part in value.fetch()] for value in values]


print(json.dumps([drawn(0), drawn(7)]))
"""


@pytest.mark.slow
@pytest.mark.e2e
def test_each_worker_goes_through_steps_of_its_own_from_the_job_s_step_on() -> None:
    ports = json.dumps(places.ports(places.here(4)))
    done = subprocess.run([sys.executable, "-c", DRAWN, ports], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for start, drawn in zip((0, 7), json.loads(done.stdout.splitlines()[-1]), strict=True):
        for worker in range(2):
            own = sorted(step for step, by in drawn if by == worker)
            assert own == [start + worker + 2 * turn for turn in range(len(own))]
        assert len(drawn) == 8


def test_a_step_is_handed_out_alone_unless_asked() -> None:
    assert asynchronous.pace(Fit()) == 1
    assert asynchronous.pace(Fit(steps_per_execution=8)) == 8
