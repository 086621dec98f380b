"""The private step means the same on any number of replicas, in any number of parts, and however many steps are run at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import job as jobs
from tfapp import stateless
from tfapp.private.step import Adaptive, Step

SMALL = str(Path(__file__).parents[1] / "fixtures" / "small.py")

pytestmark = pytest.mark.moderate

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
    recipe, module, plan, _ = asking.ask([sys.argv[1], "batch_norm=false", "private.insecure_key=test",
                                            "private.show_training_metrics=true", *words], [], None, None)
    opened = run.begin(Path(tempfile.mkdtemp()) / "run", plan, recipe.digest)
    with plan.runtime.enter() as machine:
        data = module.data(plan.config)
        with machine.strategy.scope():
            job = features.apply(plan, jobs.of(plan, module, data, machine, opened.folder))
        before = job.model.get_weights()
        trained = train.fit(job, opened, lambda line: None)
    moved = np.concatenate([np.ravel(a - b) for a, b in zip(trained.model.get_weights(), before)])
    return machine.replicas, moved, [[row["loss"], row["val_loss"]] for row in trained.history]

def one_and(words, *spreads):
    ends = [fitted(*spread, *words) for spread in [*spreads, []]]
    for spread, (replicas, moved, history) in zip(spreads, ends):
        print(json.dumps({
            "spread": spread, "replicas": replicas, "deviation": float(ends[-1][1].std()),
            "difference": float(np.abs(moved - ends[-1][1]).max() / np.abs(ends[-1][1]).max()),
            "history": [history, ends[-1][2]],
        }))

four, two, parts, pace = ["runtime.replicas=4"], ["runtime.replicas=2"], ["private.microbatch=3"], ["fit.steps_per_execution=3"]
quiet = ["private.noise_multiplier=1e-9", "regularize.l2=0.01"]
one_and(quiet, four, two, parts, [*two, *parts, *pace])
one_and(["private.noise_multiplier=1e-9", "private.sampling=shuffle", "n=77"], two, parts, [*two, *parts])
one_and(["private.noise_multiplier=0.8"], four, [*two, *parts, *pace])
one_and(["private.noise_multiplier=0.8", "private.clip_norm=adaptive", "average.momentum=0.6", "prune=0.5"], two, parts)
one_and(["private.noise_multiplier=0.8", "dropout=0", "flip=false"], ["fit.jit=true"])

# So much noise that nothing else is seen of a step, in three steps of a momentum of 0.9.
wide = ["private.noise_multiplier=1000", "width=600", "fit.steps=3", "learning_rate=1e-6", "fit.restore_best=false"]
found = {}
for spread in ([], two, four, [*two, *pace], [*four, *parts], ["fit.jit=true"], parts):
    moved = fitted(*wide, *spread)[1]
    found[" ".join(spread)] = float(moved.std() / (1e-6 * 1000 / 16 * np.sqrt(2.71**2 + 1.9**2 + 1)))
print(json.dumps(found))
"""


@pytest.mark.e2e
@pytest.mark.slow
def test_replicas_parts_and_pace_change_neither_the_weights_nor_the_noise() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, SMALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    *lines, noise = [json.loads(line) for line in done.stdout.splitlines()]
    assert [found["replicas"] for found in lines] == [4, 2, 1, 2, 2, 1, 2, 4, 2, 2, 1, 1]
    for found in lines:
        assert found["difference"] < 1e-4, found
        for spread, one in zip(*found["history"], strict=True):
            assert spread == pytest.approx(one, rel=1e-4), found
    # The standard deviation of the applied noise, in units of σ·C, on 1, 2 and 4 replicas.
    assert all(value == pytest.approx(1, abs=0.02) for value in noise.values()), noise


def _model(*layers):
    return keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(3)])


def _batch(rows, filling=0):
    random = np.random.default_rng(rows)
    weights = np.repeat([1.0, 0.0], [rows - filling, filling]).astype("float32")
    x, y = random.normal(size=(rows, 6)).astype("float32"), random.integers(0, 3, rows)
    return tf.constant(x), tf.constant(y), {"loss": tf.constant(weights), "metrics": tf.constant(weights)}


def _bound(step, model, rate=1.0):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss, weighted_metrics=["accuracy"])
    jobs.count_each_example_once(model)
    model.optimizer.build(model.trainable_variables)
    stateless.install(model, 0, model.optimizer.iterations)
    step.install(model)
    return model


def _moved(model, batch):
    before = model.get_weights()
    tf.function(model.train_step)(batch)
    return np.concatenate([np.ravel(a - b) for a, b in zip(before, model.get_weights(), strict=True)])


def _step(noise=0.0, clip=1.0, batch=10, steps=100, **more):
    return Step(noise, clip, batch, steps, noise_key=11, count_key=12, **more)


def test_the_sum_is_divided_by_the_planned_batch_and_not_by_the_rows_there_are():
    keras.utils.set_random_seed(0)
    model = _bound(_step(clip=1e-3), _model())
    # All are clipped, and all to the same side: the norm of one example's share is C / batch.
    one = _batch(1)
    assert np.linalg.norm(_moved(model, one)) == pytest.approx(1e-3 / 10, rel=1e-3)
    many = tf.nest.map_structure(lambda column: tf.repeat(column, 7, axis=0), one)
    assert np.linalg.norm(_moved(model, many)) == pytest.approx(7e-3 / 10, rel=1e-3)


def test_filling_changes_nothing_and_a_batch_of_filling_alone_is_noise_alone():
    keras.utils.set_random_seed(0)
    model = _bound(_step(noise=1.0), _model(keras.layers.Dropout(0.5)))
    weights = model.get_weights()
    moved = []
    for rows, filling in ((8, 0), (8, 8)):
        model.set_weights(weights)
        model.optimizer.iterations.assign(0)
        x, y, w = _batch(rows, filling)
        wide = tf.nest.map_structure(lambda column: tf.concat([column, tf.zeros_like(column)], 0), (x, y, w))
        moved.append(_moved(model, (x, y, w)))
        model.set_weights(weights)
        model.optimizer.iterations.assign(0)
        np.testing.assert_allclose(_moved(model, wide), moved[-1], atol=1e-6)
    assert np.isfinite(moved[1]).all() and 0.02 < moved[1].std() < 0.3


def test_no_step_is_taken_that_was_not_paid_for():
    model = _bound(_step(steps=2), _model())
    for _ in range(2):
        _moved(model, _batch(4))
    with pytest.raises(tf.errors.InvalidArgumentError, match="privacy budget is spent"):
        _moved(model, _batch(4))


def test_penalties_on_weights_are_neither_clipped_nor_noised():
    keras.utils.set_random_seed(0)
    plain = _bound(_step(clip=1e-3), _model())
    penalised = keras.models.clone_model(plain)
    penalised.set_weights(plain.get_weights())
    kernel = penalised.layers[-1].kernel
    penalised.add_loss(lambda: 5.0 * tf.reduce_sum(kernel**2))
    _bound(_step(clip=1e-3), penalised)
    more = _moved(penalised, _batch(8)) - _moved(plain, _batch(8))
    np.testing.assert_allclose(more[: kernel.shape.num_elements()], 10 * np.ravel(plain.layers[-1].kernel), atol=1e-2)


def test_an_adaptive_norm_finds_the_quantile_whatever_it_begins_with():
    keras.utils.set_random_seed(0)
    for start in (1e-3, 50.0):
        model = _bound(_step(clip=Adaptive(start, 0.5, 0.2, 0.5), batch=40, steps=1000), _model(), rate=0.0)
        batch = _batch(40)
        run = tf.function(model.train_step)
        for _ in range(80):
            run(batch)
        norm = float(model.optimizer.private_clip.norm)
        below = 0
        for i in range(40):
            with tf.GradientTape() as tape:
                loss = keras.losses.sparse_categorical_crossentropy(
                    batch[1][i : i + 1], model(batch[0][i : i + 1]), from_logits=True
                )
            below += float(tf.linalg.global_norm(tape.gradient(loss, model.trainable_variables))) <= norm
        assert 0.3 < below / 40 < 0.7
