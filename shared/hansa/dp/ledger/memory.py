"""A ledger in memory, for simulations, and what every ledger offers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dp_accounting import DpEvent

from hansa.dp.ledger.account import About, Account, Budget, Draft, Reservation, opening
from hansa.dp.ledger.entries import Receipt
from hansa.errors import RefusalError

Say = Callable[[Receipt, Ed25519PrivateKey], str]
"""Makes a signed text of an entry's place and the ledger's key."""


class Ledger:
    """A shop's ledger, in the memory of this process.

    A run's plan is reserved as a whole before its first release; each release is charged before it is
    computed. A reservation counts in full even when the run stops early.

    Guarantee: that of ``hansa.dp.ledger.account``, for as long as this object lives.

    Args:
        ceiling: The lifetime ceiling.
    """

    def __init__(self, ceiling: Budget) -> None:
        self._drafts = [opening(ceiling)]
        self._account = Account.of(self._drafts)

    @property
    def ceiling(self) -> Budget:
        """The present ceiling."""
        return self._current().ceiling

    @property
    def reservations(self) -> dict[str, Reservation]:
        """The accepted plans by run."""
        return dict(self._current().reservations)

    def spent(self) -> float:
        """Epsilon of everything reserved so far, at the ceiling's delta."""
        return self._current().spent

    def entries(self) -> list[Draft]:
        """All entries, the opening first."""
        return list(self._drafts)

    def receipt(self) -> Receipt | None:
        """The shop's signed word on its last entry; a ledger in memory has no key to sign with."""
        return None

    def attest(self, sequence: int, say: Say) -> str:
        """What the shop says of an entry, signed with the ledger's key.

        Args:
            sequence: The entry's number.
            say: Makes it of the entry's place, unsigned, and the key.

        Returns:
            What ``say`` made; empty where there is no key.
        """
        return ""

    def plans_since(self, moment: datetime) -> int:
        """How many plans were reserved from ``moment`` until now, rounds that are paid again not counted.

        It goes by the clock that was there: a guard against floods, no evidence. A ledger in memory has no
        times, and counts none.
        """
        return 0

    def take_over(self, drafts: Iterable[Draft]) -> None:
        """Become the ledger with these entries."""
        self._drafts = list(drafts)
        self._account = Account.of(self._drafts)

    def reserve(self, run: str, releases: tuple[DpEvent, ...], about: About | None = None) -> None:
        """Set aside the budget of a whole plan.

        Args:
            run: The run's name; the same plan may be reserved again under it at no cost, and what has been
                charged of it stays charged.
            releases: The events of all its releases, in order.
            about: What else to record: who asked, the plan's digest.

        Raises:
            RefusalError: The plan does not fit under the ceiling, or differs from the one reserved.
        """
        self._enter(lambda account: account.reserve(run, releases, about or {}))

    def refuse(self, run: str, reason: str, about: About | None = None) -> None:
        """Enter that a run or a round was refused; see ``Account.refuse`` for what is not entered.

        Raises:
            RefusalError: The ledger cannot be written to.
        """
        self._enter(lambda account: account.refuse(run, reason, about or {}))

    def charge(self, run: str, event: DpEvent, about: About | None = None) -> None:
        """Charge a release of a reserved plan, before anything is computed for it.

        Releases of the plan that the shop has missed are passed over, and stay paid for.

        Args:
            run: The run's name.
            event: What the release costs.
            about: What else to record: the round, what is released, its bound.

        Raises:
            RefusalError: No such reservation, or no such release is left in it.
        """
        self._enter(lambda account: account.charge(run, event, about or {}))

    @property
    def roster(self) -> str:
        """Digest of the roster that the operator has approved last; empty before."""
        return self._current().roster

    @property
    def vouched(self) -> tuple[str, ...]:
        """Shops that the operator has vouched for with it, sorted."""
        return self._current().vouched

    def approve(self, roster: str, vouched: Iterable[str]) -> None:
        """Enter that the operator approves a roster, whose shops may then mask sums with this one.

        Args:
            roster: Its digest.
            vouched: Shops whose fingerprints the operator has compared.
        """
        self._enter(lambda account: account.approve(roster, vouched))

    def why_not(self, run: str, releases: tuple[DpEvent, ...]) -> str | None:
        """Why a plan would be refused, with the numbers; None if it would not be. For the shop's own eyes."""
        try:
            self._current().reserve(run, releases, {})
        except RefusalError as refusal:
            return str(refusal)
        return None

    def _current(self) -> Account:
        return self._account

    def _enter(self, decide: Callable[[Account], Draft | None]) -> None:
        """Add the entry that ``decide`` makes of the account, if any."""
        draft = decide(self._account)
        if draft is not None:
            self._account.apply(draft)
            self._drafts.append(draft)
