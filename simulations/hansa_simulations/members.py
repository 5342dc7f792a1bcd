"""A simulated league's roster: keys of the run's seed, and every shop vouching for every other."""

from __future__ import annotations

from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.plan import Plan
from hansa.rng import seeded_generator
from hansa.secagg.roster import Member, Roster
from hansa_simulations.settings import SimulationSettings


def masked(settings: SimulationSettings) -> bool:
    """Whether a run masks its sums."""
    return settings.dp == "distributed" and settings.secagg.mode == "full"


@lru_cache(maxsize=4)
def _keys(shops: int, seed: int) -> dict[str, Ed25519PrivateKey]:
    return {
        f"shop-{position + 1:03d}": Ed25519PrivateKey.from_private_bytes(
            seeded_generator(seed, "roster", position).bytes(32)
        )
        for position in range(shops)
    }


def simulated_roster(shops: int, seed: int) -> Roster:
    """The roster of so many shops. Its keys are no secret; those that mask are fresh in every round."""
    return Roster({name: key.public_key().public_bytes_raw() for name, key in _keys(shops, seed).items()})


def simulated_members(plan: Plan, seed: int) -> list[Member]:
    """Every shop's own side of the roster, accepting what ``plan`` says and nothing less."""
    keys, roster = _keys(plan.shops, seed), simulated_roster(plan.shops, seed)
    bits = min(plan.bits(release) for release in plan.releases)
    return [
        Member(
            name=name,
            key=key,
            roster=roster,
            vouched=frozenset(keys),
            threshold=plan.threshold,
            honest=plan.honest,
            bits=bits,
            colluders=plan.colluders,
        )
        for name, key in keys.items()
    ]
