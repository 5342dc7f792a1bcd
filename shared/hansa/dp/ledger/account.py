"""The rule of every ledger: entries in, decisions out. It neither reads nor writes anything.

**What is accepted.** A plan is reserved as a whole before its first release. It is accepted if

(a) the Renyi filter's epsilon of ALL plans, this one included, is at most the ceiling; or
(b) no plan was accepted before, and its own epsilon by loss distributions is at most the ceiling.

**Why both together are private.** The filter's order is fixed when the ledger is opened. The first plan is
chosen before anything of this shop's customers has left, hence independently of them. If its filter
cost fits under the ceiling, all that is ever released is under the filter: Feldman and Zrnic 2021, arXiv
2008.11193, Theorem 3.1, which admits any adaptive choice of later plans. If it does not fit, (b) has let it
in, and (a) can never again hold, since costs only add up: all that leaves is one plan fixed in advance, of
which its loss distribution says the truth. Which case it is, is known before any data is touched. So a plan
that is calibrated to the whole ceiling is accepted, and closes the ledger.

**Changed ceilings.** Let E be a number fixed in advance. As long as no ceiling above E has been entered, what
was released is (E, delta)-DP: by the filter if the first plan's cost fits under E, else as that one plan.
This covers ceilings that are raised after results were seen. In the same sense ``spent`` (by loss
distributions while there is one plan, by the filter from the second on) bounds what was released: for every
E, had somebody stopped before ``spent`` passed E, it would be (E, delta)-DP.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from typing import Any

from hansa.dp.accounting import DpEvent, Part, compose, epsilon, from_parts, to_parts
from hansa.dp.events import MOST_PARTS, MOST_SUMS
from hansa.dp.filter import RenyiFilter
from hansa.errors import RefusalError

TOLERANCE = 1e-9
UNFIT = "the plan does not fit the shop's budget"
SPENT = "no such release is left in an accepted plan"
CLOSED = "the shop's ledger is closed"
ENDED = "the run was accepted before the shop's books were restored"
MOST_REFUSALS = 20
"""Refusals in a row that are entered: a coordinator cannot fill the disk with them."""
UNUSABLE = "the shop's ledger cannot be used now"

_LONGEST = 200

About = Mapping[str, object]
"""What else an entry records: JSON values."""
Written = tuple[tuple[tuple[Part, ...], int], ...]


@dataclass(frozen=True)
class Budget:
    """A shop's lifetime ceiling, from its own configuration."""

    epsilon: float
    delta: float


@dataclass(frozen=True)
class Draft:
    """What an entry says, before it has a place in a ledger.

    Attributes:
        kind: ``open``, ``ceiling``, ``roster``, ``reserve``, ``charge``, ``refuse`` or ``reconcile``.
        body: JSON values; an infinite number is None.
    """

    kind: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Reservation:
    """An accepted plan: its releases, how many of them were charged or passed over, and the plan's digest.

    Attributes:
        ended: A reconciliation came after it: it stays paid for and is never continued or paid again.
    """

    run: str
    releases: tuple[DpEvent, ...]
    charged: int = 0
    plan: str = ""
    ended: bool = False

    def refuse_if_ended(self) -> None:
        """See that it may go on.

        Raises:
            RefusalError: A reconciliation came after it.
        """
        if self.ended:
            raise RefusalError(
                f"run {self.run}: accepted before this ledger was reconciled; what was released of it since "
                "the copy is not known, so it is never continued: take a new run",
                reason=ENDED,
            )


@dataclass
class Account:
    """The sum of a ledger's entries.

    Guarantee: what was released under reservations of one account is (E, delta)-DP for each customer of
    the shop, E the largest ceiling entered; adjacency add or remove one customer. The module's text has the
    argument. It assumes that every release was charged first, and ran as its event says.

    Attributes:
        ceiling: The present ceiling; its delta is that of the whole lifetime.
        filter: The Renyi filter of the order chosen at the opening.
        reservations: By run.
        spent: Epsilon of all reservations.
        cost: Their Renyi cost.
        charged: The part of the cost that has been charged.
        closed: A history was lost and nothing is accepted any more.
        roster: Digest of the roster that the operator has approved last; empty before.
        vouched: Shops that the operator has vouched for with it, sorted.
        refused: Run and reason of the refusals since the last other entry.
    """

    ceiling: Budget
    filter: RenyiFilter
    reservations: dict[str, Reservation] = field(default_factory=dict)
    spent: float = 0.0
    cost: float = 0.0
    charged: float = 0.0
    closed: bool = False
    roster: str = ""
    vouched: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()

    @classmethod
    def opened_by(cls, draft: Draft) -> Account:
        """The account after its first entry."""
        body = draft.body
        if draft.kind != "open":
            raise ValueError(f"a ledger opens with an entry of kind open, not {draft.kind}")
        delta = float(body["delta"])
        return cls(Budget(_read(body["epsilon"]), delta), RenyiFilter(float(body["order"]), delta))

    @classmethod
    def of(cls, drafts: Iterable[Draft]) -> Account:
        """The account after these entries, the opening first.

        Raises:
            ValueError: An entry makes no sense after those before it.
        """
        first, *others = drafts
        account = cls.opened_by(first)
        for draft in others:
            account.apply(draft)
        return account

    def apply(self, draft: Draft) -> None:
        """Add an entry.

        Raises:
            ValueError: It makes no sense after those before it.
        """
        body = draft.body
        if draft.kind == "refuse":
            self.refused += ((str(body["run"]), str(body["reason"])),)
            return
        self.refused = ()
        if draft.kind == "reserve":
            releases, plan = _decode(_freeze(body["releases"])), str(body.get("plan", ""))
            self.reservations[body["run"]] = Reservation(body["run"], releases, plan=plan)
            self.cost += _read(body["cost"])
            self.spent = _read(body["epsilon_after"])
        elif draft.kind == "charge":
            if body["run"] not in self.reservations:
                raise ValueError(f"a charge of the run {body['run']}, which is not reserved")
            known = self.reservations[body["run"]]
            self.reservations[known.run] = replace(known, charged=int(body["position"]))
            self.charged += _read(body["cost"])
        elif draft.kind == "ceiling":
            self.ceiling = replace(self.ceiling, epsilon=_read(body["epsilon_after"]))
        elif draft.kind == "roster":
            self.roster, self.vouched = str(body["roster"]), tuple(map(str, body["vouched"]))
        elif draft.kind == "reconcile":
            self.closed |= body["receipt"] is None
            for known in list(self.reservations.values()):
                self.reservations[known.run] = replace(known, charged=len(known.releases), ended=True)
        else:
            raise ValueError(f"unknown kind of entry {draft.kind}")

    def reserve(self, run: str, releases: tuple[DpEvent, ...], about: About) -> Draft | None:
        """The entry that sets aside a whole plan's budget; None if it is set aside already.

        Args:
            run: The run's name. The same plan under the same name is the same reservation, and what has
                been charged of it stays charged.
            releases: The events of all its releases, in order.
            about: What else to record.

        Raises:
            RefusalError: The plan does not fit, or differs from the one reserved under this name.
        """
        known = self.reservations.get(run)
        if known is not None:
            known.refuse_if_ended()
            # Equal costs are not equal plans: under distributed noise a plan says who makes up the noise.
            if known.releases != releases or known.plan != str(about.get("plan", known.plan)):
                detail = f"run {run}: the plan differs from the one that was accepted"
                raise RefusalError(detail, reason="the plan differs from the one accepted under this name")
            return None
        self._refuse_if_closed(run)
        try:
            cost, alone, written = _measure(releases, self.filter)
        except ValueError as error:
            raise RefusalError(
                f"run {run}: {error}", reason="the plan has an event of unknown cost"
            ) from error
        after = self.filter.epsilon(self.cost + cost)
        if not self.reservations:
            after = min(after, alone)
        if not after <= self.ceiling.epsilon + TOLERANCE:
            whole = "without noise" if math.isinf(after) else f"would come to epsilon {after:.4g}"
            raise RefusalError(
                f"run {run} {whole} in all; the ceiling is {self.ceiling.epsilon:g} at delta "
                f"{self.ceiling.delta:.3g}, of which {self.spent:.4g} is spent",
                reason=UNFIT,
            )
        numbers = {"cost": cost, "epsilon_before": self.spent, "epsilon_after": after}
        return Draft("reserve", {**about, "run": run, "releases": written, **_finite(numbers)})

    def charge(self, run: str, event: DpEvent, about: About) -> Draft:
        """The entry that charges a release of a reserved plan.

        Releases of the plan that the shop has missed are passed over, and stay paid for.

        Raises:
            RefusalError: No such release is left, or the ceiling was lowered below what is reserved.
        """
        self._refuse_if_closed(run)
        known = self.reservations.get(run)
        if known is None:
            raise RefusalError(f"run {run}: no plan was accepted", reason=SPENT)
        if self.spent > self.ceiling.epsilon + TOLERANCE:
            raise RefusalError(
                f"run {run}: the ceiling was lowered to {self.ceiling.epsilon:g}, below the reserved "
                f"{self.spent:.4g}",
                reason=SPENT,
            )
        for position in range(known.charged, len(known.releases)):
            if known.releases[position] == event:
                break
        else:
            raise RefusalError(f"run {run}: the accepted plan has no such release left", reason=SPENT)
        cost = self.filter.cost([event])
        numbers = {
            "cost": cost,
            "epsilon_before": self._released(self.charged),
            "epsilon_after": self._released(self.charged + cost),
        }
        body = {**about, "run": run, "position": position + 1, "event": to_parts(event), **_finite(numbers)}
        return Draft("charge", body)

    def refuse(self, run: str, reason: str, about: About) -> Draft | None:
        """The entry that a run or a round was refused; None if it says nothing new, or too many did in a row.

        Args:
            run: The run's name as the coordinator gave it; cut where it is long.
            reason: What the coordinator is told.
            about: What else to record.
        """
        said = run[:_LONGEST], reason[:_LONGEST]
        if said in self.refused or len(self.refused) >= MOST_REFUSALS:
            return None
        return Draft("refuse", {**about, "run": said[0], "reason": said[1]})

    def change_ceiling(self, wanted: Budget) -> Draft | None:
        """The entry that raises or lowers the ceiling; None if it is as wanted.

        Raises:
            RefusalError: Another delta is wanted, which no entry can change.
        """
        if wanted.delta != self.ceiling.delta:
            raise RefusalError(
                f"the configured delta is {wanted.delta:g}, and the ledger was opened with "
                f"{self.ceiling.delta:g} for its whole lifetime; configure that",
                reason=UNUSABLE,
            )
        if wanted.epsilon == self.ceiling.epsilon:
            return None
        numbers = {"epsilon_before": self.ceiling.epsilon, "epsilon_after": wanted.epsilon}
        return Draft("ceiling", _finite(numbers))

    def approve(self, roster: str, vouched: Iterable[str]) -> Draft | None:
        """The entry by which the operator approves a roster; None if it was approved last, with these shops.

        Args:
            roster: Its digest.
            vouched: Shops whose fingerprints the operator has compared.
        """
        compared = sorted(set(vouched))
        if (roster, tuple(compared)) == (self.roster, self.vouched):
            return None
        return Draft("roster", {"before": self.roster, "roster": roster, "vouched": compared})

    def _released(self, cost: float) -> float:
        """Epsilon of charged releases: by the filter, and no more than what is reserved."""
        return min(self.filter.epsilon(cost), self.spent)

    def _refuse_if_closed(self, run: str) -> None:
        if self.closed:
            detail = f"run {run}: a part of this ledger's history is lost, so its ceiling counts as spent"
            raise RefusalError(detail, reason=CLOSED)


def opening(ceiling: Budget) -> Draft:
    """The first entry of a ledger; it fixes delta and the filter's order."""
    order = RenyiFilter.for_ceiling(ceiling.epsilon, ceiling.delta).order
    return Draft("open", {**_finite({"epsilon": ceiling.epsilon}), "delta": ceiling.delta, "order": order})


def releases_of(body: Mapping[str, Any]) -> tuple[DpEvent, ...]:
    """The events of a ``reserve`` entry."""
    return _decode(_freeze(body["releases"]))


def event_of(body: Mapping[str, Any]) -> DpEvent:
    """The event of a ``charge`` entry."""
    return from_parts([tuple(part) for part in body["event"]])


@lru_cache(maxsize=64)  # thousands of shops are asked for the same plan
def _measure(releases: tuple[DpEvent, ...], rule: RenyiFilter) -> tuple[float, float, Written]:
    """Renyi cost, epsilon as a plan by itself, and written form: equal releases in a row once."""
    written = tuple((tuple(to_parts(event)), len(list(equal))) for event, equal in groupby(releases))
    return rule.cost(releases), epsilon(compose(releases), rule.delta), written


@lru_cache(maxsize=64)
def _decode(written: Written) -> tuple[DpEvent, ...]:
    total = sum(count for _, count in written)
    if not 0 < total <= MOST_SUMS or len(written) > MOST_PARTS or min(count for _, count in written) < 1:
        raise ValueError(f"a plan of {len(written):,} kinds and {total:,} releases")
    return tuple(event for parts, count in written for event in [from_parts(parts)] * count)


def _freeze(written: Any) -> Written:
    if isinstance(written, tuple):
        return written
    if any(type(count) is not int for _, count in written):
        raise ValueError("a number of releases that is not whole")
    return tuple((tuple(tuple(part) for part in parts), count) for parts, count in written)


def _finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def _read(value: float | None) -> float:
    return math.inf if value is None else float(value)
