"""Aging evolution as a Keras Tuner Oracle."""

from __future__ import annotations

from collections import deque
from typing import Any

import keras_tuner
import numpy as np

from tfapp.tune.oracles import vectors
from tfapp.tune.oracles.keras import Quiet

# Half of the twenty trials that a search has unless told otherwise: the rest evolves.
POPULATION, SAMPLE = 10, 5
# Standard deviation of a mutated number, as a share of its range.
SPREAD = 0.15


class Evolution(Quiet, keras_tuner.Oracle):
    """Regularised (aging) evolution: E. Real and others, «Regularized evolution for image classifier architecture
    search» (AAAI 2019).

    The population is the last POPULATION trials that ended. The best of SAMPLE of them, drawn at random, has a child
    with one setting changed: a number moves by a normal step, a choice becomes another one. What a changed choice
    switches on is drawn at random.
    """

    def __init__(self, **settings: Any):
        super().__init__(max_trials=None, **settings)
        self._population: deque[tuple[float, dict[str, Any]]] = deque(maxlen=POPULATION)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        number = int(trial_id)
        random = np.random.default_rng([self.seed, number])
        point = random.random(len(vectors.varying(self.hyperparameters)))
        if number < POPULATION or not self._population:
            return {"status": "RUNNING", "values": vectors.to_values(self.hyperparameters, point)}
        drawn = random.integers(len(self._population), size=SAMPLE)
        _, parent = min((self._population[index] for index in drawn), key=lambda one: one[0])
        return {"status": "RUNNING", "values": self._child(parent, point, random)}

    def end_trial(self, trial: Any) -> None:
        super().end_trial(trial)
        ended = self.trials[trial.trial_id]
        if ended.status == "COMPLETED":
            cost = -ended.score if self.objective.direction == "max" else ended.score
            self._population.append((cost, dict(ended.hyperparameters.values)))

    def _child(self, parent: dict[str, Any], fresh: np.ndarray, random: np.random.Generator) -> dict[str, Any]:
        settings = vectors.varying(self.hyperparameters)
        point = vectors.to_point(self.hyperparameters, parent)
        counted = np.array([hp.name in parent for hp in settings])
        point[~counted] = fresh[~counted]
        for _ in range(100):
            # A step may end in the same value of a coarse range: then there would be no child.
            changed = point.copy()
            which = int(random.choice(np.flatnonzero(counted)))
            if getattr(settings[which], "ordered", True):
                step = abs(changed[which] + random.normal(0, SPREAD))
                changed[which] = min(step, 2 - step) if step < 2 else 0.5
            else:
                changed[which] = random.random()
            child = vectors.to_values(self.hyperparameters, changed)
            if child != parent:
                break
        return child
