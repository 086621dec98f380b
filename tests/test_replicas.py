"""One replica and two train the same weights, with everything on that could tell them apart."""

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
import_tensorflow()
from tfapp import features, run, train
from tfapp import job as jobs

def fitted(*words):
    recipe, module, plan, _ = asking.ask([sys.argv[1], *words], [], None, None)
    opened = run.begin(Path(tempfile.mkdtemp()) / "run", plan, recipe.digest)
    with plan.runtime.enter() as machine:
        data = module.data(plan.config)
        with machine.strategy.scope():
            job = features.apply(plan, jobs.of(plan, module, data, machine))
        trained = train.fit(job, opened)
    return machine.replicas, trained.model.get_weights(), [row["val_loss"] for row in trained.history]

for words in (
    [],
    ["average.momentum=0.6", "regularize.l2=0.01", "regularize.weight_decay=0.01", "fit.class_weight=balanced",
     "regularize.label_smoothing=0.1", "fit.clip_norm=0.5", "n=77"],
):
    two, one = fitted("runtime.replicas=2", *words), fitted(*words)
    print(json.dumps({
        "replicas": [one[0], two[0]],
        "difference": max(float(np.abs(a - b).max()) for a, b in zip(one[1], two[1])),
        "validation": [one[2], two[2]],
    }))
"""


@pytest.mark.e2e
def test_one_replica_and_two_train_the_same_weights() -> None:
    small = str(Path(__file__).parent / "fixtures" / "small.py")
    done = subprocess.run([sys.executable, "-c", SCRIPT, small], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for line in done.stdout.splitlines():
        found = json.loads(line)
        assert found["replicas"] == [1, 2]
        assert found["difference"] < 1e-5
        assert found["validation"][0] == pytest.approx(found["validation"][1], rel=1e-5)
