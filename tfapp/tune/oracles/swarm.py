"""Particle swarm optimisation as a Keras Tuner Oracle."""

from __future__ import annotations

from typing import Any

import keras_tuner
import numpy as np

from tfapp.tune.oracles import vectors
from tfapp.tune.oracles.keras import Quiet

PARTICLES = 10
# M. Clerc and J. Kennedy, «The particle swarm: explosion, stability and convergence» (2002).
INERTIA, PULL = 0.7298, 1.49618


class Swarm(Quiet, keras_tuner.Oracle):
    """Ten particles take turns; each is drawn to its own best place and to the swarm's (J. Kennedy, R. Eberhart 1995).

    A place is a point of the unit cube that all settings share; one that a condition switches off moves unseen. A
    particle moves when its turn comes, by what is known then: trials that run side by side need not wait.
    """

    def __init__(self, **settings: Any):
        super().__init__(max_trials=None, **settings)
        self._size = len(vectors.varying(self.hyperparameters))
        self._place: dict[int, np.ndarray] = {}
        self._speed: dict[int, np.ndarray] = {}
        self._best: dict[int, tuple[float, np.ndarray]] = {}
        self._moved: dict[str, tuple[int, np.ndarray]] = {}

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        number = int(trial_id)
        particle, random = number % PARTICLES, np.random.default_rng([self.seed, number])
        if number < PARTICLES:
            self._place[particle] = random.random(self._size)
            self._speed[particle] = random.uniform(-0.5, 0.5, self._size)
        else:
            self._move(particle, random)
        place = self._place[particle]
        self._moved[trial_id] = particle, place
        return {"status": "RUNNING", "values": vectors.to_values(self.hyperparameters, place)}

    def end_trial(self, trial: Any) -> None:
        super().end_trial(trial)
        ended, (particle, place) = self.trials[trial.trial_id], self._moved.pop(trial.trial_id)
        if ended.status == "COMPLETED":
            cost = -ended.score if self.objective.direction == "max" else ended.score
            if particle not in self._best or cost < self._best[particle][0]:
                self._best[particle] = cost, place

    def _move(self, particle: int, random: np.random.Generator) -> None:
        place, speed = self._place[particle], INERTIA * self._speed[particle]
        pulls = [self._best[particle][1]] if particle in self._best else []
        pulls += [min(self._best.values(), key=lambda best: best[0])[1]] if self._best else []
        for pull in pulls:
            speed = speed + PULL * random.random(self._size) * (pull - place)
        moved = np.clip(place + speed, 0.0, 1.0)
        # A wall takes away the speed towards it.
        self._speed[particle] = np.where((moved == 0.0) | (moved == 1.0), 0.0, speed)
        self._place[particle] = moved
