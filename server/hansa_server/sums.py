"""The sum of a round over shops, however they send their parts, and its noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hansa.dp.private_sum import Release, finish_central
from hansa.errors import RefusalError, UsageError
from hansa.models.base import NoisySum
from hansa.plan import Plan, noise_growth
from hansa.records import Answer
from hansa.rng import Generator
from hansa.secagg.masks import Residues, add_packed, centre, residue_type
from hansa_server.robust import TrimmedSum, noise_excess


class RoundSum(Protocol):
    """Adds up what shops answer, one by one."""

    def add(self, answer: Answer) -> str | None:
        """Take a shop's part; what is wrong with it where it cannot be."""
        ...

    def finish(self, answered: int) -> NoisySum:
        """The sum of the ``answered`` shops, with all of its noise."""
        ...


@dataclass
class TableSum:
    """Real sums: of ``local``, ``central`` and ``none``.

    Attributes:
        plan: The run's plan.
        release: What is released in this round.
        noise: Generator of the noise of ``central``.
    """

    plan: Plan
    release: Release
    noise: Generator
    _total: TrimmedSum = field(init=False)

    def __post_init__(self) -> None:
        self._total = TrimmedSum(self.release.rows, self.release.width, self.plan.cut)

    def add(self, answer: Answer) -> str | None:
        """See ``RoundSum``."""
        if answer.release is None:
            return "nothing released"
        if answer.release.shape != self._total.shape or not np.isfinite(answer.release).all():
            return "malformed release"
        self._total.add(answer.release)
        return None

    def finish(self, answered: int) -> NoisySum:
        """See ``RoundSum``.

        Raises:
            RefusalError: So few shops are in the sum that all of them would be cut.
        """
        cut, release = self.plan.cut, self.release
        if not self._total.enough:
            raise RefusalError(
                f"the sum has {answered} shops, of which robust.trim cuts {cut} at each end; it needs "
                f"{2 * cut + 1} of them"
            )
        total = self._total.total()
        if self.plan.dp == "central":
            total = finish_central(total, release, self.noise)
        growth = noise_growth(self.plan.dp, answered) * noise_excess(answered, cut)
        deviation = release.noise_multiplier * release.bound * growth
        return NoisySum(total, deviation, _customers(self.plan, release, answered))


@dataclass
class ResidueSum:
    """Sums of whole numbers that were not masked: of ``distributed`` in simulations.

    Attributes:
        plan: The run's plan.
        release: What is released in this round.
    """

    plan: Plan
    release: Release
    _total: Residues = field(init=False)

    def __post_init__(self) -> None:
        entries, kind = self.release.rows * self.release.width, residue_type(self.plan.bits(self.release))
        self._total = np.zeros(entries, dtype=kind)

    def add(self, answer: Answer) -> str | None:
        """See ``RoundSum``."""
        if answer.residues is None:
            return "nothing released"
        try:
            add_packed(self._total, answer.residues, self.plan.bits(self.release))
        except UsageError:
            return "malformed release"
        return None

    def finish(self, answered: int) -> NoisySum:
        """See ``RoundSum``.

        Raises:
            RefusalError: Fewer shops than the threshold are in the sum.
        """
        if answered < self.plan.threshold:
            raise RefusalError(
                f"the sum has {answered} shops and needs {self.plan.threshold}; nothing of it may be used"
            )
        total = centre(self._total, self.plan.bits(self.release))
        return shared_sum(self.plan, self.release, total, answered)


def shared_sum(plan: Plan, release: Release, total: npt.NDArray[np.int64], answered: int) -> NoisySum:
    """A sum of whole numbers with the noise shares of ``answered`` shops, in the units of contributions.

    Args:
        plan: The run's plan.
        release: What is released.
        total: int64 [rows * width].
        answered: Shops in the sum.
    """
    mechanism = release.shared_mechanism
    table = (total * mechanism.quantum).astype(np.float32).reshape(release.rows, release.width)
    growth = noise_growth(plan.dp, answered, plan.threshold, plan.colluders)
    return NoisySum(table, mechanism.deviation * growth, _customers(plan, release, answered))


def _customers(plan: Plan, release: Release, answered: int) -> float:
    return plan.customers * answered / plan.shops * release.sampling_rate
