"""A teacher's answers reach the loss as they should, in every way of training, and leave no trace in what is trained."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.teachers import teacher_of
from tfapp import environment, export, features, train
from tfapp import job as jobs
from tfapp import run as runs
from tfapp.cli import asking
from tfapp.cli.main import main
from tfapp.data import arrays
from tfapp.errors import Missing, Refused, Usage
from tfapp.features.distill import Distill
from tfapp.job import Job
from tfapp.runtime import Machine

pytestmark = pytest.mark.moderate

SMALL = str(Path(__file__).parents[1] / "fixtures" / "small.py")
ONE = Machine(tf.distribute.get_strategy(), 1)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A finished run of the small recipe with a wider convolution; not trained, and not to be changed."""
    return teacher_of(tmp_path_factory.mktemp("teacher") / "run", SMALL, "width=6", "batch_norm=false")


def made(*words: str, **parts: Any) -> Job:
    """The small recipe's job with all its features, and with some of its parts replaced."""
    _, module, plan, _ = asking.ask([SMALL, "batch_norm=false", "dropout=0", *words], [], None, None)
    recipe = ModuleType("changed")
    vars(recipe).update({**vars(module), **parts})
    return features.apply(plan, jobs.of(plan, recipe, recipe.data(plan.config), ONE))


def softened(logits: Any, temperature: float) -> np.ndarray:
    return tf.nn.log_softmax(np.asarray(logits, np.float64) / temperature).numpy()


def kl(theirs: Any, ours: Any, temperature: float) -> np.ndarray:
    """KL(teacher ‖ student) of each row, by the book."""
    p, q = softened(theirs, temperature), softened(ours, temperature)
    return (np.exp(p) * (p - q)).sum(axis=-1)


@pytest.mark.parametrize(
    "words",
    [
        ["flip=false"],
        pytest.param(["flip=false", "distill.cache=false"], marks=pytest.mark.slow),
        pytest.param([], marks=pytest.mark.slow),
    ],
)
def test_the_loss_is_a_mixture_of_its_own_and_the_teachers_each_example_weighed_alike(teacher, words) -> None:
    asked = ["distill.alpha=0.3", "distill.temperature=3", "fit.class_weight=balanced", "regularize.l2=0.01", "n=80"]
    job = made(f"distill={teacher}", *asked, *words)
    train.compiled(job)
    ask = export.load(teacher)
    for batch in job.train.dataset().take(len(job.train)):
        x, y, weights = batch
        logits = job.model(x, training=False)
        found = float(job.model.compute_loss(x, y, logits, weights))
        raw = weights["raw"] if "raw" in weights else x * 2  # The recipe's preprocessing halves.
        theirs = np.log(ask(raw))
        own = -softened(logits, 1)[np.arange(len(y)), y.numpy()]
        rows = 0.7 * own + 0.3 * 9 * kl(theirs, logits, 3)
        penalty = float(tf.add_n(job.model.losses))
        assert found == pytest.approx(np.mean(rows * weights["loss"].numpy()) + penalty, rel=1e-5)
    assert float(job.model.compiled_loss.metrics[0].result()) > penalty, "what is shown is the plain loss"


@pytest.mark.slow
def test_label_smoothing_softens_the_labels_alone(teacher) -> None:
    job = made(f"distill={teacher}", "distill.alpha=0.5", "regularize.label_smoothing=0.1", "flip=false")
    train.compiled(job)
    x, y, weights = next(iter(job.train.dataset()))
    logits = job.model(x, training=False)
    targets = 0.9 * np.eye(3)[y.numpy()] + 0.1 / 3
    own = -(targets * softened(logits, 1)).sum(axis=-1)
    theirs = np.log(export.load(teacher)(x * 2))
    expected = np.mean((0.5 * own + 0.5 * 4 * kl(theirs, logits, 2)) * weights["loss"].numpy())
    assert float(job.model.compute_loss(x, y, logits, weights)) == pytest.approx(expected, rel=1e-5)


def test_validation_knows_no_teacher(teacher) -> None:
    job = made(f"distill={teacher}")
    train.compiled(job)
    x, y, weights = next(iter(job.validation.dataset()))
    logits = job.model(x, training=False)
    assert set(weights) == {"loss", "metrics"}
    plain = float(job.loss(y, logits, sample_weight=weights["loss"]))
    assert float(job.model.compute_loss(x, y, logits, weights)) == pytest.approx(plain, rel=1e-6)


def test_hints_add_the_distance_of_the_layers_and_leave_nothing_behind(teacher) -> None:
    words = ["flip=false", "distill.hints.conv2d=conv2d", "distill.hints.dense=dense", "distill.hint_weight=0.7"]
    job = made(f"distill={teacher}", *words)
    before = [weight.ref() for weight in job.model.weights]
    train.compiled(job)
    projection = job.model.hint_projections["conv2d"]
    assert set(job.model.hint_projections) == {"conv2d"}, "the logits are as wide as the teacher's"
    assert projection.kernel.shape == (4, 6) and any(v is projection.kernel for v in job.model.trainable_variables)

    x, y, weights = next(iter(job.train.dataset()))

    @tf.function
    def losses():
        with tf.GradientTape() as tape:
            loss = job.model.compute_loss(x, y, job.model(x, training=True), weights)
        return loss, tape.gradient(loss, projection.kernel)

    found, gradient = losses()
    student = keras.Model(job.model.input, [job.model.get_layer(name).output for name in ("conv2d", "dense")])
    whole = export.load_keras(teacher / "model.keras")
    inner = [layer for layer in whole.layers if isinstance(layer, keras.Model)][-1]
    big = keras.Model(inner.input, [inner.get_layer(name).output for name in ("conv2d", "dense")])
    (ours, logits), (theirs, answers) = student(x), big(x)
    rows = 0.5 * -softened(logits, 1)[np.arange(len(y)), y.numpy()] + 0.5 * 4 * kl(answers, logits, 2)
    for one, other in ((projection(ours), theirs), (logits, answers)):
        rows += 0.7 * np.square(np.asarray(one) - np.asarray(other)).reshape(len(y), -1).mean(axis=1)
    assert float(found) == pytest.approx(np.mean(rows * weights["loss"].numpy()), rel=1e-5)
    assert float(tf.norm(gradient)) > 0

    model = job.model
    for unwrap in reversed([jobs.forget_training, *job.unwrap]):
        model = unwrap(model)
    assert [weight.ref() for weight in model.weights] == before[: len(model.weights)] and len(model.weights) == 4
    assert not any("call" in vars(layer) for layer in model.layers)


@pytest.mark.slow
def test_the_teacher_is_asked_beforehand_where_its_answers_never_change_and_fit(teacher, monkeypatch) -> None:
    kept = made(f"distill={teacher}", "flip=false")
    assert kept.train.beside is not None and not kept.train.raw and "its answers are kept" in kept.data.notes[-1]
    online = made(f"distill={teacher}")
    assert online.train.beside is None and online.train.raw and "it answers each batch" in online.data.notes[-1]
    assert made(f"distill={teacher}", "flip=false", "distill.cache=false").train.raw
    monkeypatch.setattr(environment, "free_memory", lambda: 1000)
    assert made(f"distill={teacher}", "flip=false").train.raw
    assert not made(f"distill={teacher}", "flip=false", "distill.cache=true").train.raw
    with pytest.raises(Refused, match="distill.cache=true with augmentation(.|\n)*leave distill.cache out"):
        made(f"distill={teacher}", "distill.cache=true")


def test_a_teacher_with_other_preprocessing_sees_the_raw_examples(teacher) -> None:
    def preprocess(config, data):
        return keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Rescaling(100.0)])

    plain, other = (
        made(f"distill={teacher}", "flip=false"),
        made(f"distill={teacher}", "flip=false", preprocess=preprocess),
    )
    for name, answers in plain.train.beside.items():
        np.testing.assert_array_equal(answers["outputs"], other.train.beside[name]["outputs"])


@pytest.mark.slow
def test_several_teachers_teach_by_the_mean_of_their_probabilities(teacher, tmp_path) -> None:
    other = teacher_of(tmp_path / "other", SMALL, "width=5", "batch_norm=false", "runtime.seed=3")
    job = made(f"distill={teacher},{other}", "flip=false")
    features_ = job.data.train.features
    mean = (export.load(teacher)(features_) + export.load(other)(features_)) / 2
    np.testing.assert_allclose(np.exp(job.train.beside["teacher"]["outputs"]), mean, rtol=1e-5)
    with pytest.raises(Refused, match="with 2 teachers: whose layers"):
        made(f"distill={teacher},{other}", "distill.hints.dense=dense")


@pytest.mark.slow
def test_a_student_of_values_learns_the_teachers_values(tmp_path) -> None:
    def data(config):
        random = np.random.default_rng(0)
        x = random.normal(size=(80, 6, 6, 1)).astype("float32")
        return arrays.split(x, x.sum(axis=(1, 2, 3)), config.split, task="regression", target="sum")

    def training(config, data):
        return replace(module.training(config, data), loss=keras.losses.MeanAbsoluteError(), metrics=())

    module = asking.ask([SMALL], [], None, None)[1]
    run = teacher_of(tmp_path / "run", SMALL, "batch_norm=false", data=data, training=training)
    job = made(f"distill={run}", "distill.alpha=0.25", "flip=false", data=data, training=training)
    train.compiled(job)
    x, y, weights = next(iter(job.train.dataset()))
    values = job.model(x, training=False)
    theirs = export.load(run)(x * 2)
    rows = 0.75 * np.abs(values - y[:, None].numpy())[:, 0] + 0.25 * np.square(values - theirs)[:, 0]
    expected = np.mean(rows * weights["loss"].numpy())
    assert float(job.model.compute_loss(x, y, values, weights)) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(Refused, match="distill.temperature=4.0 softens probabilities"):
        made(f"distill={run}", "distill.temperature=4", data=data, training=training)


def test_each_position_of_a_text_weighs_the_same() -> None:
    random = np.random.default_rng(0)
    theirs, ours = random.normal(size=(2, 3, 5, 7)).astype("float32")
    found = Distill(temperature=1.5)._difference("language", theirs, ours)
    np.testing.assert_allclose(found, 2.25 * kl(theirs, ours, 1.5).mean(axis=1), rtol=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["distill.hints.conv2d=conv2"], "no layer 'conv2' in tfapp_model\ndid you mean 'conv2d'"),
        (["distill.hints.convolution=conv2d"], "no layer 'convolution' in model(.|\n)*conv2d"),
        (["distill.hints.conv2d=dense"], "'conv2d' gives .4, 4, 4. an example and the teacher's 'dense' .3,."),
    ],
)
def test_a_hint_that_cannot_be_followed_is_refused(teacher, words, said) -> None:
    with pytest.raises(Refused, match=said):
        made(f"distill={teacher}", *words)


def test_a_teacher_that_answers_texts_in_the_step_is_refused_with_xla(teacher) -> None:
    job = made("fit.jit=true")
    raw = {"text": tf.TensorSpec([None, 1], tf.string)}
    job = replace(job, preprocess=replace(job.preprocess, raw=raw))
    with pytest.raises(Refused, match="XLA has no strings\n(.|\n)*distill.cache=true"):
        Distill(teacher=[str(teacher)])._cached(job, {})


def test_a_run_goes_on_with_the_teacher_that_it_began_with_alone(teacher, tmp_path) -> None:
    own = tmp_path / "teacher"
    shutil.copytree(teacher, own)
    recipe, _, plan, _ = asking.ask([SMALL, f"distill={own}"], [], None, None)
    folder = tmp_path / "run"
    run = runs.begin(folder, plan, recipe.digest)
    assert list(run.read("run.json")["rests_on"]) == [f"the teacher {own}"]
    runs.begin(folder, plan, recipe.digest)
    with open(own / "model.keras", "ab") as file:
        file.write(b"x")
    with pytest.raises(Usage, match="the teacher .* has changed since this run began\n(.|\n)*--fresh"):
        runs.begin(folder, plan, recipe.digest)
    shutil.rmtree(own)
    with pytest.raises(Missing, match="no run"):
        runs.begin(folder, plan, recipe.digest)
    for name in run.lacking:
        run.file(name).touch()
    run.note(status="finished")
    assert runs.begin(folder, plan, recipe.digest) == run, "what is finished needs its teacher no more"


# The CPU can be parted only before TensorFlow starts, so this is a process of its own.
SCRIPT = """
import json, sys, tempfile
from pathlib import Path
import numpy as np
from tfapp.cli import asking
from tfapp.runtime import import_tensorflow
import_tensorflow()
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import tf_keras as keras
from tfapp import features, run, train
from tfapp import job as jobs

def fitted(*words):
    keras.backend.clear_session()
    recipe, module, plan, _ = asking.ask([sys.argv[1], *words], [], None, None)
    opened = run.begin(Path(tempfile.mkdtemp()) / "run", plan, recipe.digest)
    with plan.runtime.enter() as machine:
        data = module.data(plan.config)
        with machine.strategy.scope():
            job = features.apply(plan, jobs.of(plan, module, data, machine))
        trained = train.fit(job, opened, lambda line: None)
    return machine.replicas, trained.model.get_weights(), [row["loss"] for row in trained.history]

everything = ["n=77", "batch_norm=false", "average.momentum=0.6", "regularize.l2=0.01", "regularize.label_smoothing=0.1",
              "fit.class_weight=balanced", "fit.clip_norm=0.5", f"distill.teacher={sys.argv[2]}"]
hints = ["distill.hints.conv2d=conv2d", "distill.hints.dense=dense"]
for words, spread in (
    (["flip=false"], ["runtime.replicas=2"]),
    (["flip=false", *hints], ["fit.accumulate=4"]),
    (hints, ["runtime.replicas=2", "fit.accumulate=2", "fit.steps_per_execution=3"]),
    (["flip=false", *hints], ["distill.cache=false"]),
    ([*hints, "dropout=0"], ["fit.jit=true"]),
):
    two, one = fitted(*everything, *words, *spread), fitted(*everything, *words)
    print(json.dumps({
        "spread": spread,
        "replicas": two[0],
        "difference": max(float(np.abs(a - b).max()) for a, b in zip(one[1], two[1], strict=True)),
        "loss": [one[2], two[2]],
    }))
full, half = fitted(*everything, *hints), fitted(*everything, *hints, "runtime.precision=bfloat16")
print(json.dumps({"full": full[2], "half": half[2], "dtypes": [str(w.dtype) for w in half[1]]}))
"""


@pytest.mark.e2e
@pytest.mark.slow
def test_replicas_parts_and_where_the_teacher_answers_change_nothing(teacher) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, SMALL, str(teacher)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    *lines, half = [json.loads(line) for line in done.stdout.splitlines()]
    assert [found["replicas"] for found in lines] == [2, 1, 2, 1, 1]
    for found in lines:
        assert found["difference"] < 1e-5, found
        assert found["loss"][0] == pytest.approx(found["loss"][1], rel=1e-5)
    assert half["half"] == pytest.approx(half["full"], rel=0.02) and set(half["dtypes"]) == {"float32"}


@pytest.mark.e2e
@pytest.mark.slow
def test_two_workers_train_as_one_and_go_on_to_the_bit(teacher, tmp_path, capfd) -> None:
    words = [SMALL, "fit.epochs=8", f"distill={teacher}", "distill.hints.conv2d=conv2d", "batch_norm=false"]
    assert main(["verify-resume", *words, "--workers", "2", "--kills", "1", "--keep", str(tmp_path / "kept")]) == 0
    assert "the same to the bit" in capfd.readouterr().out
    # A process of its own, in which the student's layers have the names that the hint gives.
    alone = [sys.executable, "-m", "tfapp", "train", *words, "--run", str(tmp_path / "one")]
    assert subprocess.run(alone, capture_output=True, check=False).returncode == 0
    with np.load(tmp_path / "one" / "predictions.npz") as one:
        with np.load(tmp_path / "kept" / "killed" / "predictions.npz") as two:
            np.testing.assert_allclose(one["outputs"], two["outputs"], atol=1e-5)


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("cache", ["true", "false"])
def test_tables_and_texts_and_running_text_are_taught_both_ways(tmp_path, cache) -> None:
    random = np.random.default_rng(0)
    rows = [f"{a:.2f},{b},{'yes' if a > 0 else 'no'}" for a, b in zip(random.normal(size=90), "xyz" * 30, strict=True)]
    (tmp_path / "table.csv").write_text("\n".join(["a,class,y", *rows]))
    texts = [f"{'good' if i % 2 else 'bad'} {i % 7},{'pos' if i % 2 else 'neg'}" for i in range(90)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *texts]))
    (tmp_path / "story.txt").write_text("Once upon a time there was a small model. " * 60)
    for words, less in (
        (["tabular", f"data={tmp_path}/table.csv", "target=y"], ["hidden=8"]),
        (["text_classification", f"data={tmp_path}/texts.csv", "vocabulary=100"], ["embedding=8"]),
        (["language_model", f"data={tmp_path}/story.txt", "length=16", "width=16", "layers=1"], ["width=8"]),
    ):
        big, small = tmp_path / f"{words[0]}-big", tmp_path / f"{words[0]}-small"
        assert main(["train", *words, "fit.epochs=2", "--run", str(big)]) == 0
        taught = [*words, *less, "fit.epochs=2", f"distill={big}", f"distill.cache={cache}"]
        assert main(["train", *taught, "--run", str(small)]) == 0
        assert json.loads((small / "report.json").read_text())["evaluation"]
