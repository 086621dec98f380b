"""Reports of real small models on real small data, to render and to look at.

`python -m tests.report.samples FOLDER` writes their pages there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.preprocessing import StandardScaler

from tfapp.data.examples import Examples
from tfapp.evaluate import calibration, classification, regression
from tfapp.evaluate.compare import paired
from tfapp.private import ledger
from tfapp.report import render, render_comparison
from tfapp.report.mistakes import worst

ENVIRONMENT = {
    "tfapp": "0.1.0",
    "python": "3.11.9",
    "tensorflow": "2.21.0",
    "devices": ["CPU:0"],
    "threads": {"inter_op": 2, "intra_op": 2},
    "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
}


def split(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(n)
    return order[: int(0.6 * n)], order[int(0.6 * n) : int(0.75 * n)], order[int(0.75 * n) :]


def history(epochs: int, best: int, metric: str | None = "accuracy") -> list[dict[str, float]]:
    rng = np.random.default_rng(0)
    rows = []
    for epoch in range(1, epochs + 1):
        loss = 1.9 * np.exp(-epoch / 6) + 0.03
        val_loss = loss + 0.04 + 0.002 * max(0, epoch - best) + 0.012 * rng.random()
        row = {"epoch": epoch, "loss": loss, "val_loss": val_loss, "learning_rate": 2e-3, "seconds": 0.7}
        if metric:
            row |= {metric: 1 - 0.3 * loss, f"val_{metric}": 1 - 0.3 * val_loss - 0.01}
        rows.append({key: float(value) for key, value in row.items()} | {"epoch": epoch})
    return rows


def around(report: dict[str, Any], parts: Sequence[np.ndarray]) -> dict[str, Any]:
    """What every run has besides its evaluation."""
    train, validation, test = map(len, parts)
    defaults = {
        "schema": 1,
        "status": "finished",
        "started": "2025-08-05T09:14:02+00:00",
        "seconds": 41.3,
        "data": {"train": train, "validation": validation, "test": test, "dropped": 0, "notes": []},
        "history": history(40, 31),
        "best_epoch": 31,
        "model": {
            "parameters": 61_322,
            "trainable": 61_322,
            "layers": [
                {"name": "input_1", "type": "InputLayer", "output": "(None, 8, 8, 1)", "parameters": 0},
                {"name": "conv2d", "type": "Conv2D", "output": "(None, 8, 8, 32)", "parameters": 320},
                {"name": "conv2d_1", "type": "Conv2D", "output": "(None, 8, 8, 64)", "parameters": 18_496},
                {"name": "max_pooling2d", "type": "MaxPooling2D", "output": "(None, 4, 4, 64)", "parameters": 0},
                {"name": "dense", "type": "Dense", "output": "(None, 128)", "parameters": 41_216},
                {"name": "dense_1", "type": "Dense", "output": "(None, 10)", "parameters": 1_290},
            ],
        },
        "sizes": {
            "savedmodel": {"bytes": 321_456, "gzip_bytes": 251_020},
            "keras": {"bytes": 768_112, "gzip_bytes": 690_004},
        },
        "latency": {
            "savedmodel": {
                "1": {"p50_ms": 0.84, "p95_ms": 1.31, "mean_ms": 0.91, "examples_per_second": 1098.9, "calls": 1102},
                "32": {"p50_ms": 2.27, "p95_ms": 3.4, "mean_ms": 2.4, "examples_per_second": 13333.1, "calls": 417},
            }
        },
        "plan": {
            "recipe": report["recipe"],
            "config": {"filters": 32, "dropout": 0.3, "split": {"validation": 0.1, "test": 0.2, "seed": 0}},
            "fit": {"epochs": 60, "batch_size": 64, "patience": 12, "schedule": "cosine", "clip_norm": None},
            "runtime": {"strategy": "auto", "precision": "float32", "seed": 0, "threads": 0},
        },
        "environment": ENVIRONMENT,
    }
    return defaults | report


def classified(
    recipe: str, examples: Examples, features: Any, classes: Sequence[str], model: Any, kind: Any, **keys: Any
) -> dict[str, Any]:
    """The report of a scikit-learn classifier as a run would leave it."""
    train, validation, test = parts = split(len(examples))
    y = examples.labels
    model.fit(features[train], y[train])
    answer = {name: model.predict_proba(features[part]) for name, part in (("validation", validation), ("test", test))}
    report = {
        "recipe": recipe,
        "task": "classification",
        "classes": list(classes),
        "kind": kind,
        "evaluation": classification.measure(y[test], answer["test"], classes),
        "calibration": calibration.measure(y[test], answer["test"], y[validation], answer["validation"]),
        "mistakes": worst(examples.take(test), y[test], answer["test"], classes, kind),
    }
    return around(report | keys, parts)


def named(n: int, form: str) -> np.ndarray:
    return np.array([form.format(i) for i in range(n)], object)


@cache
def images() -> dict[str, Any]:
    """Ten classes of 8×8 pictures, with some examples dropped."""
    digits = datasets.load_digits()
    examples = Examples(digits.images[..., None].astype("float32"), digits.target, named(1797, "digits:{}"))
    report = classified(
        "digits", examples, digits.data, "0123456789", LogisticRegression(C=0.002, max_iter=300), "image",
        title="Handwritten digits", target="digit",
        about="Handwritten digits of scikit-learn: 1,797 real 8×8 images in ten classes, no download.",
    )  # fmt: skip
    dropped = [
        {"name": "0/IMG_1118.JPG", "reason": "cannot be read: image file is truncated (14 bytes not processed)"},
        {"name": "7/IMG_2204.JPG", "reason": "same content as 7/IMG_2203.JPG"},
    ]
    report["data"] = report["data"] | {"dropped": 23, "dropped_examples": dropped, "notes": ["8×8 pixels, grey, 0–16"]}
    return report


def private() -> dict[str, Any]:
    """The pictures' model as if it were trained privately."""
    held = ledger_of_a_run()
    curve = [[step, 1.134 * (step / 3_515) ** 0.5] for step in range(703, 3_516, 703)]
    return {**images(), "privacy": {**ledger.plain(held), "curve": curve}}


def ledger_of_a_run() -> ledger.Ledger:
    """As a private run has it, with the numbers of the published case."""
    return ledger.Ledger(
        sampling="poisson", examples=60_000, batch_size=256, noise_multiplier=1.1, planned_steps=3_515, steps=3_515,
        delta=1e-5, accountant="pld", gradient_noise=1.1, count_noise=None, clip_norm=1.0, clip_quantile=None,
        capacity=380, overflow=6.9e-10, planned_epsilon={"pld": 1.134, "rdp": 1.282}, epsilon={"pld": 1.134, "rdp": 1.282},
        at=((1e-6, 1.31), (1e-7, 1.47), (1e-8, 1.63)), readings=(("RDP, Poisson, add or remove one", 1.281),),
        key={"source": "operating system"}, data_sha256="a", id="b",
    )  # fmt: skip


def other_images() -> dict[str, Any]:
    """Another run on the same pictures."""
    digits = datasets.load_digits()
    examples = Examples(digits.images[..., None].astype("float32"), digits.target)
    report = classified(
        "digits", examples, digits.data, "0123456789", LogisticRegression(C=1e-5, max_iter=300), "image",
        run="digits-2", history=history(28, 22),
    )  # fmt: skip
    report["plan"] = report["plan"] | {"config": report["plan"]["config"] | {"dropout": 0.5}}
    return report


@cache
def table() -> dict[str, Any]:
    """Two classes of rows with thirty columns."""
    cancer = datasets.load_breast_cancer()
    columns = dict(zip(cancer.feature_names, cancer.data.T.astype("float32"), strict=True))
    examples = Examples(columns, cancer.target, named(569, "cancer.csv:{}"))
    features = StandardScaler().fit_transform(cancer.data)
    return classified(
        "tabular", examples, features, list(cancer.target_names), LogisticRegression(C=0.01), "table",
        target="diagnosis", about="Rows of a CSV or Parquet file; by default scikit-learn's breast cancer data.",
    )  # fmt: skip


@cache
def text() -> dict[str, Any]:
    """Four classes of headlines put together from words that the classes partly share."""
    rng = np.random.default_rng(0)
    topics = {
        "world": "minister talks border summit election ceasefire envoy parliament treaty protest".split(),
        "sports": "coach season final goal striker injury league medal record transfer".split(),
        "business": "shares profit oil bank merger quarter market inflation retailer forecast".split(),
        "science and technology": "software satellite browser chip network virus telescope server robot code".split(),
    }
    shared = "new after over says first in as two plan for record market talks network final bank election".split()
    labels = rng.integers(4, size=1200)
    words = list(topics.values())
    lines = [
        " ".join(rng.choice(words[label] if rng.random() < 0.22 else shared) for _ in range(rng.integers(7, 60)))
        for label in labels
    ]
    examples = Examples(np.array(lines, object), labels, named(1200, "news.tsv:{}"))
    model = SGDClassifier(loss="log_loss", alpha=1e-4, random_state=0)
    return classified(
        "text_classification", examples, TfidfVectorizer().fit_transform(lines), list(topics), model, "text",
        target="topic", title="News topics", about="Text and label columns of a CSV, TSV or JSONL file.",
    )  # fmt: skip


@cache
def values() -> dict[str, Any]:
    """Regression on ten columns."""
    diabetes = datasets.load_diabetes(scaled=False)
    train, _, test = parts = split(442)
    columns = dict(zip(diabetes.feature_names, diabetes.data.T.astype("float32"), strict=True))
    examples = Examples(columns, diabetes.target.astype("float32"), named(442, "diabetes.csv:{}"))
    model = Ridge().fit(diabetes.data[train], diabetes.target[train])
    predicted = model.predict(diabetes.data[test])
    report = {
        "recipe": "tabular",
        "task": "regression",
        "kind": "table",
        "target": "disease_progression",
        "title": "Diabetes progression",
        "evaluation": regression.measure(diabetes.target[test], predicted),
        "mistakes": worst(examples.take(test), diabetes.target[test], predicted, (), "table", most=9),
        "history": history(40, 31, metric="mae"),
    }
    return around(report, parts)


@cache
def many_classes() -> dict[str, Any]:
    """A hundred classes with long names, and a section that the report has not heard of."""
    rng = np.random.default_rng(0)
    labels = rng.integers(100, size=4000)
    logits = rng.normal(size=(4000, 100))
    logits[np.arange(4000), labels] += 4
    logits[np.arange(4000), labels // 5 * 5] += 1.5
    odds = np.exp(logits)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    places = "amber birch cedar dune elder fern gorse hazel iris juniper".split()
    animals = "moth beetle sparrow lizard otter warbler dragonfly salamander vole kestrel".split()
    classes = [f"{place} {animal}" for place in places for animal in animals]
    report = {
        "recipe": "image_folder",
        "task": "classification",
        "target": "species",
        "classes": classes,
        "evaluation": classification.measure(labels, probabilities, classes),
        "calibration": calibration.measure(labels, probabilities, labels[:0], probabilities[:0]),
        "attack": {
            "epsilon": 0.1,
            "norm": "linf",
            "accuracy_under_attack": {"value": 0.061, "low": 0.05, "high": 0.073},
            "attacks": [{"name": "FGSM", "accuracy": 0.16, "seconds": 0.4}, {"name": "PGD-20", "accuracy": 0.06}],
            "model": {"defended": False, "notes": ["no defence", "white box"]},
        },
    }
    return around(report, np.split(labels, [2000, 3000]))


SAMPLES = {
    "images": images,
    "private": private,
    "table": table,
    "text": text,
    "values": values,
    "many_classes": many_classes,
}


def comparison() -> str:
    """The page of two runs on the same pictures."""
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=450)
    one, other = (np.where(rng.random(450) < right, labels, (labels + 1) % 10) for right in (0.97, 0.92))
    difference = paired(labels, np.eye(10)[one], np.eye(10)[other])
    return render_comparison([private(), other_images()], [difference])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in SAMPLES.items():
        (folder / f"{name}.html").write_text(render(make()))
    (folder / "comparison.html").write_text(comparison())
