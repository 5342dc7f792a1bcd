"""The only maker of random generators.

Noise and sampling coins that a privacy guarantee rests on come from the operating system
(``system_generator``); everything that must be repeatable (data splits, dealing, initial
embeddings, simulation noise) from a named stream of one seed (``seeded_generator``).
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

import numpy as np

Generator = np.random.Generator


def system_generator() -> Generator:
    """A fresh generator seeded with 256 bits of the operating system's entropy."""
    return np.random.Generator(np.random.SFC64(secrets.randbits(256)))


def seeded_generator(seed: int, *stream: str | int) -> Generator:
    """The generator of the stream named ``stream`` under ``seed``; independent between names.

    Args:
        seed: Non-negative integer, the run's seed.
        stream: What the numbers are for, e.g. ``("noise", round, shop)``.
    """
    digest = hashlib.sha256(repr((int(seed), *stream)).encode()).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest, "big")))


@dataclass(frozen=True)
class Source:
    """Where a shop's generators of one purpose come from: one a round, so that no process holds their state.

    Attributes:
        seed: None for the operating system's entropy, wherever privacy matters; a number in simulations.
        stream: With a seed, what the numbers are for, e.g. ``("noise", shop)``.
    """

    seed: int | None = None
    stream: tuple[str | int, ...] = ()

    def generator(self, round_: int) -> Generator:
        """The generator of a round: a fresh one, or with a seed always the same."""
        if self.seed is None:
            return system_generator()
        return seeded_generator(self.seed, *self.stream, round_)
