"""The engine as users run it beside the `fit` that they would write: one process, in turn, the median of the pairs.

Both train the recipe's own model and optimizer, on the same inputs, with the same batch size and with validation after
each epoch. The app has everything on: checkpoints, best weights, metrics.csv, TensorBoard events, the progress line.
The hand-written one is `model.fit(x, y, validation_data=…, verbose=2)` on NumPy arrays and nothing else. What comes
before the end of the first epoch (tracing) is not counted; validation is.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tfapp.cli import asking
from tfapp.runtime import import_tensorflow

import_tensorflow()

import tf_keras as keras  # noqa: E402

from tfapp import features, run, train  # noqa: E402
from tfapp import job as jobs  # noqa: E402

STILL = [f"augment.{name}=0" for name in ("shift", "rotation", "zoom", "brightness")]


def workloads(folder: Path) -> dict[str, list[str]]:
    """What is trained, as words of a command line."""
    news = ["text_classification", f"data={folder}/ag_news/ag_news.csv", "text=2,3", "label=1"]
    signs = ["image_folder", f"folder={folder}/sign_digits", "backbone=resnet20", "size=64", *STILL]
    adult = ["tabular", f"data={folder}/adult/adult.csv", "target=income-per-year"]
    return {
        "MLP, batch 32 (tabular)": [*adult, "fit.batch_size=32", "fit.epochs=3"],
        "MLP, batch 256 (tabular)": [*adult, "fit.epochs=6"],
        "CNN, batch 64 (mnist)": ["mnist", f"folder={folder}/mnist10k", "fit.batch_size=64", "fit.epochs=3"],
        "ResNet-20, batch 64 (image_folder)": [*signs, "fit.batch_size=64", "fit.epochs=3"],
        "text, pooled, batch 64": [*news, "model=pooled", "fit.epochs=4"],
        "text, transformer, batch 64": [*news, "model=transformer", "fit.epochs=3"],
    }


class Clock(keras.callbacks.Callback):
    """Notes wall and CPU time at the end of the first epoch and of the last."""

    def on_train_begin(self, logs=None):
        self.marks = []

    def on_epoch_end(self, epoch, logs=None):
        self.marks.append((time.perf_counter(), time.process_time()))

    def spent(self):
        return [end - start for start, end in zip(self.marks[0], self.marks[-1], strict=True)]


def app(job: jobs.Job, place: Path) -> list[float]:
    """Seconds (wall, CPU) that the engine takes for all epochs but the first."""
    clock = Clock()
    opened = run.begin(place, job.plan, "")
    with contextlib.redirect_stderr(io.StringIO()):
        train.fit(replace(job, callbacks=(*job.callbacks, clock)), opened, lambda line: None)
    return clock.spent()


def by_hand(job: jobs.Job) -> list[float]:
    """The same of a hand-written fit."""
    clock = Clock()
    job.model.compile(job.optimizer, job.loss, metrics=list(job.metrics))
    known = job.validation.examples
    with contextlib.redirect_stdout(io.StringIO()):
        job.model.fit(
            job.train.examples.features,
            job.train.examples.labels,
            batch_size=job.plan.fit.batch_size,
            epochs=job.plan.fit.epochs,
            validation_data=(known.features, known.labels),
            callbacks=[clock],
            verbose=2,
        )
    return clock.spent()


def measure(words: list[str], repeats: int) -> tuple[list[list[float]], list[list[float]], int]:
    """Pairs of (wall, CPU) seconds of the app and of the hand-written fit, and the examples that each trained on."""
    _, recipe, plan, _ = asking.ask([*words, "fit.patience=none"], [], None, None)
    ours, theirs = [], []
    with plan.runtime.enter() as machine, tempfile.TemporaryDirectory() as place:
        data = recipe.data(plan.config)

        def job() -> jobs.Job:
            keras.backend.clear_session()
            return features.apply(plan, jobs.of(plan, recipe, data, machine))

        for number in range(repeats):
            ours.append(app(job(), Path(place) / str(number)))
            theirs.append(by_hand(job()))
    return ours, theirs, len(data.train) * (plan.fit.epochs - 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="only workloads whose name holds one of these")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    with open("/proc/cpuinfo") as info:
        print(next(line.partition(":")[2].strip() for line in info if line.startswith("model name")), end="; ")
    print(f"{len(os.sched_getaffinity(0))} cores, {asked.repeats} pairs in turn")
    print(f"{'workload':36} {'app, ex/s':>10} {'by hand':>10} {'wall ratio':>17} {'CPU-time ratio':>17}")
    for name, words in workloads(asked.folder).items():
        if asked.names and not any(part in name for part in asked.names):
            continue
        ours, theirs, examples = measure(words, asked.repeats)
        rates = [examples / statistics.median(wall for wall, _ in times) for times in (ours, theirs)]
        ratios = [[b[kind] / a[kind] for a, b in zip(ours, theirs, strict=True)] for kind in (0, 1)]
        texts = [f"{statistics.median(r):.2f} ({min(r):.2f}–{max(r):.2f})" for r in ratios]
        print(f"{name:36} {rates[0]:10,.0f} {rates[1]:10,.0f} {texts[0]:>17} {texts[1]:>17}", flush=True)


if __name__ == "__main__":
    main()
