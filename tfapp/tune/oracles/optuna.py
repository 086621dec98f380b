"""Optuna's samplers as one Keras Tuner Oracle."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras_tuner
import optuna

from tfapp.tune.objective import Objective
from tfapp.tune.oracles import vectors
from tfapp.tune.oracles.keras import Quiet

# For budgets of a hundred trials: ten generations and not Optuna's two.
POPULATION = 10


def _tpe(seed: int) -> Any:
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _cmaes(seed: int) -> Any:
    # Choices without an order are no dimensions of a normal distribution: those are drawn alone.
    independent = optuna.samplers.RandomSampler(seed)
    return optuna.samplers.CmaEsSampler(seed=seed, independent_sampler=independent, warn_independent_sampling=False)


def _genetic(seed: int) -> Any:
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION)


SAMPLERS = {"tpe": _tpe, "cmaes": _cmaes, "genetic": _genetic}


class Optuna(Quiet, keras_tuner.Oracle):
    """Asks an Optuna study for the next trial and tells it every end.

    Numbers, and choices of numbers, are searched as shares of their range (as Keras Tuner maps them), other choices as
    they are; conditions decide which settings a trial asks for at all.

    Args:
      algorithm: of SAMPLERS. objectives: all of them; Keras Tuner's own objective is the first.
    """

    def __init__(self, algorithm: str, objectives: Sequence[Objective], **settings: Any):
        super().__init__(max_trials=None, **settings)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = SAMPLERS[algorithm](self.seed)
        directions: list[Any] = ["maximize" if objective.more else "minimize" for objective in objectives]
        self._names = [objective.name for objective in objectives]
        self._study = optuna.create_study(directions=directions, sampler=sampler)
        self._asked: dict[str, Any] = {}

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        asked = self._asked[trial_id] = self._study.ask()
        space = keras_tuner.HyperParameters()
        for hp in vectors.varying(self.hyperparameters):
            space.merge([hp])
            if space.is_active(hp):
                space.values[hp.name] = _suggest(asked, hp)
        return {"status": "RUNNING", "values": space.values}

    def end_trial(self, trial: Any) -> None:
        super().end_trial(trial)
        asked, ended = self._asked.pop(trial.trial_id), self.trials[trial.trial_id]
        if ended.status == "COMPLETED":
            self._study.tell(asked, [ended.metrics.get_last_value(name) for name in self._names])
        else:
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)


def _suggest(asked: Any, hp: Any) -> Any:
    if isinstance(hp, keras_tuner.engine.hyperparameters.Choice | keras_tuner.engine.hyperparameters.Boolean):
        if not getattr(hp, "ordered", False):
            return asked.suggest_categorical(hp.name, list(hp.values))
    return hp.prob_to_value(asked.suggest_float(hp.name, 0.0, vectors.MOST))
