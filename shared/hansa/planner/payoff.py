"""When joining pays: how much of pooling's gain a private federation keeps, a law in customers x epsilon.

The signal of a sum grows with the customers and its noise does not, so ten times the customers are worth
ten times the epsilon; the noise's spectral radius grows with the root of the items in the statistic. Hence,
with x = customers * epsilon and K items, the share of (pooled - alone) that is kept is taken to be

    gain(x) = min(1 / (1 + (half sqrt(K / 3000) / x)^power), most)

with three constants for each kind of data. The law is empirical; ``hansa bench law`` fits it, and where its
constants come from stands beside them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from hansa.dp.accounting import calibrate, epsilon, gaussian

LAW_DELTA = 1e-5
LAW_ITEMS = 3000
WORTH_JOINING = 0.2
"""Share of pooling's gain from which joining is worth it: with the law's error, it may be a twentieth."""


@dataclass(frozen=True)
class Kind:
    """A kind of data on which the law was measured.

    Attributes:
        name: What it is.
        half: Customers x epsilon at which half of pooling's gain is kept, with 3,000 items.
        power: How steep the law is.
        most: The largest share that was measured; no more is promised.
        measured_on: The scenario of ``hansa bench law`` that the constants come from; None: see there.
    """

    name: str
    half: float
    power: float
    most: float
    measured_on: str | None = None

    @property
    def law(self) -> dict[str, float]:
        """The constants of ``share_kept``."""
        return {"half": self.half, "power": self.power, "most": self.most}


KINDS = (
    Kind("grocery baskets", 25_000, 1.5, 0.67),
    Kind("films", 65_000, 1.7, 0.68),
    Kind("video games", 300_000, 1.7, 0.44),
)
"""From the densest data to the sparsest.

Constants of a kind with ``measured_on`` are those that ``hansa bench law`` fitted to federations drawn from a
model of that scenario's customers; a test compares them with ``benchmarks/law.json``.

The others are least-squares fits to ``benchmarks/frontier.json``: ``cooccurrence``, central noise, epsilon
0.5 to 8; journey (111 stores, 2,416 households), ml-1m (50 shops, 6,040 customers, random20 and
last20) and games (20 shops, 23,518 customers). The root mean square error is 0.05, 0.09 and 0.01; ``most``
is the largest share measured. On xmarket's national electronics shops pooling itself lost against shops
alone, and nothing can pay. To be fitted anew whenever a method changes.
"""


@dataclass(frozen=True)
class League:
    """A federation for which the law is asked.

    Attributes:
        shops: Number of shops.
        customers: Customers of each.
        epsilon: Budget of one training for a customer of one shop; infinite without privacy.
        delta: Its delta.
        growth: How many times one complete noise the sum has, see ``hansa.plan.noise_growth``.
        items: Items in the released statistic, K.
    """

    shops: int
    customers: int
    epsilon: float
    delta: float
    growth: float
    items: int

    @property
    def epsilon_of_sum(self) -> float:
        """The epsilon, at delta 1e-5, of one central sum with the noise that the league's sum carries."""
        if math.isinf(self.epsilon):
            return math.inf
        multiplier = _one_sum(self.epsilon, self.delta) * self.growth
        return epsilon(gaussian(multiplier), LAW_DELTA) if math.isfinite(multiplier) else 0.0

    @property
    def strength(self) -> float:
        """x: all customers times ``epsilon_of_sum``."""
        return self.shops * self.customers * self.epsilon_of_sum


@lru_cache(maxsize=1024)
def _one_sum(budget: float, delta: float) -> float:
    """The noise multiplier of a single sum that costs all of a budget; infinite where none is enough."""
    try:
        return calibrate(gaussian, budget, delta)
    except ValueError:
        return math.inf


def gain_kept(league: League, kind: Kind) -> float:
    """The share of pooling's gain over shops alone that the law expects a league to keep."""
    return share_kept(league.strength, league.items, **kind.law)


def share_kept(strength: float, items: int, *, half: float, power: float, most: float) -> float:
    """The law: gain(x) for x = ``strength`` and ``items`` in the statistic."""
    if strength == 0:
        return 0.0
    return float(min(1 / (1 + (half * math.sqrt(items / LAW_ITEMS) / strength) ** power), most))


def pays(league: League, kind: Kind) -> bool:
    """Whether joining is expected to be worth it: at least a fifth of pooling's gain is kept."""
    return gain_kept(league, kind) >= WORTH_JOINING


def most_items(league: League, kind: Kind) -> int:
    """The largest statistic with which joining is worth it, by the law; it was measured from 90 items on."""
    if kind.most < WORTH_JOINING:
        return 0
    reach = math.sqrt(LAW_ITEMS) * (1 / WORTH_JOINING - 1) ** (1 / kind.power) / kind.half
    return int(min((league.strength * reach) ** 2, 1e9))
