"""A training by `runtime.strategy=tpu`, its own way in included, on two parts of the CPU that stand for a TPU's cores.

What needs the device is put in its place: finding it, starting its system, and the strategy that compiles for it.
What a compiled step must be like is asked of every recipe in tests/recipes/test_compiled.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# The CPU can be parted only before TensorFlow starts, so this is a process of its own.
SCRIPT = """
import json, sys, tempfile
from pathlib import Path
import numpy as np
from tfapp.cli import asking
from tfapp.runtime import import_tensorflow
tf = import_tensorflow()
from tfapp import run, train

asked = []

class Resolver(tf.distribute.cluster_resolver.ClusterResolver):
    "What TPUClusterResolver('local') finds on a TPU VM: a master that is this process."
    def __init__(self, tpu):
        asked.append(("found", tpu))
    def master(self, *args, **kwargs):
        return ""
    def cluster_spec(self):
        return tf.train.ClusterSpec({})
    def num_accelerators(self, *args, **kwargs):
        return {"TPU": 2}
    environment = ""

def cores(resolver):
    asked.append(("cores", type(resolver).__name__))
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.distribute.cluster_resolver.TPUClusterResolver = Resolver
tf.tpu.experimental.initialize_tpu_system = lambda resolver: asked.append(("started", type(resolver).__name__))
tf.distribute.TPUStrategy = cores

def trained(*words):
    recipe, module, plan, _ = asking.ask([sys.argv[1], *words], [], None, None)
    opened = run.begin(Path(tempfile.mkdtemp()) / "run", plan, recipe.digest)
    said = []
    train.train(plan, module, opened, said.append)
    return said, np.load(opened.folder / "predictions.npz")["outputs"]

words = ["runtime.precision=bfloat16", "fit.steps_per_execution=3", "fit.patience=2", "average=0.6"]
said, tpu = trained(*words, "runtime.strategy=tpu", "runtime.tpu=mine")
_, one = trained(*words)
print(json.dumps({"asked": asked, "said": said, "difference": float(np.abs(tpu - one).max())}))
"""


@pytest.mark.e2e
def test_a_tpu_is_found_started_and_trained_on() -> None:
    small = str(Path(__file__).parent / "fixtures" / "small.py")
    done = subprocess.run([sys.executable, "-c", SCRIPT, small], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["asked"] == [["found", "mine"], ["started", "Resolver"], ["cores", "Resolver"]]
    assert "bfloat16; global batch 16 (2 replicas × 8)" in "".join(found["said"])
    assert found["difference"] < 0.02
