"""The coordinator's step from an aggregated direction to a change of the public state."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hansa.dp.private_sum import Table

Memory = dict[str, Table]
"""What the coordinator remembers between rounds; derived from noisy sums only."""

KINDS = ("fedavg", "momentum", "fedadam", "scalar-adam")


@dataclass(frozen=True)
class ServerOptimizer:
    """FedAvg, FedAvg with momentum, or FedAdam (Reddi et al. 2021, arXiv 2003.00295, Algorithm 2).

    ``scalar-adam`` is FedAdam with one second moment for the whole table: where noise of one size
    dominates every entry, scaling each by its own moment only blows up those without signal.
    The rate falls along a half cosine to zero at the planned last step.

    Attributes:
        kind: Which of the four.
        rate: First learning rate.
        momentum: Decay of the mean direction; also FedAdam's beta_1.
        second: FedAdam's beta_2.
    """

    kind: str = "fedadam"
    rate: float = 0.1
    momentum: float = 0.9
    second: float = 0.99

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown optimizer {self.kind!r}; use one of: {', '.join(KINDS)}")

    def step(self, index: int, planned: int, direction: Table, memory: Memory) -> Table:
        """The amount to subtract from the state.

        Args:
            index: This step, from 1.
            planned: Steps in the whole plan.
            direction: Mean noisy gradient, or shops' mean way.
            memory: From the last step; changed in place.
        """
        rate = self.rate * 0.5 * (1 + math.cos(math.pi * (index - 1) / planned))
        if self.kind == "fedavg":
            return np.float32(rate) * direction
        first = memory.get("first", np.zeros_like(direction))
        if self.kind == "momentum":
            memory["first"] = first = np.float32(self.momentum) * first + direction
            return np.float32(rate) * first
        second = memory.get("second", np.zeros_like(direction))
        memory["first"] = first = _decay(first, direction, self.momentum)
        squares = direction * direction
        if self.kind == "scalar-adam":
            squares = np.full_like(squares, squares.mean())
        memory["second"] = second = _decay(second, squares, self.second)
        unbiased = first / np.float32(1 - self.momentum**index)
        scale = np.sqrt(second / np.float32(1 - self.second**index)) + np.float32(1e-8)
        step: Table = np.float32(rate) * unbiased / scale
        return step


def _decay(old: Table, new: Table, rate: float) -> Table:
    mixed: Table = np.float32(rate) * old + np.float32(1 - rate) * new
    return mixed
