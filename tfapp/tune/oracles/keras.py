"""Keras Tuner's own algorithms, silent and without files of theirs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import keras_tuner
import numpy as np
from sklearn.exceptions import ConvergenceWarning

# Failed trials are the search's business: it tries them again, and goes on whatever their number.
PATIENT = 2**31
# Trials drawn at random before there is a posterior. Keras Tuner's three a setting would be all twenty of a search over
# seven settings; Optuna's TPE begins with as many.
FIRST = 10


class Quiet:
    """Comes first among an Oracle's classes: nothing is printed and nothing is written."""

    def __init__(self, **settings: Any):
        super().__init__(**settings, max_consecutive_failed_trials=PATIENT)  # type: ignore[call-arg]
        self.verbose = 0

    def save(self) -> None:
        """The search's journal holds all."""

    def _save_trial(self, trial: Any) -> None:
        """The search's journal holds all."""


class Random(Quiet, keras_tuner.oracles.RandomSearchOracle):
    """Random search. The search counts the trials."""

    def __init__(self, **settings: Any):
        super().__init__(max_trials=None, **settings)


class Grid(Quiet, keras_tuner.oracles.GridSearchOracle):
    """Every combination in turn."""


class Hyperband(Quiet, keras_tuner.oracles.HyperbandOracle):
    """Hyperband: a trial's values say up to which epoch it is trained, and from which trial it goes on."""


class Bayesian(Quiet, keras_tuner.oracles.BayesianOptimizationOracle):
    """Bayesian optimisation whose draws hang on the trial's number alone, so that known trials need no posterior."""

    def __init__(self, known: Mapping[str, Mapping[str, Any]], **settings: Any):
        super().__init__(max_trials=None, num_initial_points=FIRST, **settings)
        self._known = known

    def _make_gpr(self) -> Any:
        # The kernel's length scale is found from a few starts; twenty take seconds and find no other.
        return super()._make_gpr().set_params(n_restarts_optimizer=4)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        if trial_id in self._known:
            return {"status": "RUNNING", "values": dict(self._known[trial_id])}
        seeds = np.random.SeedSequence([self.seed, int(trial_id)]).generate_state(2)
        self._seed_state, self._random_state = int(seeds[0]), np.random.RandomState(seeds[1])
        with warnings.catch_warnings():
            # Scores that are all alike leave the kernel's scale open, which does no harm.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().populate_space(trial_id)


ORACLES: dict[str, type] = {"random": Random, "grid": Grid, "hyperband": Hyperband, "bayesian": Bayesian}
