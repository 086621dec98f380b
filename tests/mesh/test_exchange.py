"""Devices of a row add and lay side by side what they hold, and gradients come back as those of the whole."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

# The CPU can be parted only before TensorFlow starts. Four devices, numbered row by row: 0 1 / 2 3.
SCRIPT = """
import json
import tensorflow as tf
from tfapp.mesh import exchange

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4)
strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(4)])
strategy.parts = 2
told = {}

def each(step):
    def here():
        return step(tf.distribute.get_replica_context().replica_id_in_sync_group)
    values = tf.function(lambda: strategy.run(here))()
    return [tf.convert_to_tensor(value).numpy().tolist() for value in strategy.experimental_local_results(values)]

def gradient_of(function, x, weight):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
        loss = tf.reduce_sum(y * weight[..., : y.shape[-1]])
    return tape.gradient(loss, x)

number = lambda device: tf.cast(device + 1, tf.float32)
same = lambda device: tf.constant([[1.0, 2.0, 3.0, 4.0]])
for name, given, weight in [
    ("shared", same, lambda device: same(device) * number(device)),
    ("summed", lambda device: same(device) * number(device), same),
    ("own", same, lambda device: same(device) * number(device)),
    ("gathered", lambda device: tf.ones([1, 2]) * number(device), same),
]:
    function = getattr(exchange, name)
    told[name] = [each(lambda device: function(given(device))),
                  each(lambda device: gradient_of(function, given(device), weight(device)))]
told["dense"] = each(lambda device: exchange.summed_copies(number(device)))
rows = lambda device: tf.IndexedSlices(tf.ones([1, 2]) * number(device), tf.reshape(device % 2, [1]), [2, 2])
told["rows"] = each(lambda device: tf.convert_to_tensor(exchange.summed_copies(rows(device))))
print(json.dumps(told))
"""


@pytest.mark.e2e
def test_values_and_gradients_are_those_of_the_whole() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    x = np.asarray([[1.0, 2.0, 3.0, 4.0]])

    def rows(above: object, below: object) -> list[object]:
        return [np.asarray(one, float).reshape(1, -1).tolist() for one in (*above, *below)]

    first, second = (x * 3, x * 3), (x * 7, x * 7)
    assert told["shared"] == [rows((x, x), (x, x)), rows(first, second)], "the gradients of both parts"
    assert told["summed"] == [rows(first, second), rows((x, x), (x, x))]
    parts = ([1, 2], [3, 4])
    assert told["own"] == [rows(parts, parts), rows(([1, 2, 2, 4],) * 2, ([3, 6, 4, 8],) * 2)]
    assert told["gathered"] == [rows(([1, 1, 2, 2],) * 2, ([3, 3, 4, 4],) * 2), rows(parts, parts)]
    assert told["dense"] == [4, 6, 4, 6], "devices 0 and 2, and 1 and 3"
    assert told["rows"] == [[[4, 4], [0, 0]], [[0, 0], [6, 6]]] * 2
