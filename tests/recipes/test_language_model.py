"""The language model sees only what came before, and trains alike however its batches are spread."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tf_keras as keras

from recipes import language_model as recipe
from tfapp.callbacks.checkpoint import Checkpoint
from tfapp.cli.main import main
from tfapp.data import tokens

TINY = ["config.width=8", "config.layers=2", "config.heads=2", "config.length=16", "config.dropout=0.2"]

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
    recipe, module, plan, _ = asking.ask(["language_model", *sys.argv[1:], *words], [], None, None)
    opened = run.begin(Path(tempfile.mkdtemp()) / "run", plan, recipe.digest)
    with plan.runtime.enter() as machine:
        data = module.data(plan.config)
        with machine.strategy.scope():
            job = features.apply(plan, jobs.of(plan, module, data, machine))
        trained = train.fit(job, opened, lambda line: None)
    return machine.replicas, trained.model.get_weights(), [row["val_loss"] for row in trained.history]

spreads = [
    ["runtime.replicas=2"],  # First, as TensorFlow takes its devices when it starts.
    ["fit.accumulate=2"],
    ["config.recompute=true"],
    ["config.recompute=true", "runtime.replicas=2", "fit.accumulate=2"],
]
found = [fitted(*spread) for spread in [*spreads, []]]
for spread, two in zip(spreads, found):
    print(json.dumps({
        "spread": spread,
        "replicas": two[0],
        "difference": max(float(np.abs(a - b).max()) for a, b in zip(found[-1][1], two[1])),
        "validation": [found[-1][2], two[2]],
    }))
"""


def built(**settings):
    config = recipe.Config(width=8, layers=2, heads=2, length=16, **settings)
    data = recipe.data(config)
    return data, recipe.model(config, keras.Input((16,), dtype="int32"), data)


@pytest.mark.moderate
@pytest.mark.parametrize("recompute", [False, True])
def test_it_is_made_in_half_precision_too(recompute):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        data, model = built(recompute=recompute)
        assert model(data.train.features[:2]).shape == (2, 16, data.outputs)
    finally:
        keras.mixed_precision.set_global_policy("float32")


@pytest.mark.moderate
def test_a_later_byte_changes_no_earlier_logit():
    _, model = built()
    window = np.arange(16, dtype=np.int32)[None]
    before = model(window).numpy()
    for place in (1, 8, 15):
        changed = window.copy()
        changed[0, place] = 200
        after = model(changed).numpy()
        np.testing.assert_array_equal(after[0, :place], before[0, :place])
        assert (after[0, place:] != before[0, place:]).any(axis=-1).all()


@pytest.mark.moderate
def test_the_default_text_is_large_enough_and_hardly_repeats_itself_in_the_test_part():
    documents = tokens.standard_library()
    assert 500_000 < sum(map(len, documents.values())) < 1_500_000
    train = b"".join(text[: len(text) * 4 // 5] for text in documents.values())
    test = b"".join(text[len(text) * 9 // 10 :] for text in documents.values())
    windows = [test[start : start + 128] for start in range(0, len(test), 997)]
    assert sum(window in train for window in windows) <= 0.03 * len(windows)


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_replicas_parts_of_a_batch_and_recomputing_train_the_same_weights(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{n} green bottles, hanging on the wall\n" for n in range(60)))
    words = [f"data={text}", *TINY, "fit.epochs=1", "fit.batch_size=16", "regularize.label_smoothing=0.1"]
    words += ["average.momentum=0.6", "fit.clip_norm=0.2"]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [found["replicas"] for found in lines] == [2, 1, 1, 2]
    for found in lines:
        assert found["difference"] < 2e-4, found
        assert found["validation"][0] == pytest.approx(found["validation"][1], rel=1e-4)


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_of_words_stops_goes_on_is_measured_again_compared_and_continued(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{n} green bottles, hanging on the wall\n" for n in range(99)))
    words = [
        "language_model",
        f"data={text}",
        "config.tokens=words",
        *TINY,
        "config.recompute=true",
        "config.test_share=0",
    ]
    words += ["fit.epochs=2", "fit.steps_per_execution=1", "fit.checkpoint.every_steps=1", "runtime.deterministic=true"]
    runs = {name: tmp_path / name for name in ("whole", "cut")}
    assert main(["train", *words, "--run", str(runs["whole"])]) == 0
    # As a kill after step 2 would have left it: the checkpoint, and nothing that came later.
    with pytest.MonkeyPatch.context() as patch:
        real = Checkpoint.save

        def die(self, complete=False):
            real(self, complete)
            if self.step == 2:
                raise KeyboardInterrupt

        patch.setattr(Checkpoint, "save", die)
        assert main(["train", *words, "--run", str(runs["cut"])]) != 0
    assert main(["train", *words, "--run", str(runs["cut"])]) == 0
    kept = {name: dict(np.load(folder / "predictions.npz")) for name, folder in runs.items()}
    np.testing.assert_array_equal(kept["whole"]["losses"], kept["cut"]["losses"])

    report = json.loads((runs["whole"] / "report.json").read_text())
    trained = report["history"][report["best_epoch"] - 1]["val_loss"]
    assert report["evaluation"]["scores"]["log_loss"]["value"] == pytest.approx(trained, rel=1e-4)
    assert report["samples"]
    assert "How it goes on" in (runs["whole"] / "report.html").read_text()
    capsys.readouterr()
    assert main(["evaluate", str(runs["whole"]), "--data", str(text), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == "words"
    assert main(["predict", str(runs["whole"]), str(text), "--tokens", "7", "--temperature", "0", "--json"]) == 0
    assert 1 <= len(json.loads(capsys.readouterr().out)["continuation"].split()) <= 7
    assert main(["compare", *map(str, runs.values())]) == 0
    assert "loss a token" in capsys.readouterr().out
    assert main(["export", str(runs["whole"]), "--format", "tflite", "--output", str(tmp_path / "model.tflite")]) == 0
