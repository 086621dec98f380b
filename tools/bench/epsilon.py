"""The tables of docs/privacy.md; `tools/bench/epsilon` runs it."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace

from tfapp.private import accounting
from tfapp.private.accounting import Mechanism

PUBLISHED = Mechanism("poisson", 60_000, 256, 1.1, 3_515)
DELTA = 1e-5
BUDGETS = (1.0, 3.0, 8.0)


def case() -> None:
    """The published case: 60,000 examples, batch 256, σ 1.1, 15 epochs, δ 1e-5."""
    began = time.monotonic()
    print(f"PLD, Poisson, add or remove one: {accounting.epsilon(PUBLISHED, DELTA):.3f}")
    for words, value in accounting.readings(PUBLISHED, DELTA):
        print(f"{words}: {value:.3f}")
    print(f"{time.monotonic() - began:.1f} s")
    for share in (1e-1, accounting.OVERFLOW):
        places = accounting.capacity(60_000, 256, 3_515, share * DELTA)
        print(f"places of a batch for {share:g} of δ: {places}")


def noise() -> None:
    """σ for ε, by examples and epochs at batch 256."""
    for n, delta in ((8_000, 1e-5), (60_000, DELTA)):
        for epochs in (5, 15, 60):
            steps = epochs * math.ceil(n / 256)
            _row(f"n {n:,}, {epochs} epochs", Mechanism("poisson", n, 256, 0.0, steps), delta)


def batch() -> None:
    """σ for ε, by batch size at 60,000 examples and 15 epochs, and of shuffled batches."""
    for size in (64, 256, 1024, 4096):
        steps = 15 * math.ceil(60_000 / size)
        _row(f"batch {size:,}, {steps:,} steps", Mechanism("poisson", 60_000, size, 0.0, steps), DELTA, size)
    _row("shuffle, batch 256", Mechanism("shuffle", 60_000, 256, 0.0, 3_525), DELTA)


def trials() -> None:
    """ε of several trainings of the published case together."""
    for count in (1, 5, 20):
        both = [accounting.epsilon(replace(PUBLISHED, steps=3_515 * count), DELTA, by) for by in ("pld", "rdp")]
        print(f"{count} trials: PLD {both[0]:.2f}, RDP {both[1]:.2f}")


def _row(words: str, asked: Mechanism, delta: float, size: int | None = None) -> None:
    found = []
    for epsilon in BUDGETS:
        began = time.monotonic()
        sigma = accounting.noise_for(asked, epsilon, delta)
        each = f"; {sigma / size:.5f} C an example" if size else ""
        found.append(f"ε {epsilon:g}: σ {sigma:.3f} ({time.monotonic() - began:.1f} s{each})")
    print(f"{words} (q {asked.q:.4f}): {', '.join(found)}", flush=True)


if __name__ == "__main__":
    tables = {one.__name__: one for one in (case, noise, batch, trials)}
    for name in sys.argv[1:] or tables:
        print(f"\n{tables[name].__doc__}")
        tables[name]()
