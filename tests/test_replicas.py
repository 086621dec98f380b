"""Replicas and accumulation train the same weights as one whole batch, with everything on that could tell them apart."""

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
        trained = train.fit(job, opened, lambda line: None)
    return machine.replicas, trained.model.get_weights(), [
        row[name] for row in trained.history for name in ("loss", "accuracy", "val_loss")]

everything = ["average.momentum=0.6", "regularize.l2=0.01", "regularize.weight_decay=0.01", "fit.class_weight=balanced",
              "regularize.label_smoothing=0.1", "fit.clip_norm=0.5", "n=77"]
pressed = ["prune=0.6", "prune.end=0.3", "cluster=8"]
for words, spread in (
    ([], ["runtime.replicas=2"]),
    (everything, ["runtime.replicas=2"]),
    (["batch_norm=false", *everything], ["fit.accumulate=4"]),
    (["batch_norm=false", *everything], ["runtime.replicas=2", "fit.accumulate=2", "fit.steps_per_execution=3"]),
    (["average=0.6", *pressed], ["runtime.replicas=2", "fit.steps_per_execution=3"]),
    (["batch_norm=false", *pressed], ["fit.accumulate=4"]),
    (["quantize=true"], ["runtime.replicas=2"]),
):
    two, one = fitted(*spread, *words), fitted(*words)
    print(json.dumps({
        "spread": spread,
        "replicas": two[0],
        "difference": max(float(np.abs(a - b).max()) for a, b in zip(one[1], two[1])),
        "metrics": [one[2], two[2]],
        "values": [[len(np.unique(w)) for w in end[1] if w.ndim > 1] for end in (one, two)],
    }))
"""


@pytest.mark.e2e
def test_replicas_and_parts_of_a_batch_train_the_weights_of_one_replica() -> None:
    small = str(Path(__file__).parent / "fixtures" / "small.py")
    done = subprocess.run([sys.executable, "-c", SCRIPT, small], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [found["replicas"] for found in lines] == [2, 2, 1, 2, 2, 1, 2]
    for found in lines:
        assert found["difference"] < 1e-5, found
        assert found["metrics"][0] == pytest.approx(found["metrics"][1], rel=1e-5)
    assert [found["values"] for found in lines[4:6]] == [[[8, 8], [8, 8]]] * 2
