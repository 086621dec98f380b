"""See tools/bench/kills."""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], os.environ.get("PYTHONPATH", "")])

from tfapp import environment
from tfapp.launch import places
from tfapp.launch.kills import Killer
from tfapp.launch.screen import Screen
from tfapp.launch.supervise import Launch, run
from tfapp.runtime import import_tensorflow

# Short runs that still hold several epochs, validation, a schedule and the best epoch's weights.
RUNS = {
    "digits": ("digits", "fit.epochs=4"),
    "tabular": ("tabular", "fit.epochs=20", "fit.batch_size=64"),
    "pruned": ("digits", "fit.epochs=4", "prune=0.8", "average=true"),
}
KILLS_A_RUN = 10


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    import_tensorflow()
    from tfapp import verify

    moments = random.Random(asked.seed)
    where = places.here(asked.workers)
    kills = []
    again: list[float] = []
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="tfapp-kills-") as folder:
        whole = {}
        for name, words in RUNS.items():
            whole[name] = Path(folder, f"{name}-whole")
            launch = Launch(("train", *words, "--run", str(whole[name])), where)
            if run(launch, Screen(asked.workers, quiet=True)).code:
                raise SystemExit(f"{name} does not train")
        number = 0
        while len(kills) < asked.kills:
            name = list(RUNS)[number % len(RUNS)]
            killed = Path(folder, f"{name}-{number}")
            steps = verify.last_step(whole[name])
            killer = Killer(min(KILLS_A_RUN, asked.kills - len(kills)), steps, moments, anywhere=15)
            # A checkpoint each few steps: a good part of the kills falls into the writing of one.
            words = (*RUNS[name], f"fit.checkpoint.every_steps={max(1, steps // 20)}")
            launch = Launch(("train", *words, "--run", str(killed)), where, max_restarts=1000)
            code = run(launch, Screen(asked.workers, quiet=True), killer).code
            found = verify.differences(whole[name], killed) if code == 0 else [f"it ended with {code}"]
            wrong += bool(found)
            kills += killer.done
            again += killer.again
            number += 1
            seconds = ", ".join(f"{value:.1f}" for value in killer.again)
            print(
                f"{name}: {len(killer.done)} kills at steps {[kill.step for kill in killer.done]} of {steps}: "
                f"{'; '.join(found) or 'the same to the bit'}; training again after {seconds} s; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
    machine = environment.machine()
    print(f"on {machine}")
    victims = Counter(kill.worker for kill in kills)
    print(
        f"{len(kills)} kills ({', '.join(f'worker {w}: {n}' for w, n in sorted(victims.items()))}; "
        f"{sum(kill.step == 0 for kill in kills)} before a first step) in {number} runs of {asked.workers} workers: "
        f"{wrong} runs differ; {statistics.median(again):.1f} s from a death to training again "
        f"(median of {len(again)}, from {min(again):.1f} to {max(again):.1f})"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
