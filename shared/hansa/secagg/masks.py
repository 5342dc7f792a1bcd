"""Vectors modulo 2^bits: adding masks to them, and packing them into as few bytes as the modulus needs.

A mask is the keystream of AES-256 in counter mode under its own key; nobody without the key can tell it from
uniform numbers, nor the sum of a vector and a mask. Vectors are uint32 up to 32 bits and uint64 above, where
sums wrap around at a multiple of 2^bits; ``pack`` drops what is above.

Everything goes block by block, so that a block stays in the cache while all masks are added to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from hansa.errors import UsageError

Residues = npt.NDArray[Any]
"""Numbers modulo 2^bits, [entries]: uint32 up to 32 bits, uint64 above."""
Mask = tuple[bytes, bool]
"""The 32-byte seed of a mask, and whether it is added (or subtracted)."""

_BLOCK = 2**16
"""Entries of a block."""
_SIZE = 8 * _BLOCK
"""Bytes of the longest block."""


def residue_type(bits: int) -> np.dtype[Any]:
    """The type of numbers modulo 2^bits."""
    return np.dtype(np.uint32 if bits <= 32 else np.uint64)


def packed_size(entries: int, bits: int) -> int:
    """Bytes of a packed vector."""
    return entries * _width(bits)


def _width(bits: int) -> int:
    return -(-bits // 8)


def apply_masks(vector: Residues, masks: Sequence[Mask]) -> None:
    """Add or subtract masks, in place.

    Args:
        vector: uint32 or uint64 [entries], contiguous.
        masks: Each seed of these is used for one vector length and modulus only.
    """
    generators = [(_generator(seed), added) for seed, added in masks]
    zeros, stream = memoryview(bytes(_SIZE)), np.empty(_SIZE + 16, np.uint8)
    numbers = stream[:_SIZE].view(vector.dtype.newbyteorder("<"))
    for start in range(0, len(vector), _BLOCK):
        block = vector[start : start + _BLOCK]
        for generator, added in generators:
            generator.update_into(zeros[: block.nbytes], stream.data)
            if added:
                block += numbers[: len(block)]
            else:
                block -= numbers[: len(block)]


def _generator(seed: bytes) -> CipherContext:
    return Cipher(algorithms.AES256(seed), modes.CTR(bytes(16))).encryptor()


def pack(vector: Residues, bits: int) -> bytes:
    """The numbers modulo 2^bits in ceil(bits / 8) bytes each, the lowest byte first.

    Args:
        vector: uint32 or uint64 [entries], contiguous.
        bits: The modulus is 2^bits.
    """
    width = _width(bits)
    packed = np.empty((len(vector), width), np.uint8)
    word = vector.dtype.newbyteorder("<")
    for start in range(0, len(vector), _BLOCK):
        rest = (vector[start : start + _BLOCK] & vector.dtype.type(2**bits - 1)).astype(word, copy=False)
        octets = rest.view(np.uint8).reshape(-1, word.itemsize)
        for place in range(width):
            packed[start : start + _BLOCK, place] = octets[:, place]
    return packed.tobytes()


def add_packed(total: Residues, packed: bytes, bits: int) -> None:
    """Add a packed vector to a sum, in place.

    Args:
        total: uint32 or uint64 [entries], contiguous.
        packed: What ``pack`` made.
        bits: The modulus is 2^bits.

    Raises:
        UsageError: Not the bytes of a vector of this length modulo 2^bits; the sum is as it was.
    """
    width = _width(bits)
    if not isinstance(packed, bytes) or len(packed) != packed_size(len(total), bits):
        raise UsageError(f"masked vector: not {packed_size(len(total), bits)} bytes")
    octets = np.frombuffer(packed, np.uint8).reshape(-1, width)
    if bits % 8 and (octets[:, -1] >> (bits % 8)).any():
        raise UsageError(f"masked vector: a number of 2^{bits} or more")
    spread = np.zeros((_BLOCK, total.dtype.itemsize), np.uint8)
    numbers = spread.view(total.dtype.newbyteorder("<")).ravel()
    for start in range(0, len(total), _BLOCK):
        block = total[start : start + _BLOCK]
        for place in range(width):
            spread[: len(block), place] = octets[start : start + _BLOCK, place]
        block += numbers[: len(block)]


def centre(total: Residues, bits: int) -> npt.NDArray[np.int64]:
    """The numbers from -2^(bits - 1) to 2^(bits - 1) - 1 that are these modulo 2^bits, int64 [entries]."""
    lifted = total.astype(np.uint64) << np.uint64(64 - bits)
    return lifted.view(np.int64) >> np.int64(64 - bits)
