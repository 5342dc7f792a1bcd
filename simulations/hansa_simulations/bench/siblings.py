"""Federations many times as large as a real one, of customers who are siblings of the real ones."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache

import numpy as np

from hansa.rng import seeded_generator
from hansa.schema import Shop
from hansa_simulations.bench.topics import Topics, whole
from hansa_simulations.evaluation import Evaluation
from hansa_simulations.experiment import Prepared, prepare
from hansa_simulations.federation import Federation
from hansa_simulations.protocols import split
from hansa_simulations.settings import SimulationSettings

TOPICS, PRIOR = 100, 0.02
"""Of the model of customers; with them 1x figures came near the real ones on journey and games."""


def drawn(settings: SimulationSettings, factor: int) -> Prepared:
    """A federation ``factor`` times as large as the one of ``settings``, evaluated at as many shops."""
    started = time.perf_counter()
    data = settings.model_copy(update={"method": "popularity", "epsilon": None, "dp": "none"})
    real, model = _fitted(data.model_dump_json())
    federation = enlarge(real, model, factor, settings.protocol, settings.seed)
    judged = replace(federation, shops=federation.shops[: len(real.shops)])
    evaluation = Evaluation(judged, settings.evaluation.customers)
    return Prepared(federation, evaluation, settings.seed, time.perf_counter() - started)


@lru_cache(maxsize=1)
def _fitted(settings: str) -> tuple[Federation, Topics]:
    """The real federation, and the model of its customers fitted to their histories in order of time."""
    asked = SimulationSettings.model_validate_json(settings)
    real = prepare(asked.model_copy(update={"protocol": "last20"}), asked.seed).federation
    histories = whole([shop.train for shop in real.shops], [shop.held_out for shop in real.shops])
    return real, Topics.fit(histories, TOPICS, seeded_generator(asked.seed, "topics"), prior=PRIOR)


def enlarge(real: Federation, model: Topics, factor: int, protocol: str, seed: int) -> Federation:
    """``factor`` copies of every shop, each with one new customer for every real one.

    Args:
        real: The federation that ``model`` was fitted to, its shops in the same order.
        model: Draws the customers.
        factor: At least 1.
        protocol: Holds out their interactions.
        seed: Of customers and protocol.
    """
    ends = np.cumsum([0, *(len(shop.train) for shop in real.shops)])
    shops = []
    for copy in range(factor):
        siblings = model.siblings(np.arange(ends[-1]), seeded_generator(seed, "siblings", copy))
        parts = split(siblings, protocol, seeded_generator(seed, "split", copy))
        for shop, low, high in zip(real.shops, ends[:-1], ends[1:], strict=True):
            rows = np.arange(low, high)
            names = tuple(f"{name}-{copy}" for name in shop.customers)
            shops.append(
                Shop(f"{shop.name}-{copy}", names, parts.train.select(rows), parts.held_out.select(rows))
            )
    customers = factor * int(ends[-1])
    return replace(
        real,
        protocol=protocol,
        shops=tuple(shops),
        users=customers,
        customers=customers,
        interactions=sum(len(shop.train.items) + len(shop.held_out.items) for shop in shops),
        overlapping_users=0,
        max_overlap=1,
        notes=(*real.notes, f"data: drawn from a model of the real customers, {factor} for each"),
    )
