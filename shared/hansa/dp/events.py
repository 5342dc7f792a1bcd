"""What mechanisms say they did: ``dp_accounting.DpEvent``s, the vocabulary that accountants share.

Adjacency is add or remove one customer throughout. An event is a tree of compositions over leaves; an
accountant sees only how often each leaf occurs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

import dp_accounting
from dp_accounting import DpEvent as DpEvent
from dp_accounting.dp_event import MixtureOfGaussiansDpEvent

from hansa.dp.renyi import RenyiEvent, SkellamEvent

Part = tuple[float, float, int] | tuple[Literal["skellam"], float, int, int, int]
"""Equal sums: (noise multiplier, sampling rate, count) of Gaussian ones, multiplier 0: not private; or
("skellam", variance, squared L2 norm, L1 norm, count), see ``SkellamEvent``."""

NON_PRIVATE = dp_accounting.NonPrivateDpEvent()
_NO_NOISE = 1e-3
_LARGEST = 1e30
MOST_PARTS, MOST_SUMS = 1_000, 1_000_000
"""Of an event that somebody wrote: what an accountant can be asked for without end is refused."""


def gaussian(noise_multiplier: float, sampling_rate: float = 1.0, count: int = 1) -> DpEvent:
    """The event of ``count`` Gaussian sums, each over a fresh Poisson sample of the customers.

    Args:
        noise_multiplier: Noise standard deviation over the clipping bound; 0 is no privacy at all.
        sampling_rate: Probability with which each customer takes part, secretly and independently.
        count: How many such sums.
    """
    if noise_multiplier == 0:
        return NON_PRIVATE
    return dp_accounting.SelfComposedDpEvent(_leaf(noise_multiplier, sampling_rate), count)


def _leaf(multiplier: float, rate: float) -> DpEvent:
    if multiplier < _NO_NOISE:
        return NON_PRIVATE
    event = dp_accounting.GaussianDpEvent(multiplier)
    return dp_accounting.PoissonSampledDpEvent(rate, event) if rate < 1 else event


def compose(events: Sequence[DpEvent]) -> DpEvent:
    """All of the events, one after the other."""
    return dp_accounting.ComposedDpEvent(list(events))


def to_parts(event: DpEvent) -> list[Part]:
    """The event's sums in order, to be written down.

    Raises:
        ValueError: A part is neither Gaussian nor Skellam.
    """
    return [_to_part(leaf, count) for leaf, count in _walk(event)]


def _to_part(leaf: DpEvent, count: int) -> Part:
    if isinstance(leaf, SkellamEvent):
        return ("skellam", leaf.variance, leaf.squared, leaf.absolute, count)
    if isinstance(leaf, RenyiEvent | MixtureOfGaussiansDpEvent):
        raise ValueError(f"the event {type(leaf).__name__} has no written form")
    return (*multiplier_and_rate(leaf), count)


def from_parts(parts: Sequence[Part]) -> DpEvent:
    """The event that ``to_parts`` gave; of several parts, their composition.

    Raises:
        ValueError: A part was written by nobody here, has no meaning, or is of more sums than can be.
    """
    if not 0 < len(parts) <= MOST_PARTS:
        raise ValueError(f"an event of {len(parts):,} parts")
    events = [_from_part(part) for part in parts]
    return events[0] if len(events) == 1 else compose(events)


def _from_part(part: Part) -> DpEvent:
    if len(part) == 5:
        kind, variance, squared, absolute, count = part
        sound = _positive(variance) and _whole(squared) and _whole(absolute) and _whole(count)
        if kind != "skellam" or not sound or absolute**2 < squared or count > MOST_SUMS:
            raise ValueError(f"no event is written as {part!r:.80}")
        return skellam(float(variance), squared, absolute, count)
    multiplier, rate, count = part
    sound = (multiplier == 0 or _positive(multiplier)) and _positive(rate) and rate <= 1 and _whole(count)
    if not sound or count > MOST_SUMS:
        raise ValueError(f"no event is written as {part!r:.80}")
    return gaussian(float(multiplier), float(rate), count)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LARGEST


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST


def skellam(variance: float, squared: int, absolute: int, count: int = 1) -> DpEvent:
    """The event of ``count`` sums of whole numbers with Skellam noise, see ``SkellamEvent``."""
    if variance < _NO_NOISE**2 * squared:
        return NON_PRIVATE
    return dp_accounting.SelfComposedDpEvent(SkellamEvent(variance, squared, absolute), count)


def leaves(event: DpEvent) -> Counter[DpEvent]:
    """How often each mechanism occurs in ``event``: Gaussian, Poisson-sampled, mixture, Renyi or none.

    Noise below a thousandth of the bound counts as none, so that no accountant overflows.

    Raises:
        ValueError: Some part is of a kind that no accountant here knows.
    """
    counts: Counter[DpEvent] = Counter()
    for leaf, count in _walk(event):
        counts[leaf] += count
    return counts


def _walk(event: DpEvent) -> Iterator[tuple[DpEvent, int]]:
    if isinstance(event, dp_accounting.ComposedDpEvent):
        for part in event.events:
            yield from _walk(part)
    elif isinstance(event, dp_accounting.SelfComposedDpEvent):
        yield from ((leaf, count * event.count) for leaf, count in _walk(event.event))
    elif isinstance(event, dp_accounting.GaussianDpEvent):
        yield _leaf(event.noise_multiplier, 1.0), 1
    elif isinstance(event, dp_accounting.PoissonSampledDpEvent) and isinstance(
        event.event, dp_accounting.GaussianDpEvent
    ):  # one sample for several sums, or a sample of a sample, would need another accountant
        yield _leaf(event.event.noise_multiplier, event.sampling_probability), 1
    elif isinstance(event, MixtureOfGaussiansDpEvent | RenyiEvent | dp_accounting.NonPrivateDpEvent):
        yield event, 1
    else:
        raise ValueError(f"no accountant for the event {type(event).__name__}")


def multiplier_and_rate(leaf: DpEvent) -> tuple[float, float]:
    """Of a Gaussian sum, Poisson-sampled or not; multiplier 0: without noise."""
    if isinstance(leaf, dp_accounting.NonPrivateDpEvent):
        return 0.0, 1.0
    if isinstance(leaf, dp_accounting.PoissonSampledDpEvent):
        return leaf.event.noise_multiplier, leaf.sampling_probability
    return leaf.noise_multiplier, 1.0


def with_overlap(event: DpEvent, shops: int, *, summed: bool) -> DpEvent:
    """The event seen by a person who is a customer of up to ``shops`` shops.

    Releases with each shop's own noise compose. In one sum over all shops that person moves the sum by
    up to ``shops`` bounds (group privacy of the Gaussian). With Poisson sampling, each shop's coin counts
    for itself: a mixture of Gaussians, moved by k bounds with probability Binomial(shops, rate)(k), which
    is worst where the contributions point the same way and each uses its whole bound (Choquette-Choo et
    al. 2023, arXiv 2310.15526, corollary 4.7).

    Args:
        event: What one shop's customer undergoes.
        shops: Largest declared number m of shops, at least 1.
        summed: One noisy sum over shops (central, distributed), not one a shop (local).

    Raises:
        ValueError: A part is neither a Gaussian nor a Skellam sum, and nothing is known of its overlap.
    """
    if not summed or shops == 1:
        return dp_accounting.SelfComposedDpEvent(event, shops)
    return compose(
        [dp_accounting.SelfComposedDpEvent(_shared(leaf, shops), n) for leaf, n in leaves(event).items()]
    )


def _shared(leaf: DpEvent, shops: int) -> DpEvent:
    if isinstance(leaf, dp_accounting.NonPrivateDpEvent):
        return leaf
    if isinstance(leaf, SkellamEvent):
        return leaf.at_shops(shops)
    if isinstance(leaf, RenyiEvent | MixtureOfGaussiansDpEvent):
        raise ValueError(f"the event {type(leaf).__name__} has no known overlap of shops")
    multiplier, rate = multiplier_and_rate(leaf)
    if rate == 1:
        return _leaf(multiplier / shops, 1.0)
    chances = tuple(math.comb(shops, k) * rate**k * (1 - rate) ** (shops - k) for k in range(shops + 1))
    if multiplier / shops < _NO_NOISE:
        return NON_PRIVATE
    return MixtureOfGaussiansDpEvent(multiplier, tuple(float(k) for k in range(shops + 1)), chances)


def covering(mixture: MixtureOfGaussiansDpEvent) -> DpEvent:
    """A Poisson-sampled Gaussian that is worse than ``mixture``: its largest shift whenever it moves.

    For ``with_overlap`` that is sensitivity m C at rate 1 - (1 - q)^m.
    """
    still = sum(p for c, p in zip(mixture.sensitivities, mixture.sampling_probs, strict=True) if c == 0)
    return _leaf(mixture.standard_deviation / max(mixture.sensitivities), 1 - still)
