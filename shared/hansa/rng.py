"""The only maker of random generators.

Noise and sampling coins that a privacy guarantee rests on come from the operating system
(``system_generator``); everything that must be repeatable (data splits, dealing, initial
embeddings, simulation noise) from a named stream of one seed (``seeded_generator``).
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Generator = np.random.Generator


def system_generator() -> Generator:
    """A fresh generator seeded with 256 bits of the operating system's entropy."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(secrets.randbits(256), pool_size=8)))


def seeded_generator(seed: int, *stream: str | int) -> Generator:
    """The generator of the stream named ``stream`` under ``seed``; independent between names.

    Args:
        seed: Non-negative integer, the run's seed.
        stream: What the numbers are for, e.g. ``("noise", round, shop)``.
    """
    digest = hashlib.sha256(repr((int(seed), *stream)).encode()).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest, "big")))


class Keystream:
    """Random bits that nobody can tell from true ones without the key: AES-256 in counter mode.

    A release shows most of its noise bare, wherever a sum is zero. numpy's generators are not made to keep
    secrets, and the rest of their stream might be told from that; of AES it cannot. The key is the only thing
    that is ever drawn from ``generator`` for noise, and never leaves.

    Args:
        generator: Gives the key, 32 bytes; ``system_generator()`` wherever privacy matters.
    """

    def __init__(self, generator: Generator) -> None:
        self._key = algorithms.AES(generator.bytes(32))

    def fill(self, block: int, out: npt.NDArray[np.uint8]) -> None:
        """Fill ``out`` with the bytes of a block, of at most 2^68 of them; the same for the same block."""
        counter = modes.CTR((block << 64).to_bytes(16, "big"))
        Cipher(self._key, counter).encryptor().update_into(_zeros(len(out)), out.data)


@lru_cache(maxsize=4)
def _zeros(length: int) -> bytes:
    return bytes(length)


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
