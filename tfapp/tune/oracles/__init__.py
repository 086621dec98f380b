"""The algorithms of a search, each as a Keras Tuner Oracle: it names the next trial and is told how it went.

They live in the search's one process and keep nothing on disk: a search that goes on plays its journal back to a new
Oracle, which so comes to the very state it was in (populations, posteriors, brackets, random numbers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfapp.errors import Refused
from tfapp.tune.objective import Objective

if TYPE_CHECKING:
    from keras_tuner import HyperParameters, Oracle

ALGORITHMS = {
    "random": "independent draws",
    "grid": "every combination, of ranges without a step ten values",
    "bayesian": "a Gaussian process and the lower confidence bound",
    "hyperband": "many short trainings, of which the better ones go on (L. Li and others 2018)",
    "tpe": "tree-structured Parzen estimator (J. Bergstra and others 2011)",
    "cmaes": "covariance matrix adaptation (N. Hansen 2001)",
    "genetic": "NSGA-II (K. Deb and others 2002)",
    "pso": "particle swarm (M. Clerc and J. Kennedy 2002)",
    "evolution": "aging evolution (E. Real and others 2019)",
}
# Those that take several objectives at once; the others would add seconds to shares.
MANY = ("random", "grid", "tpe", "genetic")


def check(algorithm: str, objectives: Sequence[Objective], epochs: int) -> None:
    """Refuse what an algorithm cannot do.

    Raises:
      Refused: several objectives, or a cost, where only one number an epoch will do; nothing to halve.
    """
    if len(objectives) > 1 and algorithm not in MANY:
        raise Refused(
            f"--algorithm {algorithm} takes one objective, not {len(objectives)}\nuse --algorithm genetic, or tpe"
        )
    if algorithm == "hyperband" and objectives[0].is_cost:
        raise Refused(
            f"--algorithm hyperband goes by a number of every epoch, and {objectives[0].name} is none\n"
            "use an objective such as accuracy, or another algorithm"
        )
    if algorithm == "hyperband" and epochs < 3:
        raise Refused(
            f"--algorithm hyperband with fit.epochs={epochs}: nothing to halve\ngive it more, as fit.epochs=27"
        )


def make(
    algorithm: str,
    space: HyperParameters,
    objectives: Sequence[Objective],
    seed: int,
    epochs: int,
    known: Mapping[str, Mapping[str, Any]],
) -> Oracle:
    """The Oracle of an algorithm, at its beginning.

    Args:
      space: what is searched. seed: at least 0; the same seed and answers give the same trials.
      epochs: of a whole training, for hyperband.
      known: values of trials that a journal has, by their ids; what is drawn alone, and dear, is not drawn again.
    """
    import keras_tuner

    from tfapp.tune.oracles import evolution, keras, optuna, swarm

    first = keras_tuner.Objective(objectives[0].name, "max" if objectives[0].more else "min")
    # Keras Tuner takes a seed of 0 for none, and seeds of neighbours draw much the same numbers.
    common = {"objective": first, "hyperparameters": space, "seed": 1 + seed * 7919}
    if algorithm in optuna.SAMPLERS:
        return optuna.Optuna(algorithm, objectives, **common)
    kinds: dict[str, Any] = {"pso": swarm.Swarm, "evolution": evolution.Evolution, **keras.ORACLES}
    own: dict[str, dict[str, Any]] = {"hyperband": {"max_epochs": epochs}, "bayesian": {"known": known}}
    return kinds[algorithm](**own.get(algorithm, {}), **common)
