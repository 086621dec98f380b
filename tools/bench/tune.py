"""See the head of tools/bench/tune."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

# bayesian and the rest that learn from what they saw; grid does not, and hyperband spends less on each trial.
MODEL_BASED = ("bayesian", "tpe", "cmaes", "genetic", "pso", "evolution")
TINY = ["digits", "fit.epochs=2", "fit.patience=none"]
FIXED = ["learning_rate=float:0.0019..0.0021", "--algorithm", "random"]


def main() -> None:
    what, *words = sys.argv[1:] or ["help"]
    {"quality": quality, "auto": auto, "overhead": overhead, "memory": memory, "parallel": parallel}[what](*words)


# Short trainings, so that 70 searches of 30 trials end in about 80 minutes of one core: of adult three tenths of the
# rows are trained on. The same for every algorithm; chosen before any result was seen.
SHORT = {
    "digits": ["digits", "fit.epochs=6", "runtime.threads=1"],
    "adult": ["tabular", "target=income-per-year", "split.validation=0.2", "split.test=0.5"]
    + ["fit.epochs=3", "runtime.threads=1"],
}


def quality(shared: str, trials: str = "30", seeds: str = "5") -> None:
    """Median over seeds of the best validation loss of each algorithm, all with as many trials."""
    own = {"digits": [], "adult": [f"data={shared}/adult/adult.csv"]}
    for name, words in SHORT.items():
        random = math.inf
        for algorithm in ("random", *MODEL_BASED):
            best = [
                _searched(
                    [*words, *own[name], "--algorithm", algorithm, "--seed", str(seed), "--trials", trials],
                    f"{name}-{algorithm}-{seed}",
                )
                for seed in range(int(seeds))
            ]
            middle = statistics.median(best)
            random = middle if algorithm == "random" else random
            print(
                f"{name:8} {algorithm:10} median {middle:.5f}  {' '.join(f'{one:.5f}' for one in best)}"
                f"{'' if middle <= random else '  worse than random'}",
                flush=True,
            )


def auto(shared: str, budget: str = "10m") -> None:
    """What `tfapp auto` makes of the Adult census in a given time, on unseen rows."""
    folder = Path("runs/bench-tune/auto")
    words = [
        "auto",
        f"{shared}/adult/adult.csv",
        "--target",
        "income-per-year",
        "--budget",
        budget,
        "--fresh",
        "--json",
    ]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tfapp", *words, "--folder", str(folder)], check=True, capture_output=True
    )
    score = json.loads(done.stdout)["scores"]["roc_auc"]
    print(
        f"test ROC-AUC {score['value']:.4f} ({score['low']:.4f} to {score['high']:.4f}) in {time.monotonic() - began:.0f} s"
    )


def _searched(words: list[str], name: str) -> float:
    """The best score of a search, run or gone on with in runs/bench-tune/."""
    folder = Path("runs/bench-tune") / name
    _tune(words, folder)
    found = json.loads((folder / "search.json").read_text())["found"]
    return next(iter(found["best"]["validation"].values()))


def overhead() -> None:
    """Wall seconds of a trial against the same training by `train()` in a process where all is imported already."""
    with tempfile.TemporaryDirectory() as away:
        trials = _durations(_events([*TINY, *FIXED, "--trials", "12"], Path(away, "search")))
        plain = json.loads(
            subprocess.run(
                [sys.executable, __file__, "plain", away], check=True, capture_output=True, text=True
            ).stdout.splitlines()[-1]
        )
    # The first of each is mostly TensorFlow's own warming up.
    trial, whole, fit = (statistics.median(one[2:]) for one in (trials, plain["whole"], plain["fit"]))
    print(f"a trial {trial:.2f} s; tfapp train with export and report {whole:.2f} s; its training alone {fit:.2f} s")
    print(
        f"overhead of a trial over the training alone {trial - fit:+.2f} s, over all of tfapp train {trial - whole:+.2f} s"
    )


def plain(away: str) -> None:
    """Twelve trainings in this process, each whole and each without export and report."""
    from tfapp import run as runs
    from tfapp.cli import asking
    from tfapp.runtime import import_tensorflow

    import_tensorflow()
    from tfapp.train import train
    from tfapp.tune.worker import forget

    took: dict[str, list[float]] = {"whole": [], "fit": []}
    for number in range(12):
        for kind in took:
            recipe, module, plan, _ = asking.ask([*TINY, f"learning_rate={0.0019 + number / 1e5}"], [], None, None)
            run = runs.begin(Path(away, f"{kind}-{number}"), plan, recipe.digest)
            began = time.perf_counter()
            own: dict[str, Any] = {} if kind == "whole" else {"finish": lambda *_: {}}
            train(plan, module, run, lambda line: None, lambda rows: None, **own)
            took[kind].append(time.perf_counter() - began)
            forget()
    print(json.dumps(took))


def memory(trials: str = "55") -> None:
    """Resident memory of the process that runs the trials, after so many; after fifty there is a new one."""
    with tempfile.TemporaryDirectory() as away:
        folder = Path(away, "search")
        process = subprocess.Popen(
            _command([*TINY, *FIXED, "--trials", trials], folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        held: dict[int, int] = {}
        while process.poll() is None:
            done = len(list(folder.glob("trials/*/validation.npz")))
            for child in psutil.Process(process.pid).children(recursive=True):
                try:
                    if "tfapp.tune.worker" in " ".join(child.cmdline()):
                        held[done] = child.memory_info().rss
                except psutil.NoSuchProcess:
                    pass
            time.sleep(0.2)
        for done in sorted(held):
            if done in (1, 5, 10, 20, 30, 40, 49, 50, 52) or done == max(held):
                print(f"after {done:2} trials {held[done] / 1e6:6.0f} MB")


def parallel() -> None:
    """Trials a minute with one and with two at a time, start of the processes left out."""
    rates = {}
    with tempfile.TemporaryDirectory() as away:
        for at_once in (1, 2):
            words = [
                "digits",
                "fit.epochs=10",
                "fit.patience=none",
                *FIXED,
                "--trials",
                "24",
                "--parallel",
                str(at_once),
            ]
            ends = [event["at"] for event in _events(words, Path(away, str(at_once))) if "end" in event]
            # From when all processes are warm, to before the last ones have nobody beside them.
            ends = ends[2 * at_once : len(ends) - at_once]
            rates[at_once] = 60 * (len(ends) - 1) / (ends[-1] - ends[0])
            print(f"--parallel {at_once}: {rates[at_once]:.1f} trials a minute")
    print(f"gain {rates[2] / rates[1]:.2f} ×, with {os.cpu_count()} cores")


def _durations(events: list[dict[str, Any]]) -> list[float]:
    begun = {event["begin"]: event["at"] for event in events if "begin" in event}
    return [event["at"] - begun[event["end"]] for event in events if "end" in event]


def _events(words: list[str], folder: Path) -> list[dict[str, Any]]:
    _tune(words, folder)
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def _tune(words: list[str], folder: Path) -> None:
    done = subprocess.run(_command(words, folder), check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)


def _command(words: list[str], folder: Path) -> list[str]:
    return [sys.executable, "-m", "tfapp", "tune", *words, "--folder", str(folder)]


if __name__ == "__main__":
    plain(sys.argv[2]) if sys.argv[1:2] == ["plain"] else main()
