"""What a private training gives away at most, by dp-accounting, and how much noise holds it to that.

All of it is about one mechanism: each step takes some training examples, clips each one's gradient to norm C, and
releases their sum with Gaussian noise of standard deviation σ·C on each number.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tfapp.errors import Missing, Refused, Usage

if TYPE_CHECKING:
    from dp_accounting import DpEvent

Accountant = Literal["pld", "rdp"]
Sampling = Literal["poisson", "shuffle"]
# Sampling rate, noise multiplier, how often.
Released = tuple[float, float, int]

# The share of δ that a batch too large for its capacity may take: little enough to tell ε at a thousandth of δ too. A batch
# of 256 of 60,000 has 380 places by it, and 362 at a tenth of δ.
OVERFLOW = 1e-4
# dp-accounting's own width of a bucket of privacy loss. Where ε is beyond LARGE, nobody looks at its fourth decimal,
# and so fine buckets would take gigabytes.
INTERVAL, LARGE = 1e-4, 100.0
# No privacy at all, where the bound of RDP is as good as any, and the numbers of PLD overflow.
BEYOND = 1e5
# Below this ε the buckets of PLD would take gigabytes; RDP's bound, which holds too, finds the noise.
FINEST = 1e-2
# Enough for a picture, ten times as fast, and still an upper bound.
COARSE = 1e-3
# How near to the least noise `noise_for` comes, relative.
PRECISION = 1e-3
MOST_NOISE = 1e4
LEAST_NOISE = 0.05


@dataclass(frozen=True)
class Mechanism:
    """The noisy sums of one training.

    Attributes:
      sampling: poisson: each example is in each step with probability q, whatever else is in it. shuffle: each example is
        in one step of each epoch.
      examples: n, that there are to train on. batch_size: how many of them a step takes; of poisson the expected number.
      noise_multiplier: σ, in units of the clipping norm; with adaptive clipping that of gradient and count together.
      steps: of the whole run.

    Raises:
      Refused: there are fewer examples than a batch takes. Usage: a number that none of these can be.
    """

    sampling: Sampling
    examples: int
    batch_size: int
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        if self.batch_size > self.examples:
            raise Refused(
                f"a batch of {self.batch_size:,} is more than the {self.examples:,} training examples, and private training "
                f"draws a batch from them\nset fit.batch_size={self.examples} or less: the smaller, the less is given away"
            )
        if self.batch_size < 1 or self.steps < 0 or not self.noise_multiplier >= 0:
            raise Usage(
                f"batch size {self.batch_size}, {self.steps} steps, noise multiplier {self.noise_multiplier:g}: the first is "
                "at least 1, the others at least 0"
            )

    @property
    def q(self) -> float:
        """The sampling rate: the chance of an example to be in a step."""
        return self.batch_size / self.examples

    @property
    def epochs(self) -> int:
        """How often a shuffled example can have been taken, an epoch that was only begun included."""
        return math.ceil(self.steps / math.ceil(self.examples / self.batch_size))


def epsilon(mechanisms: Mechanism | Iterable[Mechanism], delta: float, accountant: Accountant = "pld") -> float:
    """The ε of (ε, δ)-differential privacy of one training, or of several on the same examples; inf where there is none.

    Neighbours differ by one example that is there or not (poisson), or that counts or is zero (shuffle).

    Args:
      delta: in (0, 1).
      accountant: pld composes privacy loss distributions, the tightest (Doroshenko et al. 2022, arXiv:2207.04380; of δ
        below 1e-12 its rounding tells too much). rdp composes Rényi divergences (Mironov 2017, arXiv:1702.07476).

    Raises:
      Usage: no such δ. Missing: dp-accounting is not installed.
    """
    return epsilons(mechanisms, [delta], accountant)[0]


def epsilons(
    mechanisms: Mechanism | Iterable[Mechanism], deltas: Sequence[float], accountant: Accountant = "pld"
) -> list[float]:
    """As `epsilon`, for several δ at the cost of one."""
    every = [mechanisms] if isinstance(mechanisms, Mechanism) else mechanisms
    return list(_epsilons(_counted(every), tuple(deltas), accountant))


def noise_for(
    mechanism: Mechanism,
    epsilon: float,
    delta: float,
    accountant: Accountant = "pld",
    before: Sequence[Mechanism] = (),
) -> float:
    """The least noise multiplier by which the training stays within (ε, δ), to 1e-3 of it and never below.

    Args:
      mechanism: its own noise multiplier does not matter.
      before: what was spent on the same examples already, and counts too.

    Raises:
      Refused: δ is no less than 1 / n, or no noise is enough. Usage: ε or δ is not above 0. Missing: no dp-accounting.
    """
    check(epsilon, delta, mechanism.examples)
    if not mechanism.steps:
        raise Usage("no noise is needed where there is no step\ntrain for an epoch or more")

    def spent(noise: float, by: Accountant, interval: float | None = None) -> float:
        every = [*before, replace(mechanism, noise_multiplier=noise)]
        return _epsilons(_counted(every), (delta,), by, interval)[0]

    # RDP is cheap and near; then PLD in buckets that are coarse, and then in its own.
    found = _least(lambda noise: spent(noise, "rdp"), epsilon, 1.0, 1.0)
    if found is not None and accountant == "pld" and epsilon >= FINEST:
        coarse = COARSE * min(1.0, epsilon)
        near = _least(lambda noise: spent(noise, "pld", coarse), epsilon, found, 0.1)
        found = _least(lambda noise: spent(noise, "pld"), epsilon, near or found, 0.005)
    if found is None:
        raise Refused(
            f"no noise reaches ε {epsilon:g} at δ {delta:g} in {mechanism.steps:,} steps of {mechanism.batch_size:,} of "
            f"{mechanism.examples:,} examples{', beside what was spent before' if before else ''}\ntake a larger private.epsilon, fewer steps (fit.epochs), or a smaller "
            "fit.batch_size"
        )
    return found


def check(epsilon: float | None, delta: float, examples: int) -> None:
    """Make sure that an (ε, δ) says something of so many examples; ε None is not looked at.

    Raises:
      Usage: one of them is not above 0. Refused: δ is 1 / n or more.
    """
    if epsilon is not None and not (epsilon > 0 and math.isfinite(epsilon)):
        raise Usage(
            f"private.epsilon={epsilon:g}: a privacy budget is above 0\ntry 3; below 1 is strict, above 10 weak"
        )
    if not delta > 0:
        raise Usage(f"private.delta={delta:g}: δ is above 0\nleave it out for {default_delta(examples):g}")
    if delta * examples >= 1:
        raise Refused(
            f"δ {delta:g} is no less than 1 / {examples:,}: publishing one whole example would be called private\n"
            f"leave private.delta out for {default_delta(examples):g}"
        )


def default_delta(examples: int) -> float:
    """The largest power of ten below 1 / n: what δ is where nobody says."""
    return float(f"1e-{len(str(examples))}")


def overflow(examples: int, batch_size: int, steps: int, capacity: int) -> float:
    """By how much δ grows because a Poisson batch has so many places and no more.

    That is the chance that some step fills or exceeds them, by the union bound, with the neighbour's one example more.
    It is added once and not e^ε times: of a batch with room for one more, neighbours keep the same privacy loss as
    without any capacity, and whatever is done with the others is within this chance. A full one counts too, as the
    neighbour's example would not fit.
    """
    if capacity >= examples:
        return 0.0
    from scipy.stats import binom

    return min(1.0, steps * float(binom.sf(capacity - 1, examples + 1, batch_size / examples)))


def capacity(examples: int, batch_size: int, steps: int, at_most: float) -> int:
    """The fewest places of a Poisson batch by which `overflow` is at most this; n where no fewer are enough."""
    from scipy.stats import binom

    if not steps:
        return batch_size
    rate = batch_size / examples
    found = int(binom.isf(min(1.0, at_most / steps), examples + 1, rate)) + 1
    # scipy's quantile is one off at times.
    while found > 1 and overflow(examples, batch_size, steps, found - 1) <= at_most:
        found -= 1
    while found < examples and overflow(examples, batch_size, steps, found) > at_most:
        found += 1
    return min(found, examples)


def divided(noise_multiplier: float, count_noise: float) -> float:
    """The noise multiplier of the gradient when a count of the clipped ones is released beside it.

    Together they cost what one sum with `noise_multiplier` costs: z_Δ = (z⁻² - (2 σ_b)⁻²)^(-1/2) (Andrew et al. 2021,
    arXiv:1905.03871, theorem 1).

    Args:
      count_noise: σ_b, standard deviation of the noise on the count of examples in a batch whose norm is below C.

    Raises:
      Refused: the count alone costs more than that.
    """
    left = noise_multiplier**-2 - (2 * count_noise) ** -2 if count_noise > 0 else -1.0
    if left <= 0:
        raise Refused(
            f"noise of {count_noise:g} on the count of adaptive clipping gives away all that noise {noise_multiplier:.4g} may\n"
            f"set it above {noise_multiplier / 2:.4g}: a twentieth of the batch is usual"
        )
    return left**-0.5


def readings(mechanism: Mechanism, delta: float) -> list[tuple[str, float]]:
    """What other accountants, and others' assumptions on sampling and neighbours, say of the same numbers: (words, ε).

    None is below the tightest that holds. Replacing an example by another moves a sum by up to 2 C, so σ counts half
    there; tools that leave this out tell the first of the two numbers for batches of fixed size.
    """
    import dp_accounting
    from dp_accounting import NeighboringRelation

    once = replace(mechanism, sampling="shuffle")
    halved = replace(once, noise_multiplier=mechanism.noise_multiplier / 2)

    def fixed(noise: float) -> float:
        event = dp_accounting.SampledWithoutReplacementDpEvent(
            mechanism.examples, mechanism.batch_size, dp_accounting.GaussianDpEvent(noise)
        )
        relation = NeighboringRelation.REPLACE_ONE
        return _rdp(dp_accounting.SelfComposedDpEvent(event, mechanism.steps), [delta], relation)[0]

    if not (mechanism.steps and mechanism.noise_multiplier):
        return []
    if mechanism.sampling == "shuffle":
        return [
            ("RDP, each example once an epoch, zero-out one", epsilon(once, delta, "rdp")),
            ("PLD, each example once an epoch, replace one", epsilon(halved, delta)),
            ("RDP, each example once an epoch, replace one", epsilon(halved, delta, "rdp")),
        ]
    return [
        ("RDP, Poisson, add or remove one", epsilon(mechanism, delta, "rdp")),
        (
            "RDP, batches of fixed size, replace one, as if that moved a sum by C only",
            fixed(mechanism.noise_multiplier),
        ),
        ("RDP, batches of fixed size, replace one", fixed(mechanism.noise_multiplier / 2)),
        ("PLD, each example once an epoch, zero-out one", epsilon(once, delta)),
        ("RDP, each example once an epoch, zero-out one", epsilon(once, delta, "rdp")),
    ]


def curve(
    mechanism: Mechanism, delta: float, accountant: Accountant = "pld", points: int = 20
) -> list[tuple[int, float]]:
    """(step, ε) at some twenty steps to the last: what is spent by when. Of PLD within 1 % above `epsilon`, and faster."""
    steps = sorted({math.ceil(mechanism.steps * i / points) for i in range(1, points + 1)}) if mechanism.steps else []
    released = [(step, _counted([replace(mechanism, steps=step)])) for step in steps]
    return [(step, _epsilons(so_far, (delta,), accountant, COARSE)[0]) for step, so_far in released]


def _counted(mechanisms: Iterable[Mechanism]) -> tuple[Released, ...]:
    """All that was released, (sampling rate, noise, times); equal steps are counted together, which makes it fast."""
    counts: dict[tuple[float, float], int] = {}
    for one in mechanisms:
        rate, times = (one.q, one.steps) if one.sampling == "poisson" else (1.0, one.epochs)
        if times:
            counts[rate, one.noise_multiplier] = counts.get((rate, one.noise_multiplier), 0) + times
    return tuple((rate, noise, times) for (rate, noise), times in counts.items())


@functools.lru_cache(256)
def _epsilons(
    released: tuple[Released, ...], deltas: tuple[float, ...], accountant: Accountant, interval: float | None = None
) -> tuple[float, ...]:
    """ε at each δ, kept: where a run is begun, goes on and ends, the same is asked for often."""
    for delta in deltas:
        if not 0 < delta < 1:
            raise Usage(f"δ {delta:g}: it is a probability, above 0 and below 1")
    if not all(noise for _, noise, _ in released):
        return (math.inf,) * len(deltas)
    if not released:
        return (0.0,) * len(deltas)
    try:
        import dp_accounting as dp
        from dp_accounting.pld import PLDAccountant
    except ImportError:
        raise Missing("private training needs dp-accounting\ninstall it: pip install 'tfapp[private]'") from None
    events: list[Any] = []
    for rate, noise, times in released:
        gaussian = dp.GaussianDpEvent(noise)
        events.append(dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(rate, gaussian) if rate < 1 else gaussian, times))
    event = dp.ComposedDpEvent(events)
    known = _rdp(event, deltas)
    large = max(known)
    if accountant == "rdp" or large > BEYOND:
        return known
    width = interval or (INTERVAL if large <= LARGE else INTERVAL * large / LARGE)
    told = PLDAccountant(value_discretization_interval=width).compose(event)
    return tuple(float(told.get_epsilon(delta)) for delta in deltas)


def _rdp(event: DpEvent, deltas: Sequence[float], relation: Any = None) -> tuple[float, ...]:
    import warnings

    import numpy as np
    from dp_accounting import NeighboringRelation
    from dp_accounting.rdp import RdpAccountant

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # Of orders that overflow where σ is tiny; others give the answer.
        told = RdpAccountant(neighboring_relation=relation or NeighboringRelation.ADD_OR_REMOVE_ONE).compose(event)
        found = [float(told.get_epsilon(delta)) for delta in deltas]
    return tuple(math.inf if math.isnan(one) else one for one in found)


def _least(spent: Callable[[float], float], epsilon: float, guess: float, stride: float) -> float | None:
    """The least noise that spends ε or less, to PRECISION; LEAST_NOISE where that does, None where MOST_NOISE does not.

    ε is about a power of the noise, so a straight line between logarithms is nearly right at once.

    Args:
      stride: how far from the guess to look first, of the logarithm; doubled until both sides are known.
    """

    def excess(place: float) -> float:
        return math.log(max(spent(math.exp(place)), 1e-12) / epsilon)

    least, most = math.log(LEAST_NOISE), math.log(MOST_NOISE)
    high = low = math.log(guess)
    of_high = of_low = excess(high)
    while of_high > 0:
        if high >= most:
            return None
        low, of_low, high = high, of_high, min(most, high + stride)
        of_high, stride = excess(high), 2 * stride
    # ε falls at least as fast as the noise grows: what spends nearly all is near the least.
    while of_low <= 0 and of_high < -PRECISION:
        if low <= least:
            return LEAST_NOISE
        high, of_high, low = low, of_low, max(least, low - stride)
        of_low, stride = excess(low), 2 * stride
    while high - low > PRECISION and of_high < -PRECISION:
        # Of the steep first half of a wide bracket a line knows little.
        straight = low + (high - low) * of_low / (of_low - of_high) if of_low < 3 else (low + high) / 2
        middle = min(max(straight + PRECISION / 3, low + PRECISION / 2), high - PRECISION / 2)
        found = excess(middle)
        if found > 0:
            low, of_low = middle, found
        else:
            high, of_high = middle, found
    return math.exp(high)
