"""Runs the rivals in turn and writes the table. What trains is the recipe's own data, preprocessed, and its own model.

The app is given a long training and stopped with the others. Examples a second are those after the first epoch, with
validation; wall clock, and beside the ratios by processor time, which another program on the same core disturbs less. The first
step is counted from the start of the process. Peak memory is the process's largest resident size until the end of the training.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Each table is written by the tool that stands before it, with the machine that it ran on. What is compared trains the same model with the
same batch and optimizer on the same preprocessed examples, with validation after each epoch. The app is as `tfapp train` runs it: with
checkpoints, best weights, metrics.csv, TensorBoard events and its progress line.

`tools/bench/speed FOLDER --write`: the app beside what one would write by hand, one core each. Ratios above 1 are the app's gain.

<!-- tools/bench/speed -->
<!-- end -->

`tools/bench/sizes --write`: what an example costs, against how many there are, the batch, and one worker or two.

<!-- tools/bench/sizes -->
<!-- end -->
"""
STILL = [f"augment.{name}=0" for name in ("shift", "rotation", "zoom", "brightness")]

# Epochs of the training in which the app is measured, and of which it trains as many as the others.
PLANNED = 100
# What examples/s are to be at least, beside the naive fit and beside the fastest way with PyTorch.
BARS = {"mlp": (5, 2), "cnn": (1.1, 2), "resnet": (1.05, 1), "pooled": (2, 0.9), "transformer": (1.3, 1.1)}
# Trained in the first round only: no bar is against them.
ONCE = ("tf.function loop", "Lightning")
RIVALS = {
    "app": None,
    "tf_keras fit": ("tensorflow", "keras_fit.py"),
    "tf.function loop": ("tensorflow", "keras_fit.py", "loop"),
    "PyTorch": ("torch", "torch_fit.py", "eager"),
    "PyTorch compiled": ("torch", "torch_fit.py", "compiled"),
    "Lightning": ("torch", "torch_fit.py", "lightning"),
}


TORCH = [rival for rival, how in RIVALS.items() if how and how[0] == "torch"]


def workloads(folder: Path) -> dict[str, tuple[str, int, int, list[str]]]:
    """Of each: its name in a word, batch, epochs, and the words of its command line."""
    news = ["text_classification", f"data={folder}/ag_news/ag_news.csv", "text=2,3", "label=1"]
    signs = ["image_folder", f"folder={folder}/sign_digits", "backbone=resnet20", "size=64", *STILL]
    adult = ["tabular", f"data={folder}/adult/adult.csv", "target=income-per-year", "bins=0", "hidden=[64,64]"]
    return {
        "tabular MLP, batch 32": ("mlp", 32, 8, adult),
        "28×28 CNN, batch 64": ("cnn", 64, 3, ["mnist", f"folder={folder}/mnist10k"]),
        "ResNet-20, batch 128": ("resnet", 128, 4, signs),
        "text, embedding and pool, batch 64": ("pooled", 64, 6, [*news, "model=pooled"]),
        "text, transformer, batch 64": ("transformer", 64, 2, [*news, "model=transformer"]),
    }


def run(rival: tuple[str, ...] | None, folder: Path, work: tuple[str, int, int, list[str]]) -> dict[str, float]:
    """One process from its start to its end; what its stopwatch told."""
    name, batch, epochs, words = work
    if rival is None:
        plan = [f"fit.batch_size={batch}", f"fit.epochs={PLANNED}", "fit.patience=none"]
        command = [sys.executable, HERE / "rivals/app.py", folder, str(epochs), *words, *plan]
    else:
        place, script, *how = rival
        python = Path(os.environ["BENCH_ENVIRONMENTS"]) / place / "bin/python"
        command = [python, HERE / "rivals" / script, folder, str(epochs), str(batch), name, *how]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_USE_LEGACY_KERAS": "1", "BENCH_BEGAN": str(time.time())}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | quiet, cwd=folder)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"said": done.stderr}


def table(name: str, told: dict[str, list[dict[str, float]]]) -> list[str]:
    """The rows of a workload, rival by rival; ratios are medians of those of each round."""

    def median(rival: str, what: str) -> float:
        return statistics.median(one[what] for one in told[rival])

    def beside(rival: str, what: str) -> str:
        return f"{ratio(told, rival, what):.2f}" if "app" in told else ""

    return [
        f"| {name} | {rival} | {median(rival, 'wall'):,.0f} | {beside(rival, 'wall')} | {beside(rival, 'cpu')} | "
        f"{median(rival, 'first'):.1f} | {median(rival, 'peak'):,.0f} |"
        for rival in told
    ]


def ratio(told: dict[str, list[dict[str, float]]], rival: str, what: str) -> float:
    """The app's beside a rival's: the median over the rounds in which both trained."""
    return statistics.median(a[what] / b[what] for a, b in zip(told["app"], told[rival], strict=False))


def judged(name: str, word: str, told: dict[str, list[dict[str, float]]]) -> str:
    """A workload's row of the bars: what was reached, what was asked for, and whether that is met."""

    def beside(rivals: list[str], bar: float) -> str:
        reached = min((ratio(told, rival, "wall") for rival in rivals if rival in told), default=None)
        if reached is None:
            return f"not measured | {bar:g}"
        return f"{reached:.2f} | {bar:g}, {'met' if reached >= bar else 'missed'}"

    naive, torch = BARS[word]
    return f"| {name} | {beside(['tf_keras fit'], naive)} | {beside(list(TORCH), torch)} |"


INPUTS = {
    "jpeg": {"app": None, "image_dataset_from_directory": ("tensorflow", "tf"), "DataLoader + PIL": ("torch", "torch")},
    "csv": {"app": None, "make_csv_dataset": ("tensorflow", "tf"), "pandas + tensors": ("torch", "pandas")},
}


def csv(path: Path, rows: int) -> Path:
    """A table of numbers: ten columns and a target of two classes."""
    import numpy as np

    random = np.random.default_rng(0)
    with open(path, "w") as file:
        print(*(f"x{i}" for i in range(10)), "target", sep=",", file=file)
        for start in range(0, rows, 10_000):
            values = random.normal(size=(min(10_000, rows - start), 10)).round(4)
            labels = (values.sum(1) > 0).astype(int)
            file.writelines(",".join(map(str, row)) + f",{y}\n" for row, y in zip(values, labels, strict=True))
    return path


def read(what: str, rival: tuple[str, str] | None, place: Path) -> dict[str, float]:
    """One process that only reads; CPU seconds of its first epoch and of a later one."""
    python = Path(os.environ["BENCH_ENVIRONMENTS"]) / rival[0] / "bin/python" if rival else Path(sys.executable)
    command = [python, HERE / "rivals/input.py", what, rival[1] if rival else "app", place]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_USE_LEGACY_KERAS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | quiet)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def inputs(folder: Path, rows: int, repeats: int, only: list[str]) -> list[str]:
    """The table of reading alone."""
    lines = ["| input | by | first epoch, CPU s | app's ratio | later epoch, CPU s | app's ratio | peak memory, MB |"]
    lines.append("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        for what, rivals in INPUTS.items():
            if only and what not in only:
                continue
            source = folder / "sign_digits" if what == "jpeg" else csv(Path(place) / "table.csv", rows)
            told: dict[str, list[dict[str, float]]] = {rival: [] for rival in rivals}
            for _ in range(repeats):
                for rival, how in rivals.items():
                    told[rival].append(read(what, how, source))
            for rival, found in told.items():
                middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
                ratio = {
                    key: statistics.median(b[key] / a[key] for a, b in zip(told["app"], found, strict=True))
                    for key in ("first", "later")
                }
                lines.append(
                    f"| {what}, {middle['examples']:,.0f} | {rival} | {middle['first']:.2f} | {ratio['first']:.2f} | "
                    f"{middle['later']:.2f} | {ratio['later']:.2f} | {middle['peak']:,.0f} |"
                )
    return lines


def machine() -> str:
    """The processor's name, the cores to run on and what is installed."""
    with open("/proc/cpuinfo") as info:
        name = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), "processor")
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def write(rows: list[str], tool: str) -> None:
    """Put rows between a tool's two marks in docs/benchmarks.md."""
    begin, end = f"<!-- tools/bench/{tool} -->", "<!-- end -->"
    before, mark, after = (DOCS.read_text() if DOCS.exists() else HEAD).partition(begin)
    if not mark:
        raise SystemExit(f"{DOCS} has no place for this table: a line {begin} and one {end}")
    DOCS.write_text("\n".join([f"{before}{begin}", *rows, f"{end}{after.partition(end)[2]}"]))


def _rounds(count: int) -> str:
    return f"medians of {count} rounds" if count > 1 else "one round"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="workloads whose name holds one of these")
    parser.add_argument("--rivals", nargs="*", default=list(RIVALS), choices=list(RIVALS))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the CSV file")
    parser.add_argument("--set", nargs="*", default=[], help="more words for the app, as fit.jit=true")
    parser.add_argument("--say", action="store_true", help="show what the app says")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    asked = parser.parse_args()
    rows = [
        f"{machine()}; each on one core, {_rounds(asked.repeats)} in turn, {' and '.join(ONCE)} in the first alone.",
        "",
        "| workload | rival | examples/s | app's ratio | by CPU time | first step, s | peak memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    bars = [
        "| workload | examples/s beside tf_keras fit | bar | beside the best of PyTorch | bar |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(rows), flush=True)
    for name, work in workloads(asked.folder.resolve()).items():
        if asked.only and not any(part in name for part in asked.only):
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            subprocess.run([sys.executable, HERE / "rivals/prepare.py", folder, *work[3]], check=True)
            told: dict[str, list[dict[str, float]]] = {rival: [] for rival in asked.rivals}
            for _ in range(asked.repeats):
                for rival in [one for one in asked.rivals if one not in ONCE or not told[one]]:
                    with_words = (*work[:3], [*work[3], *asked.set])
                    told[rival].append(run(RIVALS[rival], folder, with_words))
                    if asked.say and rival == "app":
                        print(told[rival][-1]["said"], file=sys.stderr)
        rows += table(name, told)
        print("\n".join(rows[-len(told) :]), flush=True)
        if "app" in told:
            bars.append(judged(name, work[0], told))
    print("\n".join(bars), flush=True)
    rows += ["", *bars]
    reading = [what for what in INPUTS if not asked.only or any(part in what for part in asked.only)]
    if reading:
        table_of_inputs = inputs(asked.folder.resolve(), asked.rows, asked.repeats, reading)
        print("\n".join(table_of_inputs), flush=True)
        rows += ["", *table_of_inputs]
    if asked.write:
        write(rows, "speed")


if __name__ == "__main__":
    main()
