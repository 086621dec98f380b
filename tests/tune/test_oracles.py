"""The algorithms on functions with known minima; nothing is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tune import functions
from tfapp.errors import Refused
from tfapp.tune import oracles, space
from tfapp.tune.objective import Objective, parse

SPACES = {
    "branin": (functions.BRANIN, functions.branin),
    "hartmann6": (functions.HARTMANN6, functions.hartmann6),
    "conditional": (functions.CONDITIONAL, functions.conditional),
}
# What the median of three seeds must reach in 100 evaluations: well within what random search gets to.
REACHED = {"branin": 0.9, "hartmann6": -2.6, "conditional": 0.03}
LOSS = (Objective("val_loss", False),)


def made(algorithm: str, words: list[str], seed: int = 0, objectives=LOSS, known: Any = None) -> Any:
    params, _ = space.parse(words)
    return oracles.make(algorithm, space.to_keras_tuner(params), objectives, seed, 27, known or {})


def searched(oracle: Any, function: Any, trials: int) -> list[tuple[dict[str, Any], float]]:
    """So many trials, one after another: (values, what the function says)."""
    found = []
    for number in range(trials):
        trial = oracle.create_trial(f"tuner-{len(oracle.trials)}-{number}")
        if trial.status != "RUNNING":
            break
        values = {key: value for key, value in trial.hyperparameters.values.items() if not key.startswith("tuner/")}
        found.append((values, function(values)))
        oracle.update_trial(trial.trial_id, {"val_loss": found[-1][1]})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return found


@pytest.mark.moderate
@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(
    "algorithm", [pytest.param("tpe", marks=pytest.mark.slow), "cmaes", "genetic", "pso", "evolution"]
)
def test_an_algorithm_comes_near_the_minimum_in_a_hundred_evaluations(algorithm: str, name: str) -> None:
    words, function = SPACES[name]
    best = [min(y for _, y in searched(made(algorithm, words, seed), function, 100)) for seed in range(3)]
    assert np.median(best) < REACHED[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_the_gaussian_process_comes_near_the_minimum_in_sixty_evaluations(name: str) -> None:
    words, function = SPACES[name]
    assert min(y for _, y in searched(made("bayesian", words), function, 60)) < REACHED[name]


@pytest.mark.moderate
@pytest.mark.parametrize("algorithm", [name for name in oracles.ALGORITHMS if name != "bayesian"])
def test_the_same_seed_gives_the_same_trials_and_another_seed_others(algorithm: str) -> None:
    first, again = (searched(made(algorithm, functions.CONDITIONAL, 3), functions.conditional, 30) for _ in range(2))
    assert first == again
    if algorithm != "grid":
        assert first != searched(made(algorithm, functions.CONDITIONAL, 4), functions.conditional, 30)


@pytest.mark.slow
def test_the_gaussian_process_goes_on_alike_without_drawing_known_trials_again() -> None:
    whole = searched(made("bayesian", functions.BRANIN), functions.branin, 9)
    known = {f"{number:04d}": values for number, (values, _) in enumerate(whole[:8])}
    assert searched(made("bayesian", functions.BRANIN, known=known), functions.branin, 9) == whole


def test_a_grid_holds_every_combination_once() -> None:
    words = ["a=int:1..3", "m=choice:x,y", "b=choice:1,2@m=y"]
    tried = [values for values, _ in searched(made("grid", words), lambda values: 0.0, 100)]
    assert len(tried) == 9 and len({tuple(sorted(values.items())) for values in tried}) == 9


@pytest.mark.moderate
@pytest.mark.parametrize("algorithm", oracles.ALGORITHMS)
def test_a_setting_has_a_value_only_where_its_condition_holds(algorithm: str) -> None:
    for values, _ in searched(made(algorithm, functions.CONDITIONAL), functions.conditional, 12):
        assert ("slope" in values) == (values["model"] == "linear")
        assert ("depth" in values) == ("rate" in values) == (values["model"] == "deep")


@pytest.mark.parametrize("algorithm", [name for name in oracles.ALGORITHMS if name != "bayesian"])
def test_a_failed_trial_stops_no_algorithm(algorithm: str) -> None:
    oracle = made(algorithm, functions.BRANIN)
    for number in range(40):
        trial = oracle.create_trial(f"tuner-{number}")
        if trial.status != "RUNNING":
            break
        failed = number % 3 == 0
        if not failed:
            oracle.update_trial(trial.trial_id, {"val_loss": float(number)})
        trial.status = "FAILED" if failed else "COMPLETED"
        oracle.end_trial(trial)
    assert len(oracle.end_order) == len(oracle.trials) >= 12


def test_genetic_search_spreads_over_the_front_of_two_objectives() -> None:
    objectives = parse("loss,-size_kb")
    oracle = made("genetic", ["x=float:0..2"], objectives=objectives)
    front = set()
    for number in range(60):
        trial = oracle.create_trial(f"tuner-{number}")
        x = trial.hyperparameters.values["x"]
        oracle.update_trial(trial.trial_id, {"val_loss": x**2, "size_kb": (x - 1) ** 2})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
        # Everything between 0 and 1 is on the front; what lies beyond 1 is beaten.
        if number >= 30:
            front.add(round(x, 1))
    assert len([x for x in front if 0 <= x <= 1]) >= 5


def test_what_an_algorithm_cannot_do_is_refused() -> None:
    with pytest.raises(Refused, match="bayesian takes one objective, not 2\nuse --algorithm genetic"):
        oracles.check("bayesian", parse("accuracy,-latency_ms"), 10)
    with pytest.raises(Refused, match="hyperband goes by a number of every epoch"):
        oracles.check("hyperband", parse("-latency_ms"), 10)
    with pytest.raises(Refused, match="nothing to halve"):
        oracles.check("hyperband", LOSS, 2)
