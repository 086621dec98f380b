"""What a private run has spent, kept in its folder as privacy.json: the proof's numbers, and what it does not cover."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tfapp.errors import Missing
from tfapp.private import accounting
from tfapp.private.accounting import Accountant, Mechanism, Sampling

FILE = "privacy.json"
VERSION = 1
# The other δ at which ε is told. All smaller ones: with the default δ the next larger power of ten is no less than 1 / n.
SMALLER = (10, 100, 1000)
ACCOUNTANTS: tuple[Accountant, ...] = ("pld", "rdp")
RELATION: dict[Sampling, str] = {
    "poisson": "add or remove one: two sets of training examples are neighbours if one has one example more",
    "shuffle": "zero-out one: two sets of training examples are neighbours if one example counts in the one, and is an "
    "empty place in the other",
}
NOT_COVERED = (
    "Only the training part is protected. Scores of the validation and the test part are released without noise.",
    "The number of training examples, the names of the classes and the shapes and ranges of the features are taken as public.",
    "Hyperparameters that were chosen by looking at earlier trainings on these examples: compose those too (tfapp tune does).",
    "The noise is of floating-point numbers, by Box and Muller from the counter-based generator Philox with a 64-bit key of "
    "the operating system: no cryptographic generator, and not safe against attacks on the lowest bits of floats (Mironov 2012).",
    "An example is what is protected: of a person with several examples each one is, and the person less.",
    "Who reads the key in the run's folder can take the noise off what was released: keep the folder's private part to yourself.",
)
NO_METRICS = (
    "Losses and scores of an epoch over the training examples have no noise: they are kept out of what the run writes."
)
SHOWS_METRICS = (
    "Losses and scores of each epoch over the training examples were written without noise (private.show_training_metrics): "
    "who sees them sees more than ε allows."
)
ENDED_EARLY = (
    "The run took fewer steps than planned: ε is that of a run planned so long. If how it went decided when it ended, only "
    "the planned ε is proved."
)
INSECURE = (
    "The key was given and is known: who knows it can take the noise off. Nothing is private here; it is for tests."
)


@dataclass(frozen=True)
class Ledger:
    """The privacy of one run: what was planned, what was done, and what that proves.

    Attributes:
      sampling, examples, batch_size: as `Mechanism` has them. noise_multiplier: σ that is accounted.
      planned_steps: of the whole run. steps: taken so far, over all its resumes.
      delta: of the guarantee, the chance of a Poisson batch's overflow included. accountant: that the run was planned by.
      gradient_noise: σ on the gradient's sum. count_noise: σ_b on the count of the clipped ones, of adaptive clipping.
      clip_norm: C, or the norm that adaptive clipping begins with. clip_quantile: of adaptive clipping, the share of
        gradients that is to be below C.
      capacity: places of a Poisson batch. overflow: by how much δ grows for it in the planned steps.
      planned_epsilon: by accountant, at δ. epsilon: by accountant, at δ, of the steps taken. at: (δ, ε) by the run's
        accountant at three smaller δ, of the steps taken. readings: (words, ε) of the planned steps, as others count.
      key: {"source": "operating system"}, or {"source": "fixed", "insecure": true}.
      data_sha256: digest of the run's examples. parents: of the private runs on whose weights this one began; what they
        spent is in every ε here.
      shows_metrics: whether scores over the training examples were written each epoch.
      id: of this run alone, so that nothing is counted twice.
    """

    sampling: Sampling
    examples: int
    batch_size: int
    noise_multiplier: float
    planned_steps: int
    steps: int
    delta: float
    accountant: Accountant
    gradient_noise: float
    count_noise: float | None
    clip_norm: float
    clip_quantile: float | None
    capacity: int | None
    overflow: float
    planned_epsilon: Mapping[str, float]
    epsilon: Mapping[str, float]
    at: tuple[tuple[float, float], ...]
    readings: tuple[tuple[str, float], ...]
    key: Mapping[str, Any]
    data_sha256: str | None
    parents: tuple[Ledger, ...] = ()
    shows_metrics: bool = False
    id: str = field(default_factory=lambda: secrets.token_hex(8), compare=False)

    @property
    def q(self) -> float:
        """The sampling rate."""
        return self.batch_size / self.examples

    @property
    def spent(self) -> float:
        """ε at δ of the steps taken, by the run's accountant."""
        return self.epsilon[self.accountant]

    @property
    def adaptive(self) -> bool:
        """Whether the clipping norm follows the gradients."""
        return self.clip_quantile is not None

    @property
    def insecure(self) -> bool:
        """Whether the noise can be taken off by who knows the key, so that nothing is private."""
        return bool(self.key.get("insecure"))

    @property
    def planned(self) -> Mechanism:
        """What the run was to do."""
        return Mechanism(self.sampling, self.examples, self.batch_size, self.noise_multiplier, self.planned_steps)

    @property
    def done(self) -> Mechanism:
        """What it has done."""
        return replace(self.planned, steps=self.steps)

    @property
    def assumption(self) -> str:
        """What the accountant takes the sampling to be, which is what the run does."""
        if self.sampling == "shuffle":
            return f"every example once an epoch, in batches of {self.batch_size:,}; nothing is gained by the shuffling"
        places = f"; batches have {self.capacity:,} places" if self.capacity else ""
        return f"every example in every step by a coin of its own, with probability {self.q:.4g}{places}"

    @property
    def not_covered(self) -> tuple[str, ...]:
        """What the guarantee does not say, a sentence each."""
        return (
            *((INSECURE,) if self.insecure else ()),
            *((ENDED_EARLY,) if 0 < self.steps < self.planned_steps else ()),
            SHOWS_METRICS if self.shows_metrics else NO_METRICS,
            *NOT_COVERED,
        )


def made(
    mechanism: Mechanism,
    delta: float,
    accountant: Accountant,
    *,
    key: Mapping[str, Any],
    data_sha256: str | None,
    clip_norm: float,
    clip_quantile: float | None = None,
    gradient_noise: float | None = None,
    count_noise: float | None = None,
    capacity: int | None = None,
    parents: Sequence[Ledger] = (),
    shows_metrics: bool = False,
) -> Ledger:
    """The ledger of a run that is about to begin: everything planned, nothing taken.

    Args:
      delta: what is promised; what is left of it beside the overflow of `capacity` is the mechanism's.
      gradient_noise: where it is not what is accounted, with adaptive clipping.

    Raises:
      Refused, Usage: δ says nothing of so many examples. Missing: dp-accounting is not installed.
    """
    accounting.check(None, delta, mechanism.examples)
    overflow = 0.0
    if mechanism.sampling == "poisson" and capacity is not None:
        overflow = accounting.overflow(mechanism.examples, mechanism.batch_size, mechanism.steps, capacity)
    found = Ledger(
        sampling=mechanism.sampling,
        examples=mechanism.examples,
        batch_size=mechanism.batch_size,
        noise_multiplier=mechanism.noise_multiplier,
        planned_steps=mechanism.steps,
        steps=0,
        delta=delta,
        accountant=accountant,
        gradient_noise=mechanism.noise_multiplier if gradient_noise is None else gradient_noise,
        count_noise=count_noise,
        clip_norm=clip_norm,
        clip_quantile=clip_quantile,
        capacity=capacity,
        overflow=overflow,
        planned_epsilon={},
        epsilon={},
        at=(),
        readings=tuple(accounting.readings(mechanism, delta)),
        key=dict(key),
        data_sha256=data_sha256,
        parents=tuple(parents),
        shows_metrics=shows_metrics,
    )
    planned: dict[str, float] = {
        by: _spent([replace(found, steps=mechanism.steps)], [delta], by)[0] for by in ACCOUNTANTS
    }
    return taken(replace(found, planned_epsilon=planned), 0)


def taken(ledger: Ledger, steps: int) -> Ledger:
    """The ledger when so many steps have been taken in all."""
    found = replace(ledger, steps=steps)
    deltas = [ledger.delta, *(float(f"{ledger.delta / by:.6g}") for by in SMALLER)]
    every = {by: _spent([found], deltas, by) for by in ACCOUNTANTS}
    own = every[ledger.accountant]
    return replace(
        found,
        epsilon={by: values[0] for by, values in every.items()},
        at=tuple(zip(deltas[1:], own[1:], strict=True)),
    )


def together(ledgers: Iterable[Ledger], delta: float | None = None, disjoint: bool = False) -> dict[str, Any]:
    """What several runs give away together: the price of having looked at all of them before one is chosen.

    Runs on the same examples are composed. Those on other examples, by the digest, are too, as it is not known that no
    example is in both: the sum always holds.

    Args:
      delta: the least of theirs, unless it is said.
      disjoint: whoever asks knows that different digests share no example; then each example is in one group of runs, and
        the group that spent most counts.

    Returns:
      runs, steps, delta, epsilon by accountant (null where there is none), accountant (the runs'), largest (the most of one run alone), data (how
      many sets of examples), how (in words), sampling, relation, insecure, not_covered.

    Raises:
      Missing: dp-accounting is not installed.
    """
    every = unlike(ledgers)
    if not every:
        return {}
    delta = min(one.delta for one in every) if delta is None else delta
    groups: dict[str | None, list[Ledger]] = {}
    for one in every:
        groups.setdefault(one.data_sha256 if disjoint else None, []).append(one)
    alone = [replace(one, parents=()) for one in every]
    by = every[0].accountant if len({one.accountant for one in every}) == 1 else "rdp"
    return {
        "version": VERSION,
        "runs": len(every),
        "steps": sum(one.steps for one in every),
        "delta": delta,
        "accountant": by,
        "epsilon": {by: _finite(max(_spent(group, [delta], by)[0] for group in groups.values())) for by in ACCOUNTANTS},
        "largest": _finite(max(_spent([one], [delta], by)[0] for one in _alike(alone))),
        "data": len({one.data_sha256 for one in every}),
        "how": "the set of examples on which most was spent counts: they are said to share none"
        if disjoint and len(groups) > 1
        else "composed: each run counts with the steps that it took",
        "sampling": sorted({one.sampling for one in every}),
        "relation": [RELATION[sampling] for sampling in sorted({one.sampling for one in every})],
        "insecure": any(one.insecure for one in every),
        "not_covered": list(dict.fromkeys(sentence for one in every for sentence in one.not_covered)),
    }


def lines(ledger: Ledger) -> list[str]:
    """What is said before a run begins: what it costs, by which numbers, and what others would say of it."""
    epsilon = ledger.planned_epsilon[ledger.accountant]
    sampling = "Poisson, add or remove one" if ledger.sampling == "poisson" else "each once an epoch, zero-out one"
    told = [
        f"private: σ {ledger.noise_multiplier:.4g}, q {ledger.q:.4g}, {ledger.planned_steps:,} steps, δ {ledger.delta:g}: "
        f"ε {said(epsilon)} ({ledger.accountant.upper()}, {sampling})"
    ]
    if ledger.adaptive:
        told.append(
            f"clipping norm adapts to the quantile {ledger.clip_quantile:g}, from {ledger.clip_norm:g}: noise "
            f"{ledger.gradient_noise:.4g} on the gradient and {ledger.count_noise or 0:.4g} on the count"
        )
    if ledger.capacity is not None:
        told.append(f"batches of {ledger.batch_size:,} on average have {ledger.capacity:,} places")
    if ledger.parents:
        told.append(
            f"ε counts what {len(unlike(ledger.parents))} earlier runs, from which this one goes on, have spent"
        )
    readings = "; ".join(f"ε {said(value)} ({words})" for words, value in ledger.readings)
    if readings:
        told.append(f"the same run by other readings: {readings}")
    if ledger.insecure:
        told.append(INSECURE)
    return told


def said(epsilon: float) -> str:
    """An ε to three digits, rounded up: 2.9981 → 3, 0.99997 → 1, 12.341 → 12.4."""
    if not math.isfinite(epsilon):
        return "∞"
    if epsilon <= 0:
        return "0"
    unit = 10.0 ** (math.floor(math.log10(epsilon)) - 2)
    # Not up by what is but the last bit of a float.
    return f"{math.ceil(round(epsilon / unit, 6)) * unit:.4g}"


def told(ledger: Ledger) -> dict[str, Any]:
    """The ledger as report.json has it: with what it spent by when, and how others would count the steps taken.

    ε that does not exist is null.
    """
    readings = (
        ledger.readings if ledger.steps == ledger.planned_steps else accounting.readings(ledger.done, ledger.delta)
    )
    points = accounting.curve(ledger.done, ledger.delta - ledger.overflow, ledger.accountant)
    if points and not ledger.parents:
        points[-1] = (ledger.steps, ledger.spent)
    return {
        **plain(ledger),
        "readings": [[words, _finite(value)] for words, value in readings],
        "curve": [[step, _finite(value)] for step, value in points],
    }


def write(folder: Path, ledger: Ledger) -> Path:
    """Write privacy.json into a run's folder, whole.

    A run that goes on makes its ledger anew and stays the run that it was: it keeps the id that is there.
    """
    from tfapp.run import Run

    with suppress(Missing):  # What is damaged is written anew.
        held = read(folder)
        if held and (held.planned, held.data_sha256) == (ledger.planned, ledger.data_sha256):
            ledger = replace(ledger, id=held.id)
    return Run(folder).write(FILE, plain(ledger))


def read(folder: Path) -> Ledger | None:
    """A run's ledger; None where it was not trained privately.

    Raises:
      Missing: it is damaged, or of a later version of tfapp.
    """
    from tfapp.run import Run

    held = Run(folder).read(FILE)
    if not held:
        return None
    try:
        return of(held)
    except (KeyError, TypeError, ValueError) as error:
        raise Missing(
            f"{folder / FILE} cannot be read: {type(error).__name__}: {error}\n"
            "put it back as it was written: what a run has spent is known from nowhere else"
        ) from None


def of(held: Mapping[str, Any]) -> Ledger:
    """The ledger that `plain` made this of.

    Raises:
      KeyError, TypeError, ValueError: it did not.
    """
    if held["version"] != VERSION:
        raise ValueError(f"version {held['version']}, and this tfapp reads version {VERSION}")
    names = {one.name for one in fields(Ledger)}
    values = {name: value for name, value in held.items() if name in names}
    return Ledger(
        **{
            **values,
            "planned_epsilon": {by: _infinite(value) for by, value in held["planned_epsilon"].items()},
            "epsilon": {by: _infinite(value) for by, value in held["epsilon"].items()},
            "at": tuple((float(delta), _infinite(value)) for delta, value in held["at"]),
            "readings": tuple((str(words), _infinite(value)) for words, value in held["readings"]),
            "parents": tuple(of(one) for one in held["parents"]),
        }
    )


def plain(ledger: Ledger) -> dict[str, Any]:
    """As JSON: what was given and found, and for who reads the file what it means."""
    return {
        "version": VERSION,
        **{name: value for name, value in asdict(ledger).items() if name != "parents"},
        "planned_epsilon": {by: _finite(value) for by, value in ledger.planned_epsilon.items()},
        "epsilon": {by: _finite(value) for by, value in ledger.epsilon.items()},
        "at": [[delta, _finite(value)] for delta, value in ledger.at],
        "readings": [[words, _finite(value)] for words, value in ledger.readings],
        "parents": [plain(one) for one in ledger.parents],
        "sampling_rate": ledger.q,
        "relation": RELATION[ledger.sampling],
        "assumption": ledger.assumption,
        "not_covered": list(ledger.not_covered),
    }


def _finite(epsilon: float) -> float | None:
    return epsilon if math.isfinite(epsilon) else None


def _infinite(epsilon: float | None) -> float:
    return math.inf if epsilon is None else float(epsilon)


def _spent(ledgers: Iterable[Ledger], deltas: Sequence[float], accountant: Accountant) -> list[float]:
    """ε at each δ of the steps that runs and those they came from have taken; inf where overflow leaves nothing of δ."""
    every = unlike(ledgers)
    overflow = sum(one.overflow for one in every)
    left = [delta - overflow for delta in deltas]
    some = [delta for delta in left if delta > 0]
    found = iter(accounting.epsilons([one.done for one in every], some, accountant) if some else ())
    return [next(found) if delta > 0 else math.inf for delta in left]


def unlike(ledgers: Iterable[Ledger]) -> list[Ledger]:
    """The runs and those from which they went on, each once, with the most steps that are known of it."""
    found: dict[str, Ledger] = {}
    for ledger in ledgers:
        for one in (*unlike(ledger.parents), ledger):
            known = found.get(one.id)
            if known is None or known.steps < one.steps:
                found[one.id] = one
    return list(found.values())


def _alike(ledgers: Iterable[Ledger]) -> list[Ledger]:
    """One of each kind of run: twenty trials of one plan are accounted once."""
    return list({(one.done, one.overflow): one for one in ledgers}.values())
