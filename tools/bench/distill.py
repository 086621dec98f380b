"""A narrow student of the `mnist` recipe, with the full-width model as its teacher and without, seed by seed.

Of one seed, the students start from the same weights and see the same order, so differences are taken seed by seed. The
student without a teacher comes twice: with the distilled one's settings, and with more dropout. Settings were chosen with
--choose, by the validation part alone; the test part is looked at once, at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import math
import statistics
import tempfile
from itertools import product
from pathlib import Path
from typing import NamedTuple

from tfapp import recipe as recipes
from tfapp.cli.main import main as tfapp

RECIPE = recipes.load(recipes.find("mnist"))
ALIKE = ["dropout=0", "fit.epochs=20"]


class Setting(NamedTuple):
    """What a width is tried with: the split, the teacher's words, and the dropout that suits the student alone."""

    split: list[str]
    distilled: list[str]
    alone: list[str]


# Each as the validation part liked best. The second width came after a look at the first one's test part: it has its own.
SETTINGS = {
    0.25: Setting([], ["distill.alpha=0.5", "distill.temperature=2"], ["dropout=0.2", "fit.epochs=20"]),
    0.125: Setting(
        ["split.seed=2", "split.test=0.3"],
        ["distill.alpha=0.9", "distill.temperature=2"],
        ["dropout=0.1", "fit.epochs=20"],
    ),
}
SEEDS = range(5)
# Student's t at 97.5 % with four degrees of freedom, for five pairs.
T = 2.776


def trained(place: Path, words: list[str]) -> Path:
    """A finished run of these words, in silence."""
    import tf_keras as keras

    keras.backend.clear_session()
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        code = tfapp(["train", "mnist", *words, "--run", str(place)])
    if code:
        raise SystemExit(told.getvalue())
    return place


def student(width: float) -> list[str]:
    """The narrower model as words of a command line."""
    narrow = recipes.narrowed(RECIPE, RECIPE.Config(), width).model_dump()
    return [f"{name}={narrow[name]}" for name in ("filters", "units")]


def parameters(run: Path) -> int:
    return int(json.loads((run / "report.json").read_text())["model"]["parameters"])


def on_validation(run: Path) -> dict[str, float]:
    """Accuracy and log loss of the epoch that was kept."""
    with open(run / "metrics.csv", encoding="utf-8", newline="") as file:
        best = min(csv.DictReader(file), key=lambda row: float(row["val_loss"]))
    return {"accuracy": float(best["val_accuracy"]), "log_loss": float(best["val_loss"])}


def on_test(run: Path) -> dict[str, float]:
    """The same of the exported model on the test part."""
    scores = json.loads((run / "report.json").read_text())["evaluation"]["scores"]
    return {name: float(scores[name]["value"]) for name in ("accuracy", "log_loss")}


def interval(differences: list[float]) -> tuple[float, float, float]:
    """Mean of paired differences with its 95 % interval by Student's t."""
    mean = statistics.mean(differences)
    half = T * statistics.stdev(differences) / math.sqrt(len(differences))
    return mean, mean - half, mean + half


def choose(place: Path, data: list[str], teacher: Path, width: float) -> None:
    """Print the validation scores of settings, two seeds each."""
    ways: list[list[str]] = [[]]
    ways += [[f"distill.alpha={alpha}", f"distill.temperature={t}"] for alpha, t in product((0.5, 0.9), (2, 4))]
    for number, (dropout, way) in enumerate(product((0, 0.2), ways)):
        words = [*data, *student(width), f"dropout={dropout}", "fit.epochs=20", *way]
        words += [f"distill.teacher={teacher}"] if way else []
        found = [
            on_validation(trained(place / f"{number}-{seed}", [*words, f"runtime.seed={seed}"])) for seed in (100, 101)
        ]
        mean = {name: statistics.mean(one[name] for one in found) for name in found[0]}
        told = " ".join(way) or "without a teacher"
        print(
            f"dropout {dropout}, {told}: accuracy {mean['accuracy']:.4f}, log loss {mean['log_loss']:.4f}", flush=True
        )


def compare(place: Path, data: list[str], teacher: Path, width: float) -> None:
    """Print the test scores of the three ways, a row a seed, and the differences with their intervals."""
    ways = {
        "distilled": [*ALIKE, *SETTINGS[width].distilled, f"distill.teacher={teacher}"],
        "without": ALIKE,
        "without, another dropout": SETTINGS[width].alone,
    }
    print("".join(f"{name:>28}" for name in ("seed", *ways)), flush=True)
    rows = []
    for seed in SEEDS:
        runs = {
            name: trained(place / f"{name}-{seed}", [*data, *student(width), *words, f"runtime.seed={seed}"])
            for name, words in ways.items()
        }
        rows.append({name: on_test(run) for name, run in runs.items()})
        cells = [f"{one['accuracy']:.4f} ({one['log_loss']:.4f})" for one in rows[-1].values()]
        print("".join(f"{cell:>28}" for cell in (seed, *cells)), flush=True)
    big, small = parameters(teacher), parameters(runs["distilled"])
    worth = on_test(teacher)
    print(f"teacher: {big:,} parameters, accuracy {worth['accuracy']:.4f} (log loss {worth['log_loss']:.4f})")
    print(f"student: {small:,} parameters, 1/{big / small:.1f} of the teacher's")
    for name, score in product(list(ways)[1:], ("accuracy", "log_loss")):
        means = [statistics.mean(row[way][score] for row in rows) for way in (name, "distilled")]
        mean, low, high = interval([row["distilled"][score] - row[name][score] for row in rows])
        change = f"{means[0]:.4f} → {means[1]:.4f}, difference {mean:+.4f} (95 % interval {low:+.4f} … {high:+.4f})"
        print(f"{score}, {name} → distilled: {change}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="holds mnist10k/")
    parser.add_argument("--choose", action="store_true", help="compare settings on the validation part, and stop")
    parser.add_argument("--width", type=float, choices=SETTINGS, default=0.125, help="of the student")
    asked = parser.parse_args()
    data = [f"config.folder={asked.folder / 'mnist10k'}", *SETTINGS[asked.width].split]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        teacher = trained(place / "teacher", data)
        (choose if asked.choose else compare)(place, data, teacher, asked.width)


main()
