"""Every recipe's step is one that a TPU could run: all shapes fixed, no strings, and XLA takes it.

XLA's own front end is asked here, for the CPU: it refuses the same operations for lack of a kernel or of a fixed shape.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfapp import features, fused, stateless, train
from tfapp import job as jobs
from tfapp.cli import asking
from tfapp.plan import Plan

from .test_image_recipes import idx_folder, photographs

pytestmark = [pytest.mark.moderate, pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def not_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is traced otherwise for a CPU is traced as for a TPU."""
    for module in (fused, stateless):
        monkeypatch.setattr(module, "on_cpus", lambda: False)


def taken(*words: str) -> str:
    """The step of a recipe as XLA takes it (HLO), once the pipeline's shapes have been found fixed."""
    _, module, plan, _ = asking.ask(list(words), [], None, None)
    assert isinstance(plan, Plan)
    with plan.runtime.enter() as machine:
        job = features.apply(plan, jobs.of(plan, module, features.data(plan, module), machine))
        train.compiled(job)
        batches = job.train.dataset()
        for column in tf.nest.flatten(batches.element_spec):
            assert column.shape.is_fully_defined() and column.dtype != tf.string, column
        step = tf.function(job.model.train_step, jit_compile=True)
        return step.experimental_get_compiler_ir(next(iter(batches)))(stage="hlo")


@pytest.mark.parametrize(
    "words",
    [
        "",
        "runtime.precision=bfloat16",
        "average=0.9 regularize.l2=0.01 fit.clip_norm=1 fit.class_weight=balanced",
        "prune=0.5 cluster=8",
        "quantize=true",
        "private.noise_multiplier=1 private.replace_batchnorm=true",
    ],
)
def test_digits_with_each_feature(words: str) -> None:
    assert "ENTRY" in taken("digits", *words.split())


@pytest.mark.parametrize("recipe", ["mnist", "fashion_mnist"])
def test_images_in_idx_files(tmp_path, recipe: str) -> None:
    assert "convolution" in taken(recipe, f"folder={idx_folder(tmp_path, (28, 28))}", "fit.batch_size=4")


@pytest.mark.parametrize("model", ["resnet20", "cnn"])
def test_small_photographs(tmp_path, model: str) -> None:
    folder = idx_folder(tmp_path, (32, 32, 3))
    assert "convolution" in taken("cifar10", f"folder={folder}", f"model={model}", "fit.batch_size=4")


@pytest.mark.parametrize("backbone", ["small_cnn", pytest.param("EfficientNetB0", marks=pytest.mark.slow)])
def test_photographs(tmp_path, backbone: str) -> None:
    words = [f"backbone={backbone}", "size=32", "fit.batch_size=4"]
    assert "convolution" in taken("image_folder", f"folder={photographs(tmp_path)}", *words)


@pytest.mark.parametrize("model", ["pooled", "cnn", "transformer"])
def test_texts(news: str, model: str) -> None:
    assert "ENTRY" in taken("text_classification", f"data={news}", f"model={model}", "fit.batch_size=8")


def test_an_encoder_that_shares_its_layers(news: str) -> None:
    assert "ENTRY" in taken("shared_encoder", f"data={news}", "fit.batch_size=8")


def test_columns(tmp_path) -> None:
    rows = [f"{number},{'ab'[number % 2]},{number % 3}" for number in range(60)]
    (tmp_path / "table.csv").write_text("\n".join(["amount,kind,label", *rows]) + "\n")
    words = [f"data={tmp_path / 'table.csv'}", "target=label", "fit.batch_size=8"]
    assert "ENTRY" in taken("tabular", *words)


def test_a_language_model(tmp_path) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on the mat and looked at the other cat. " * 200)
    words = [f"data={tmp_path / 'text.txt'}", "length=16", "fit.batch_size=4"]
    assert "ENTRY" in taken("language_model", *words)


def test_what_a_tpu_cannot_run_is_found() -> None:
    @tf.function(jit_compile=True)
    def step(x):
        return tf.numpy_function(np.sort, [x], tf.float32)

    with pytest.raises(ValueError, match="PyFunc"):
        step.experimental_get_compiler_ir(tf.ones(3))(stage="hlo")
