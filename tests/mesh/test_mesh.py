"""A mesh of any shape trains the weights of one device; its checkpoints are one device's, and restored to the bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# The CPU can be parted only before TensorFlow starts, so this is a process of its own.
SCRIPT = """
import json, shutil, sys, tempfile
from pathlib import Path
import numpy as np
from tfapp.cli import asking
from tfapp.runtime import import_tensorflow
tf = import_tensorflow()
from tfapp import features, run, train
from tfapp import job as jobs
from tfapp.callbacks import checkpoint
from tfapp.mesh import weights

recipe, common, meshes = json.loads(sys.argv[1])
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4)

def fitted(*words, folder=None):
    _, module, plan, _ = asking.ask([recipe, *common, *words], [], None, None)
    opened = run.begin(Path(tempfile.mkdtemp()) / "run", plan, "")
    if folder:
        shutil.copytree(folder / "checkpoints", opened.folder / "checkpoints")
    with plan.runtime.enter() as machine:
        with machine.strategy.scope():
            job = features.apply(plan, jobs.of(plan, module, features.data(plan, module), machine))
        trained = train.fit(job, opened, say=lambda line: None)
    return opened.folder, job, trained

def saved(folder):
    path = folder / "checkpoints"
    reader = tf.train.load_checkpoint(str(path / f"ckpt-{checkpoint.numbers(path)[0]}"))
    return {name: shape for name, shape in reader.get_variable_to_shape_map().items()}

def apart(one, two):
    return max(float(np.abs(a - b).max()) for a, b in zip(one.get_weights(), two.get_weights()))

def losses(trained):
    return [[row["loss"], row["accuracy"], row["val_loss"]] for row in trained.history]

def in_step(variable):
    held = [part.numpy() for part in weights.components(variable)]
    return all(np.array_equal(held[number - (2 if weights.axis(variable) is not None else 1)], value)
               for number, value in enumerate(held) if number > (weights.axis(variable) is not None))

folder, _, alone = fitted()
for words in meshes:
    there, job, mesh = fitted(*words)
    parted = [weight for weight in job.model.weights if weights.axis(weight) is not None]
    again = fitted(*words, folder=there)[2].model if words is meshes[-1] else None
    print(json.dumps({
        "difference": apart(alone.model, mesh.model),
        "losses": [losses(alone), losses(mesh)],
        "parted": {weight.name: [[list(part.shape), part.device[-5:]] for part in weights.components(weight)]
                   for weight in parted},
        "in step": all(in_step(variable) for variable in [*job.model.weights, *job.optimizer.variables]),
        "same checkpoint": saved(folder) == saved(there),
        "plain": [type(layer).__name__ for layer in mesh.model._flatten_layers() if "mesh" in type(layer).__module__],
        "notes": job.notes,
        "restored": again and apart(again, mesh.model),
        "restored on one device": again and apart(fitted(folder=there)[2].model, mesh.model),
    }))
"""
MIXED = str(Path(__file__).parent.parent / "fixtures" / "mixed.py")
# Adagrad keeps something of each weight, and does not blow up the rounding of a gradient that should be zero, as Adam does.
EVERYTHING = ["optimizer=Adagrad", "fit.clip_norm=0.3", "average.momentum=0.6", "regularize.label_smoothing=0.1"]


def trained(recipe: str, common: list[str], *meshes: str) -> list[dict[str, Any]]:
    asked = json.dumps([recipe, common, [mesh.split() for mesh in meshes]])
    done = subprocess.run([sys.executable, "-c", SCRIPT, asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def check(found: dict[str, Any], difference: float = 1e-5) -> None:
    assert found["difference"] < difference
    alone, mesh = found["losses"]
    for one, other in zip(alone, mesh, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    assert found["same checkpoint"] and found["plain"] == []


@pytest.mark.e2e
def test_two_by_two_devices_train_the_weights_of_one_and_are_restored_to_the_bit() -> None:
    (found,) = trained(MIXED, [*EVERYTHING, "lstm=false"], "runtime.mesh.data=2 runtime.mesh.model=2")
    check(found)
    assert found["in step"] and found["restored"] == found["restored on one device"] == 0
    # 8 × 12 by columns, 12 × 8 by rows, 2 heads of 4, vectors of 8: each on four devices.
    shapes = {name: [shape for shape, _ in parts] for name, parts in found["parted"].items()}
    assert shapes["expand/kernel:0"] == [[8, 6]] * 4 and shapes["contract/kernel:0"] == [[6, 8]] * 4
    assert shapes["attention/query/kernel:0"] == [[8, 1, 4]] * 4
    assert shapes["tokens/embeddings:0"] == [[16, 4]] * 4
    assert shapes["odd/kernel:0"] == [[3, 3]] * 4, "rows of an input that was not kept in parts"
    devices = {tuple(device for _, device in parts) for parts in found["parted"].values()}
    assert devices == {("CPU:0", "CPU:1", "CPU:2", "CPU:3")}
    assert not any(name.startswith(("gates", "held", "contract/bias")) for name in shapes)
    assert "mesh of 2 × 2 devices: 1 Embedding by columns, 1 MultiHeadAttention by heads" in found["notes"][0]


@pytest.mark.slow
def test_a_row_and_a_column_of_devices_train_the_weights_of_one() -> None:
    column, row = trained(MIXED, EVERYTHING, "runtime.mesh.data=2", "runtime.mesh.model=2")
    check(column)
    check(row)
    assert column["parted"] == {} and "expand/kernel:0" in row["parted"]


@pytest.mark.slow
def test_a_language_model_has_the_losses_of_one_device(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(" ".join(str(number * number % 977) for number in range(1500)))
    common = [f"data={text}", "length=16", "width=16", "layers=2", "dropout=0.1", "fit.batch_size=16", "fit.epochs=1"]
    meshes = ["runtime.mesh.data=2", "runtime.mesh.model=2", "runtime.mesh.data=2 runtime.mesh.model=2"]
    for found in trained("language_model", common, *meshes):
        # The bias of a key moves nothing, so that its gradient is rounding alone, which Adam makes steps of.
        check(found, 1e-3)


@pytest.mark.slow
def test_a_run_on_a_mesh_that_is_killed_goes_on_to_the_bit(tmp_path: Path) -> None:
    words = [MIXED, "lstm=false", "runtime.mesh.data=2", "runtime.mesh.model=2", "average=0.9", "fit.patience=3"]
    done = subprocess.run(
        [sys.executable, "-m", "tfapp", "verify-resume", *words, "--kills", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("the same to the bit")
