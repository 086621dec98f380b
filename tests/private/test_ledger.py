"""The ledger of a private run: what it proves, kept and read back, and composed with others."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest

from tfapp.errors import Missing, Refused
from tfapp.private import accounting, ledger
from tfapp.private.accounting import Mechanism

SECRET = {"source": "operating system"}
PLANNED = Mechanism("poisson", 1_000, 50, 4.0, 60)


@pytest.fixture(scope="module")
def fresh() -> ledger.Ledger:
    return ledger.made(PLANNED, 1e-4, "pld", key=SECRET, data_sha256="a", clip_norm=1.0, capacity=90)


@pytest.fixture(scope="module")
def done(fresh) -> ledger.Ledger:
    return ledger.taken(fresh, 60)


def of(mechanism: Mechanism, **facts) -> ledger.Ledger:
    values = {"key": SECRET, "data_sha256": "a", "clip_norm": 1.0, **facts}
    return ledger.taken(ledger.made(mechanism, 1e-4, "rdp", **values), mechanism.steps)


def test_a_run_that_has_not_begun_has_spent_nothing(fresh) -> None:
    assert (fresh.steps, fresh.spent) == (0, 0)
    assert fresh.planned_epsilon["pld"] < fresh.planned_epsilon["rdp"]


def test_a_run_that_is_done_has_spent_what_was_planned(done) -> None:
    assert done.epsilon == done.planned_epsilon
    assert done.overflow == accounting.overflow(1_000, 50, 60, 90) > 0
    assert done.spent == accounting.epsilon(PLANNED, 1e-4 - done.overflow)


def test_what_was_spent_is_of_the_steps_taken(fresh) -> None:
    half = ledger.taken(fresh, 30)
    assert half.epsilon["rdp"] == accounting.epsilon(replace(PLANNED, steps=30), 1e-4 - fresh.overflow, "rdp")
    assert half.planned_epsilon == fresh.planned_epsilon
    assert ledger.ENDED_EARLY in half.not_covered


def test_at_a_smaller_delta_epsilon_is_larger(done) -> None:
    deltas, values = zip(*done.at, strict=True)
    assert deltas == (1e-5, 1e-6, 1e-7)
    assert [done.spent, *values] == sorted([done.spent, *values])


def test_it_is_kept_and_read_back_whole(done, tmp_path) -> None:
    child = replace(done, parents=(done,), clip_quantile=0.5, count_noise=5.0)
    ledger.write(tmp_path, child)
    found = ledger.read(tmp_path)
    assert found == child
    assert found is not None and (found.id, found.parents[0].id) == (child.id, done.id)
    held = json.loads((tmp_path / "privacy.json").read_text())
    assert held["sampling_rate"] == 0.05
    assert held["relation"].startswith("add or remove one")
    assert any("validation" in sentence for sentence in held["not_covered"])


def test_a_run_that_goes_on_is_the_run_that_it_was(fresh, tmp_path) -> None:
    ledger.write(tmp_path, fresh)
    ledger.write(tmp_path, replace(fresh, steps=10, id="anew"))
    found = ledger.read(tmp_path)
    assert found is not None and (found.id, found.steps) == (fresh.id, 10)
    ledger.write(tmp_path, replace(fresh, noise_multiplier=5.0, id="another"))
    found = ledger.read(tmp_path)
    assert found is not None and found.id == "another"


def test_an_epsilon_that_does_not_exist_is_null(tmp_path) -> None:
    none = of(replace(PLANNED, noise_multiplier=0.0))
    path = ledger.write(tmp_path, none)
    assert json.loads(path.read_text())["epsilon"] == {"pld": None, "rdp": None}
    assert ledger.read(tmp_path) == none


def test_a_run_without_a_ledger_has_none(tmp_path) -> None:
    assert ledger.read(tmp_path) is None


@pytest.mark.parametrize("text", ['{"version": 2}', '{"version": 1}', "[]", "{"])
def test_a_damaged_ledger_is_told_of(text, tmp_path) -> None:
    (tmp_path / "privacy.json").write_text(text)
    with pytest.raises(Missing, match="privacy.json"):
        ledger.read(tmp_path)


def test_a_delta_that_says_nothing_is_refused() -> None:
    with pytest.raises(Refused, match="1 / 1,000"):
        ledger.made(PLANNED, 0.01, "pld", key=SECRET, data_sha256=None, clip_norm=1.0)


@pytest.mark.moderate
def test_trials_on_the_same_data_are_composed() -> None:
    a, b = of(PLANNED), of(replace(PLANNED, noise_multiplier=6.0, steps=20))
    found = ledger.together([a, b])
    assert found["epsilon"]["rdp"] == accounting.epsilon([a.done, b.done], 1e-4, "rdp")
    assert found["epsilon"]["pld"] == accounting.epsilon([a.done, b.done], 1e-4, "pld")
    assert found["epsilon"]["rdp"] > found["largest"] == a.spent
    assert (found["runs"], found["steps"], found["data"]) == (2, 80, 1)


@pytest.mark.moderate
def test_the_same_run_counts_once_with_the_most_steps() -> None:
    a = of(PLANNED)
    assert ledger.together([a, ledger.taken(a, 10), a])["epsilon"]["rdp"] == a.spent


@pytest.mark.moderate
def test_other_data_counts_unless_it_is_said_to_share_no_example() -> None:
    a, b = of(PLANNED), of(replace(PLANNED, noise_multiplier=6.0), data_sha256="b")
    both = accounting.epsilon([a.done, b.done], 1e-4, "rdp")
    assert ledger.together([a, b])["epsilon"]["rdp"] == both
    assert ledger.together([a, b], disjoint=True)["epsilon"]["rdp"] == a.spent


@pytest.mark.moderate
def test_what_a_run_began_from_is_in_its_epsilon() -> None:
    parent = of(PLANNED)
    child = of(replace(PLANNED, steps=20), parents=[parent])
    assert child.spent == accounting.epsilon([PLANNED, child.done], 1e-4, "rdp")
    assert ledger.together([parent, child])["epsilon"]["rdp"] == child.spent


def test_nothing_together_is_nothing() -> None:
    assert ledger.together([]) == {}


def test_the_start_tells_the_price_and_what_others_would_say(fresh) -> None:
    first, *rest = ledger.lines(fresh)
    assert first.startswith("private: σ 4, q 0.05, 60 steps, δ 0.0001: ε 0.")
    assert first.endswith("(PLD, Poisson, add or remove one)")
    assert any("90 places" in line for line in rest)
    assert any("RDP, Poisson" in line and "each example once an epoch" in line for line in rest)


def test_a_known_key_is_called_insecure(fresh) -> None:
    known = replace(fresh, key={"source": "fixed", "insecure": True})
    assert ledger.INSECURE in ledger.lines(known)
    assert known.not_covered[0] == ledger.INSECURE


def test_adaptive_clipping_is_told_with_both_noises(fresh) -> None:
    adaptive = replace(fresh, clip_quantile=0.5, count_noise=2.5, gradient_noise=1.02)
    assert any(
        "quantile 0.5" in line and "1.02 on the gradient and 2.5 on the count" in line
        for line in ledger.lines(adaptive)
    )


@pytest.mark.parametrize(
    ("epsilon", "words"),
    [
        (2.9981, "3"),
        (0.99997, "1"),
        (12.341, "12.4"),
        (1.0, "1"),
        (0.0, "0"),
        (math.inf, "∞"),
        (234.5, "235"),
        (2.412, "2.42"),
    ],
)
def test_an_epsilon_is_rounded_up(epsilon, words) -> None:
    assert ledger.said(epsilon) == words


@pytest.mark.moderate
def test_the_report_has_what_was_spent_by_when(fresh) -> None:
    half = ledger.taken(fresh, 30)
    told = ledger.told(half)
    assert told["curve"][-1] == [30, half.spent]
    assert dict(map(tuple, told["readings"]))["RDP, Poisson, add or remove one"] < fresh.planned_epsilon["rdp"]
    json.dumps(told, allow_nan=False)


def test_the_ledger_imports_neither_tensorflow_nor_dp_accounting() -> None:
    code = "import sys, tfapp.private.ledger; print({'tensorflow', 'dp_accounting', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
