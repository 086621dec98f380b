"""The stages of a compression: how strong each is at a level, and the plan of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfapp.errors import Usage, nearest

# In the order in which they go together: a student is made before it is thinned out, zeros before values are shared,
# and rounding comes last.
STAGES = ("distill", "prune", "cluster", "quantize")
# From the gentlest to the strongest, evenly over the levels: the student's width, the share of zeros, a kernel's values.
STRENGTHS: dict[str, tuple[float, ...]] = {
    "distill": (0.75, 0.5, 0.35, 0.25, 0.15),
    "prune": (0.5, 0.7, 0.8, 0.9, 0.95),
    "cluster": (128, 64, 32, 16, 8),
}
LEVELS = range(1, 18)
# Those named above, for where each level costs a training.
COARSE = LEVELS[::4]


def parse(text: str) -> tuple[str, ...]:
    """«prune,cluster,quantize» as stages.

    Raises:
      Usage: an unknown stage, one twice, none, or an order in which one undoes another.
    """
    stages = tuple(part.strip() for part in text.split(",") if part.strip())
    for stage in stages:
        if stage not in STAGES:
            raise Usage(f"no stage {stage!r} in --pipeline\n{nearest(stage, STAGES)}")
    if not stages or sorted(stages, key=STAGES.index) != list(stages) or len(set(stages)) < len(stages):
        raise Usage(
            f"--pipeline {text!r}: stages come once each, in the order {','.join(STAGES)}\nleave out what you like"
        )
    return stages


def strengths(stages: Sequence[str], level: int, pinned: Mapping[str, float]) -> dict[str, float]:
    """Of each stage that trains by strength: how strong it is at a level, 1 (gentlest) to 17; pinned ones as given."""
    return {stage: pinned.get(stage, _strength(stage, level)) for stage in stages if stage in STRENGTHS}


def _strength(stage: str, level: int) -> float:
    """Between two of STRENGTHS: evenly, and evenly over the logarithm for a number of values."""
    known = STRENGTHS[stage]
    place, rest = divmod(level - 1, 4)
    if not rest:
        return known[place]
    one, next_ = known[place], known[place + 1]
    if stage == "cluster":
        return round(one * (next_ / one) ** (rest / 4))
    return round(one + (next_ - one) * rest / 4, 4)


def name(stage: str, strength: float | None) -> str:
    """What a stage's folder is called: prune-0.8, cluster-32, quantize."""
    return stage if strength is None else f"{stage}-{strength:g}"


def settings(stage: str, strength: float | None, before: str, teacher: str, epochs: int) -> dict[str, Any]:
    """What a stage's training has over the plan that it follows, as a layer of settings.

    Args:
      stage, strength: as in `strengths`. before: the run to go on from. teacher: the run that is compressed.
      epochs: of this stage.
    """
    fit = {
        "fit.epochs": epochs,
        "fit.steps": None,
        "fit.patience": None,
        "fit.schedule": {"kind": "cosine", "warmup": 0},
        # Each is what one stage does; the stage before has done its part.
        **{section: None for section in ("prune", "cluster", "quantize")},
    }
    if stage == "distill":
        return {**fit, "start": None, "distill.teacher": teacher}
    own: dict[str, dict[str, Any]] = {
        # What is pruned has the second half of the stage to recover in.
        "prune": {"prune.sparsity": strength, "prune.end": 0.5},
        "cluster": {"cluster.clusters": int(strength or 0), "cluster.begin": 0.0},
        "quantize": {"quantize.preserve": "auto"},
    }
    return {**fit, "start.run": before, "start.learning_rate": START[stage], **own[stage]}


# A pruned model has more to learn anew than one whose values move a little.
START = {"prune": 1.0, "cluster": 0.1, "quantize": 0.1}


def checked(words: Sequence[str], pipeline: Sequence[str]) -> tuple[str, ...]:
    """Words for the stages' plans, which may not speak of a stage that is not in the pipeline, or that is set already.

    Raises:
      Usage: such a word, or one that is no key=value.
    """
    for word in words:
        key, equals, _ = word.partition("=")
        section = key.partition(".")[0]
        if not equals:
            raise Usage(f"cannot read {word!r}: settings are key=value, as prune.sparsity=0.9")
        if section in STAGES and section not in pipeline:
            raise Usage(
                f"{word} is for the stage {section}, which is not in --pipeline {','.join(pipeline)}\nadd it there"
            )
        if section in {"start", "recipe", "config"} or key in {"distill.teacher", "distill"}:
            raise Usage(f"{key} is what compress sets itself, from the run\nleave it out")
    return tuple(words)
