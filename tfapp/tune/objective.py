"""What a search wants: one or several of a trial's numbers, each to be as large or as small as can be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tfapp.direction import more_is_better
from tfapp.errors import Usage, nearest

# What a model costs, measured once a trial; less is better.
COSTS = ("latency_ms", "size_kb", "parameters", "seconds")


@dataclass(frozen=True)
class Objective:
    """One number to search by.

    Attributes:
      name: val_accuracy, val_loss, …: of the validation part, at the epoch whose weights are kept; or one of COSTS.
      more: whether a larger value is the better one.
    """

    name: str
    more: bool

    @property
    def is_cost(self) -> bool:
        return self.name in COSTS

    def better(self, a: float, b: float) -> bool:
        """Whether value a is better than value b."""
        return a > b if self.more else a < b

    def best(self, values: Iterable[float]) -> float:
        return max(values) if self.more else min(values)

    def worst(self, values: Iterable[float]) -> float:
        return min(values) if self.more else max(values)


def parse(text: str) -> tuple[Objective, ...]:
    """Objectives from words as `accuracy,-latency_ms`: a minus asks for less, a plus for more, neither goes by the name.

    Raises:
      Usage: nothing is named, or one thing twice.
    """
    found: list[Objective] = []
    for word in (part.strip() for part in text.split(",")):
        name = word.lstrip("+-")
        if not name or len(word) - len(name) > 1:
            raise Usage(f"cannot read the objective {text!r}\nas --objective accuracy, or accuracy,-latency_ms")
        if name not in COSTS:
            name = f"val_{name.removeprefix('val_')}"
        more = word[0] == "+" if word[0] in "+-" else more_is_better(name)
        if any(name == other.name for other in found):
            raise Usage(f"the objective {text!r} names {name} twice\nname each once")
        found.append(Objective(name, more))
    return tuple(found)


def check(objectives: Sequence[Objective], numbers: Sequence[str]) -> None:
    """Make sure that a run produces them.

    Args:
      numbers: what a run writes each epoch: loss, accuracy, val_loss, …

    Raises:
      Usage: it does not, with the nearest that it does.
    """
    known = [name for name in numbers if name.startswith("val_")]
    for objective in objectives:
        if objective.is_cost or objective.name in known:
            continue
        if not known:
            raise Usage(
                f"the objective {objective.name}: this plan has no validation part, by which trials are scored\n"
                "give it one, as split.validation=0.1"
            )
        asked = objective.name.removeprefix("val_")
        named = [name.removeprefix("val_") for name in known]
        raise Usage(f"the objective {asked!r} is none of this run's numbers\n{nearest(asked, [*named, *COSTS])}")


def pareto(objectives: Sequence[Objective], scores: Mapping[str, Sequence[float]]) -> list[str]:
    """The names of those that no other one beats in every objective (equal ones stay), in the order given.

    Args:
      scores: name → its value of each objective.
    """

    def beats(a: Sequence[float], b: Sequence[float]) -> bool:
        return all(not o.better(y, x) for o, x, y in zip(objectives, a, b, strict=True)) and any(
            o.better(x, y) for o, x, y in zip(objectives, a, b, strict=True)
        )

    return [name for name, own in scores.items() if not any(beats(other, own) for other in scores.values())]
