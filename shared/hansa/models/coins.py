"""Public pseudo-random numbers that are a pure function of a round and one customer's own row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hansa.schema import IntArray


def coins(round_: int, items: IntArray, present: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """A public pseudo-random number in [0, 1) for each of the padded items, fresh every round.

    It depends on the round, the item and the set of the customer's own items, so that contributions stay
    pure functions of one customer's row and yet different customers' coins differ.
    """
    mixed = _mix(items.astype(np.uint64) + np.uint64(1))
    person = np.where(present, mixed, np.uint64(0)).sum(axis=1, dtype=np.uint64)
    salt = _mix(np.array([round_], dtype=np.uint64))
    bits = _mix(mixed ^ _mix(person + salt)[:, None]) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
