"""What privacy costs; `tools/bench/private` runs it.

Steps are the engine's: a job with the private feature and one without it, compiled as `tfapp train` does, fed with batches
that are in memory. All ways of a model take turns, a block each, and what is compared is compared within a round. A block's
time is CPU time on one core, which another program on the machine disturbs less than wall clock.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs" / "privacy.md"
OPACUS = Path(os.environ["BENCH_ENVIRONMENTS"]) / "opacus" / "bin" / "python"
MODELS = {"mlp": "MLP 784-256-128-10", "cnn": "small CNN"}
OWN = {
    "plain": [],
    "private, 256 rows": ["private.noise_multiplier=1.1", "private.sampling=shuffle"],
    "private, Poisson": ["private.noise_multiplier=1.1"],
}
THEIRS = ("plain", "hooks", "functorch", "ew", "ghost")
# Steps that Python starts at once, and how long a block is.
PACE, BLOCK = 10, 0.4


def compiled(kind: str, words: list[str], batch: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """(what takes PACE steps of a model, what traces them only)."""
    import tensorflow as tf

    from tfapp import features, train
    from tfapp import job as jobs
    from tfapp.cli import asking

    given = [f"config.kind={kind}", f"fit.batch_size={batch}", "fit.epochs=15", *words]
    _, recipe, plan, _ = asking.ask([str(HERE / "rivals" / "two_models.py"), *given], [], None, None)
    # Left open: the steps are taken later.
    machine = plan.runtime.enter().__enter__()
    job = features.apply(plan, jobs.of(plan, recipe, recipe.data(plan.config), machine))
    train.compiled(job)
    batches = [*zip(range(8), job.train.distributed(machine, 0), strict=False)]
    held = tf.data.Dataset.from_tensors(batches[0][1])
    for _, one in batches[1:]:
        held = held.concatenate(tf.data.Dataset.from_tensors(one))
    rows = iter(held.repeat())
    job.model._steps_per_execution.assign(PACE)
    step = job.model.make_train_function()
    return lambda: step(rows), lambda: step.get_concrete_function(rows)


def in_turn(kind: str, batch: int, rounds: int) -> dict[str, list[float]]:
    """Of each way to train a model, the CPU seconds of a step in every round."""
    takes = {name: compiled(kind, words, batch)[0] for name, words in OWN.items()}
    command = [OPACUS, HERE / "rivals" / "opacus_steps.py", str(batch)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdin and other.stdout

    def ours(name: str, steps: int) -> float:
        began = time.process_time()
        for _ in range(-(-steps // PACE)):
            takes[name]()
        return (time.process_time() - began) / (PACE * -(-steps // PACE))

    def theirs(way: str, steps: int) -> float:
        print(kind, way, steps, file=other.stdin, flush=True)
        return float(other.stdout.readline()) / steps

    def both(name: str, steps: int) -> float:
        return theirs(name.removeprefix("Opacus "), steps) if name.startswith("Opacus") else ours(name, steps)

    names = [*OWN, *(f"Opacus {way}" for way in THEIRS)]
    found: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        both(name, 3)
    steps = {name: max(2, int(BLOCK / both(name, 3))) for name in names}
    for _ in range(rounds):
        for name in names:
            found[name].append(both(name, steps[name]))
    other.stdin.close()
    other.wait()
    return found


def cost(asked: argparse.Namespace) -> Iterator[str]:
    """Examples a second, and how often the plain step's time."""
    batch = 256
    yield f"{machine()}; batch {batch}, medians of {asked.rounds} rounds in turn, by CPU time."
    yield ""
    yield "| model | step | examples/s | × its plain step | × Opacus's best |"
    yield "|---|---|---|---|---|"
    for kind, title in MODELS.items():
        found = in_turn(kind, batch, asked.rounds)
        best = min(THEIRS[1:], key=lambda way: statistics.median(found[f"Opacus {way}"]))
        for name, seconds in found.items():
            theirs = name.startswith("Opacus")
            whole = found["Opacus plain" if theirs else "plain"]
            named = name.replace("Opacus plain", "PyTorch, plain")
            ahead = "" if theirs else f"{_ratio(found[f'Opacus {best}'], seconds):.2f}"
            rate = batch / statistics.median(seconds)
            yield f"| {title} | {named} | {rate:,.0f} | {_ratio(seconds, whole):.2f} | {ahead} |"


def _ratio(above: list[float], below: list[float]) -> float:
    """The median of the ratios of each round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def memory(asked: argparse.Namespace) -> Iterator[str]:
    """Peak of a process that takes steps at batch 1,024, and how far these raise it."""
    batch = 1024
    yield f"{machine()}; {MODELS['cnn']}, batch {batch:,}, medians of {asked.rounds} processes each; MB."
    yield ""
    yield "| step | peak of the process | × | growth during steps | × |"
    yield "|---|---|---|---|---|"
    ways = {**OWN, "private, Poisson, microbatch 256": [*OWN["private, Poisson"], "private.microbatch=256"]}
    plain = None
    for name, words in ways.items():
        name = name.replace("256 rows", "1,024 rows")
        told = []
        for _ in range(asked.rounds):
            done = subprocess.run([sys.executable, __file__, "once", *words], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr[-3000:])
            told.append(json.loads(done.stdout.splitlines()[-1]))
        peak, growth = (statistics.median(one[what] for one in told) for what in ("peak", "growth"))
        plain = plain or (peak, growth)
        yield f"| {name} | {peak:,.0f} | {peak / plain[0]:.2f} | {growth:,.0f} | {growth / plain[1]:.2f} |"


def once(asked: argparse.Namespace) -> Iterator[str]:
    """One process's peak, and how far steps raise it, as JSON; what is traced and planned before them is no growth."""
    take, trace = compiled("cnn", ["config.n=10000", *asked.words], 1024)
    trace()
    # What is free would be taken first: it goes back to the system.
    ctypes.CDLL(None).malloc_trim(0)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    take()
    peak = _resident("VmHWM")
    yield json.dumps({"peak": peak, "growth": peak - before})


def _resident(what: str) -> float:
    """MB of this process, as Linux counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


BUDGETS, SEEDS = (1, 3, 8), range(3)
MNIST = ["fit.batch_size=256", "fit.epochs=15", "fit.patience=none"]
PRIVATE = ["private.delta=1e-5", "private.replace_batchnorm=true"]


def accuracy(asked: argparse.Namespace) -> Iterator[str]:
    """What ε costs in test accuracy, by the app and by Opacus with the same σ, q, steps and model."""
    data = [f"config.folder={asked.folder.resolve() / 'mnist10k'}", *MNIST]

    def by_app(epsilon: int | None, seed: int) -> tuple[float, float | None]:
        """(test accuracy, σ)."""
        words = [*PRIVATE, f"private.epsilon={epsilon}"] if epsilon else []
        run = place / f"{epsilon}-{seed}"
        _said([sys.executable, "-m", "tfapp", "train", "mnist", *data, *words, f"runtime.seed={seed}", "--run", run])
        score = json.loads((run / "report.json").read_text())["evaluation"]["scores"]["accuracy"]["value"]
        return score, json.loads((run / "privacy.json").read_text())["noise_multiplier"] if epsilon else None

    def by_opacus(noise: float, seed: int) -> float:
        told = _said([OPACUS, HERE / "rivals" / "opacus_fit.py", arrays, str(noise), str(seed)])
        return float(told.split()[-1])

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        place = Path(folder)
        arrays = place / "arrays.npz"
        whole = {(e, s): pool.submit(by_app, e, s) for e in (None, *BUDGETS) for s in SEEDS}
        n, steps = _prepare(arrays, data)
        noises = {epsilon: whole[epsilon, SEEDS[0]].result()[1] for epsilon in BUDGETS}
        theirs = {(e, s): pool.submit(by_opacus, noises[e], s) for e in BUDGETS for s in SEEDS}
        said = f"{n:,} examples, batch 256, {steps} steps, δ 1e-5; medians of {len(SEEDS)} seeds (lowest to highest)."
        yield f"{machine()}; {said}"
        yield ""
        yield "| ε | σ | `tfapp` | Opacus |"
        yield "|---|---|---|---|"
        yield f"| without privacy | | {_spread([whole[None, s].result()[0] for s in SEEDS])} | |"
        for epsilon in reversed(BUDGETS):
            ours = _spread([whole[epsilon, s].result()[0] for s in SEEDS])
            other = _spread([theirs[epsilon, s].result() for s in SEEDS])
            yield f"| {epsilon} | {noises[epsilon]:.3f} | {ours} | {other} |"


def _prepare(arrays: Path, words: list[str]) -> tuple[int, int]:
    """Write the rows of each part and the learning rate of each step; (training examples, steps)."""
    import numpy as np

    from tfapp import job as jobs
    from tfapp import optimizers
    from tfapp.cli import asking

    _, recipe, plan, _ = asking.ask(["mnist", *words], [], None, None)
    with plan.runtime.enter() as machine:
        data = recipe.data(plan.config)
        job = jobs.of(plan, recipe, data, machine)
    schedule = optimizers.Schedule.from_config(job.optimizer.get_config()["learning_rate"]["config"])
    rates = [float(schedule(step)) for step in range(job.total_steps)]
    held = {"batch": plan.fit.batch_size, "rates": rates}
    for name in ("train", "validation", "test"):
        part = getattr(data, name)
        held |= {f"{name}_x": part.features, f"{name}_y": part.labels}
    np.savez(arrays, **held)
    return len(data.train), job.total_steps


def _said(command: list[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr[-3000:]}")
    return done.stdout


def _spread(scores: list[float]) -> str:
    return f"{statistics.median(scores):.3f} ({min(scores):.3f}–{max(scores):.3f})"


def machine() -> str:
    """The processor's name, the cores and the system."""
    with open("/proc/cpuinfo") as info:
        name = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), "processor")
    count = len(os.sched_getaffinity(0))
    return f"{name}, {count} of {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def written(page: str, table: str, rows: str) -> str:
    """The page with the rows between its two marks of this table.

    Raises:
      SystemExit: it has no such marks.
    """
    begin, end = f"<!-- tools/bench/private {table} -->\n", "<!-- end -->"
    before, mark, after = page.partition(begin)
    if not mark:
        raise SystemExit(f"{DOCS} has no line {begin}")
    return f"{before}{begin}{rows}\n{end}{after.partition(end)[2]}"


def main() -> None:
    parser = argparse.ArgumentParser()
    kinds = parser.add_subparsers(required=True)
    for made, rounds in ((cost, 12), (memory, 3), (accuracy, None), (once, None)):
        kind = kinds.add_parser(made.__name__, help=made.__doc__)
        kind.set_defaults(made=made)
        if made is accuracy:
            kind.add_argument("folder", type=Path)
        if made is once:
            kind.add_argument("words", nargs="*")
        if rounds:
            kind.add_argument("--rounds", type=int, default=rounds)
        kind.add_argument("--write", action="store_true", help="put the table into docs/privacy.md")
    asked = parser.parse_args()
    rows = []
    for row in asked.made(asked):
        print(row, flush=True)
        rows.append(row)
    if asked.write:
        DOCS.write_text(written(DOCS.read_text(), asked.made.__name__, "\n".join(rows)))


if __name__ == "__main__":
    main()
