"""The one door: the only function through which anything computed from customers leaves a shop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from dp_accounting import DpEvent

from hansa.dp.accounting import gaussian
from hansa.dp.clipping import Contributions, clipped_sum
from hansa.dp.integers import IntegerSkellam, residues
from hansa.dp.ledger import Ledger
from hansa.dp.noise import GridGaussian
from hansa.dp.rounding import integer_sum
from hansa.rng import Generator
from hansa.schema import Histories
from hansa.secagg.masks import Residues

DpModel = Literal["local", "distributed", "central", "none"]
Contribution = Callable[[Histories], Contributions]
"""The contributions of a chunk of customers; each may depend on that customer's row and public state only."""

Mask = Callable[[Residues], None]
"""Adds a shop's masks to its part of a sum, modulo 2^bits, in place."""

Table = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Release:
    """What a private sum is about to disclose, fixed in the plan before any data is touched.

    Attributes:
        name: What is released, e.g. ``"counts"``; also the method's key for it.
        rows: Rows of the released table, usually the size of the catalogue.
        width: Columns of the released table.
        bound: L2 bound C of one customer's contribution.
        noise_multiplier: Standard deviation of the noise of ONE complete sum over C; 0 without privacy.
        sampling_rate: Probability with which each customer takes part in the sum.
        steps: Private sums that a shop takes locally before it answers once.
        noise: ``gaussian``, added in one place, or ``skellam``, whose shares many shops add.
    """

    name: str
    rows: int
    width: int
    bound: float = 1.0
    noise_multiplier: float = 0.0
    sampling_rate: float = 1.0
    steps: int = 1
    noise: Literal["gaussian", "skellam"] = "gaussian"

    @cached_property
    def event(self) -> DpEvent:
        """What one step of this release costs a customer."""
        if self.noise == "skellam":  # no amplification is claimed
            return self.shared_mechanism.event
        return gaussian(self.noise_multiplier, self.sampling_rate)

    @property
    def mechanism(self) -> GridGaussian:
        """The noise of one complete sum, and the room that its rounding leaves for contributions."""
        return GridGaussian(self.bound, self.noise_multiplier * self.bound, self.rows * self.width)

    @property
    def shared_mechanism(self) -> IntegerSkellam:
        """The noise of one complete sum of whole numbers, to be shared."""
        return IntegerSkellam(self.bound, self.noise_multiplier, self.rows * self.width)


@dataclass(frozen=True)
class PerformanceSettings:
    """Settings that change speed and memory, never privacy or results beyond rounding.

    Attributes:
        chunk: Customers whose contributions are formed at a time.
        clipping: ``sparse``, or Opacus's ``hooks`` or ``ghost`` for comparison.
    """

    chunk: int = 256
    clipping: Literal["sparse", "hooks", "ghost"] = "sparse"


@dataclass(frozen=True)
class Share:
    """A shop's part in a masked sum.

    Attributes:
        honest: How many shops' shares make up the whole noise.
        bits: Width of the modulus.
        mask: Adds the masks to residues modulo 2^bits, in place.
    """

    honest: int
    bits: int
    mask: Mask


@dataclass
class Door:
    """One shop's door: its budget, DP model and sources of randomness.

    Attributes:
        dp: ``local``: the noise is added here. ``central``: the bounded sum leaves bare and the
            coordinator, who is trusted, adds the noise; simulations only. ``none``: no noise anywhere.
            ``distributed``: ``masked_sum``.
        ledger: Charged before each sum is computed.
        run: The run whose reserved plan pays.
        noise: Generator of the noise; of the operating system's entropy wherever privacy matters.
        coins: Generator of the Poisson sampling, never logged, likewise.
        performance: Settings without influence on privacy.
        round: The round that is answered, for the ledger's record.
        message: The message that is answered, likewise: what leaves is checked against its charge.
        about: What else is recorded.
    """

    dp: DpModel
    ledger: Ledger
    run: str
    noise: Generator
    coins: Generator
    performance: PerformanceSettings = field(default_factory=PerformanceSettings)
    round: int = 0
    message: str = ""
    about: Mapping[str, object] = field(default_factory=dict)

    def private_sum(self, release: Release, contribution: Contribution, histories: Histories) -> Table:
        """The sum over the shop's customers of their clipped contributions, with noise as ``dp`` says.

        An empty sample still adds noise and is charged. Under ``none`` the clipping stays: it belongs to
        the learning as much as to the privacy, and the runs with and without noise stay comparable.

        Guarantee: unit one customer of this shop with all interactions, adjacency add or remove. With
        ``local`` the result is ``release.event``-DP. With ``central`` the same holds once the
        coordinator has added the noise to the sum over shops. Assumes that ``contribution`` is a pure
        function of each customer's row and of released state, and secret ``noise`` and ``coins``.

        Args:
            release: What is released.
            contribution: The algorithm's function of a chunk of customers.
            histories: All of the shop's customers.

        Returns:
            float32 [release.rows, release.width].

        Raises:
            RefusalError: The ledger does not have this release as the next of an accepted plan.
        """
        if self.dp == "distributed":
            raise ValueError("under distributed noise a sum leaves masked")
        if self.dp != "none":
            self._charge(release)
        if release.sampling_rate < 1:
            histories = histories.select(self.coins.random(len(histories)) < release.sampling_rate)
        total = torch.zeros(release.rows, release.width, dtype=torch.float64)
        contributions, mode = self._contributions(contribution, histories), self.performance.clipping
        mechanism = release.mechanism
        if mode == "sparse":
            clipped_sum(contributions, mechanism.contribution_bound, total)
        else:
            from hansa.dp.opacus_clipping import opacus_clipped_sum  # for comparison only

            opacus_clipped_sum(contributions, mechanism.contribution_bound, total, mode)
        if self.dp == "local":
            return mechanism.release(total, self.noise).numpy()
        return total.to(torch.float32).numpy()

    def masked_sum(
        self, release: Release, contribution: Contribution, histories: Histories, share: Share
    ) -> Residues:
        """The shop's part of a sum over all shops: whole numbers, a share of the noise, and masks.

        Guarantee: unit one customer of this shop with all interactions, adjacency add or remove. The sum
        over the shops is ``release.event``-DP if ``share.honest`` of the shops in it add their share and
        tell it to nobody. It is all that others see as long as the masks hold (``hansa.secagg``); without
        masks, in simulations only, this shop's part has no more than its own share.

        Args:
            release: What is released; its noise is ``skellam``.
            contribution: The algorithm's function of a chunk of customers.
            histories: All of the shop's customers.
            share: This shop's part in the noise, and its masks.

        Returns:
            uint32 (up to 32 bits) or uint64 [release.rows * release.width], modulo 2^bits.

        Raises:
            RefusalError: The ledger does not have this release as the next of an accepted plan.
            ValueError: The release is not one for whole numbers and every customer.
        """
        if self.dp != "distributed" or release.noise != "skellam" or release.sampling_rate < 1:
            raise ValueError("only a release of distributed noise over all customers leaves masked")
        self._charge(release)
        mechanism = release.shared_mechanism
        total = torch.zeros(release.rows, release.width, dtype=torch.int64)
        integer_sum(self._contributions(contribution, histories), mechanism, total, self.coins)
        flat = total.view(-1).numpy()
        mechanism.add_share(flat, share.honest, self.noise)
        words = residues(flat, share.bits)
        share.mask(words)
        return words

    def _charge(self, release: Release) -> None:
        about = {**self.about, "round": self.round, "release": release.name, "bound": release.bound}
        if self.message:
            about["message"] = self.message
        self.ledger.charge(self.run, release.event, about)

    def _contributions(self, contribution: Contribution, histories: Histories) -> Iterator[Contributions]:
        for chunk in histories.chunks(self.performance.chunk):
            with torch.no_grad():
                yield contribution(chunk)


def finish_central(total: Table, release: Release, noise: Generator) -> Table:
    """The coordinator's part of ``central``: the bounded sums, with the noise of one complete sum.

    The bare sums came as float32, whose own rounding no bound covers: one more reason why ``central`` is for
    simulations only.
    """
    return release.mechanism.release(torch.from_numpy(total), noise).numpy()
