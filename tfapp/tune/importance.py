"""Which settings a score hangs on, by what a search has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from tfapp.tune.oracles import vectors

# Fewer trials than this say nothing of a setting.
FEWEST = 8


def importance(
    space: Any, trials: Sequence[Mapping[str, Any]], scores: Sequence[float], seed: int = 0
) -> dict[str, float]:
    """The share of the score's variance that each setting explains (fANOVA; F. Hutter and others, ICML 2014).

    Args:
      space: Keras Tuner's HyperParameters. trials: values of scored trials. scores: theirs, in the same order.
      seed: of the random forest.

    Returns:
      Setting → share, the largest first; nothing where there are too few trials. A setting that counts only under a
      condition is judged by the trials in which it did.
    """
    shares: dict[str, float] = {}
    if len(trials) < FEWEST or len(set(scores)) < 2:
        return shares
    settings = {hp.name: hp for hp in vectors.varying(space)}
    always = [name for name in settings if all(name in values for values in trials)]
    for names in [always, *([name, *always] for name in settings if name not in always)]:
        rows = [
            (values, score) for values, score in zip(trials, scores, strict=True) if all(n in values for n in names)
        ]
        varied = [name for name in names if len({values[name] for values, _ in rows}) > 1]
        if len(rows) < FEWEST or not varied or len({score for _, score in rows}) < 2:
            continue
        for name, share in _fanova(settings, varied, rows, seed).items():
            shares.setdefault(name, share)
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _fanova(
    settings: Mapping[str, Any], names: Sequence[str], rows: Sequence[tuple[Mapping[str, Any], float]], seed: int
) -> dict[str, float]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    distributions: dict[str, Any] = {name: _distribution(settings[name]) for name in names}
    for values, score in rows:
        params = {
            name: values[name]
            if isinstance(distributions[name], optuna.distributions.CategoricalDistribution)
            else min(max(float(settings[name].value_to_prob(values[name])), 0.0), 1.0)
            for name in names
        }
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=score))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(names))


def _distribution(hp: Any) -> Any:
    if getattr(hp, "ordered", True):
        return optuna.distributions.FloatDistribution(0.0, 1.0)
    return optuna.distributions.CategoricalDistribution(list(hp.values))
