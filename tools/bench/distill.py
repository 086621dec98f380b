"""A narrow student of the `mnist` recipe, with the full-width model as its teacher and without, seed by seed.

The two differ in nothing but the teacher: the same model, data, split, epochs, learning rate and seed, so a seed is a pair
(weights, order, dropout). Settings were chosen with --choose, by the validation part alone, for the student without a
teacher as well; the test part is looked at once, at the end.
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

from tfapp import recipe as recipes
from tfapp.cli.main import main as tfapp

RECIPE = recipes.load(recipes.find("mnist"))
WIDTH = 0.25
PLAIN = ["dropout=0.4", "fit.epochs=20"]
DISTILLED = ["distill.alpha=0.5", "distill.temperature=2"]
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


def choose(place: Path, data: list[str], teacher: Path) -> None:
    """Print the validation scores of settings, two seeds each."""
    ways: list[list[str]] = [[]]
    ways += [[f"distill.alpha={alpha}", f"distill.temperature={t}"] for alpha, t in product((0.5, 0.9), (2, 4))]
    number = 0
    for width, dropout, epochs in product((0.25, 0.125), (0, 0.2), (20,)):
        for way in ways:
            found = []
            for seed in (100, 101):
                words = [*student(width), f"dropout={dropout}", f"fit.epochs={epochs}", f"runtime.seed={seed}", *way]
                words += [f"distill.teacher={teacher}"] if way else []
                found.append(on_validation(trained(place / f"choose-{number}", [*data, *words])))
                number += 1
            mean = {name: statistics.mean(one[name] for one in found) for name in found[0]}
            told = " ".join(way) or "without a teacher"
            print(f"width {width} dropout {dropout} epochs {epochs} {told}: {mean}", flush=True)


def compare(place: Path, data: list[str], teacher: Path) -> None:
    """Print the test scores of both ways, a row a seed, and their difference with its interval."""
    rows = []
    print(f"{'seed':>12}  {'without':>18}  {'distilled':>18}", flush=True)
    for seed in SEEDS:
        words = [*data, *student(WIDTH), *PLAIN, f"runtime.seed={seed}"]
        plain = trained(place / f"plain-{seed}", words)
        taught = trained(place / f"taught-{seed}", [*words, *DISTILLED, f"distill.teacher={teacher}"])
        rows.append((on_test(plain), on_test(taught)))
        cells = [f"{one['accuracy']:.4f} ({one['log_loss']:.4f})" for one in rows[-1]]
        print(f"{seed:>12}  {cells[0]:>18}  {cells[1]:>18}", flush=True)
    big, small = parameters(teacher), parameters(plain)
    print(
        f"teacher: {big:,} parameters, accuracy {on_test(teacher)['accuracy']:.4f}; student: {small:,}, 1/{big / small:.1f}"
    )
    for name in ("accuracy", "log_loss"):
        means = [statistics.mean(row[way][name] for row in rows) for way in (0, 1)]
        mean, low, high = interval([taught[name] - plain[name] for plain, taught in rows])
        print(
            f"{name}: {means[0]:.4f} → {means[1]:.4f}, difference {mean:+.4f} (95 % interval {low:+.4f} … {high:+.4f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="holds mnist10k/")
    parser.add_argument("--choose", action="store_true", help="compare settings on the validation part, and stop")
    asked = parser.parse_args()
    data = [f"config.folder={asked.folder / 'mnist10k'}"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        teacher = trained(place / "teacher", data)
        (choose if asked.choose else compare)(place, data, teacher)


main()
