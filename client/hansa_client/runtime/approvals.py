"""What a shop demands of a message before anything of the shop answers it.

**Guarantee:** what a coordinator can set is the plan, checked against the shop's own ranges, and fields of
messages whose meaning Hansa's protocol fixes: nothing else in a run's configuration or in a message is
accepted, let alone read. The plan and the roster in a run's configuration are those of its messages. A
bundle's code plays no part: only its hash is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hansa.dp.ledger import Ledger
from hansa.dp.ledger.account import Account
from hansa.errors import HansaError, RefusalError, UsageError
from hansa.league import ModelCard
from hansa.plan import Plan, parse_plan
from hansa.records import MODEL_MESSAGE, PLAN_MESSAGE, RELEASE_MESSAGE, STAGE_MESSAGES, Request
from hansa.secagg.messages import Adverts, Agreements, Delivery, Message, Survivors
from hansa.secagg.parameters import RoundParameters
from hansa.secagg.roster import Roster
from hansa_client.config import Approvals, ShopSettings
from hansa_client.home import ShopHome
from hansa_client.rounds.payment import price
from hansa_client.runtime.decisions import Decisions
from hansa_client.shop import LocalShop

PLAN, ROSTER, TIMEOUT, MODEL = "plan", "hansa-roster", "round-timeout", "model"
KEYS: dict[str, type | tuple[type, ...]] = {PLAN: str, ROSTER: str, TIMEOUT: (int, float), MODEL: str}
"""Of a run's configuration: all that it may have, with their types. An empty text counts as absent."""

ADVERTISE = STAGE_MESSAGES["advertise"]
UPLOAD = STAGE_MESSAGES["upload"]
MESSAGES = {PLAN_MESSAGE, RELEASE_MESSAGE, MODEL_MESSAGE, *STAGE_MESSAGES.values()}
_WITH_STATE = {RELEASE_MESSAGE, UPLOAD, MODEL_MESSAGE}
_FIELDS: dict[str, type[Message]] = {
    STAGE_MESSAGES["share"]: Adverts,
    UPLOAD: Delivery,
    STAGE_MESSAGES["agree"]: Survivors,
    STAGE_MESSAGES["unmask"]: Agreements,
}
_TOLERANCE = 1e-6
_ROOM = 2**24  # bytes; of a masked round some hundred for each shop


class ForbiddenError(RefusalError):
    """What no coordinator that follows the protocol asks: it gets an error of Flower's, no answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"refused by shop policy: {reason}", reason=f"refused by shop policy: {reason}")


@dataclass(frozen=True)
class Policy:
    """One shop's demands, by its files as they are now.

    Attributes:
        home: The shop's folder.
        settings: What its ``shop.toml`` says.
    """

    home: ShopHome
    settings: ShopSettings

    def admit_bundle(self, digest: str) -> None:
        """See that the operator has approved the bundle with this hash.

        Raises:
            ForbiddenError: He has not.
        """
        if digest not in self.settings.approvals.bundles:
            Decisions(self.home).ask("bundle", digest, "a run came with another app bundle than the approved")
            raise ForbiddenError(f"the bundle {digest[:16]} is not approved")

    def largest(self, bundle: str, config: Mapping[str, Any], items: int) -> int:
        """Most bytes that a message may have: what the arrays of its plan need, and room for the rest.

        Args:
            bundle: SHA-256 of the run's bundle; of one that is not approved nothing else is looked at.
            config: The run's configuration.
            items: Of the shop's own catalogue.
        """
        text, most = config.get(PLAN), self.settings.network.megabytes * 2**20
        if bundle not in self.settings.approvals.bundles:
            return _ROOM
        if not (isinstance(text, str) and text):  # a model that comes by itself
            return most if config.get(MODEL) else _ROOM
        try:
            plan = _plan(text)
        except ForbiddenError:
            return _ROOM
        if plan.n_items != items:
            return _ROOM
        return min(most, 4 * sum(map(math.prod, plan.learner.state_shapes().values())) + _ROOM)

    def admit(self, kind: str, config: Mapping[str, Any], request: Request, shop: str) -> Plan | None:
        """See that a message may be answered.

        Args:
            kind: Flower's message type.
            config: The run's configuration.
            request: The message, that holds nothing besides.
            shop: This shop's name.

        Returns:
            The run's plan; None where a run only hands over a model.

        Raises:
            ForbiddenError: The message or the configuration is none of the protocol's.
            RefusalError: The plan or roster is outside of what the shop accepts, or waits for the operator.
        """
        given = read_config(config)
        if kind not in MESSAGES:
            raise ForbiddenError("unknown type of message")
        if PLAN not in given:
            if kind != MODEL_MESSAGE or set(given) - {MODEL, TIMEOUT}:
                raise ForbiddenError("the run's configuration has no plan")
            check_request(kind, request, None)
            return None
        plan = _plan(given[PLAN])
        if MODEL in given:
            raise ForbiddenError("the run's configuration has both plan and model")
        check_request(kind, request, plan)
        if kind != MODEL_MESSAGE:  # what was learnt under an earlier approval may still be taken
            self._admit_plan(plan)
            self._admit_roster(plan, given.get(ROSTER, ""), shop)
        return plan

    def admit_by_books(self, kind: str, plan: Plan | None, shop: LocalShop) -> None:
        """See that what was admitted is what the shop will go by: the plan that it has accepted by this name.

        Args:
            kind: Flower's message type.
            plan: As ``admit`` gave it.
            shop: Whose plans and ledger are looked at.

        Raises:
            RefusalError: Another plan was accepted by this name; or it would be one too many within a day.
        """
        if plan is None or kind == MODEL_MESSAGE:
            return
        if kind == PLAN_MESSAGE and plan.run not in shop.ledger.reservations:
            self._admit_another(plan, shop)
        if shop.plans.get(plan.run, plan).digest != plan.digest:
            reason = "the plan differs from the one accepted under this name"
            raise RefusalError(f"run {plan.run}: {reason}", reason=reason)

    def _admit_another(self, plan: Plan, shop: LocalShop) -> None:
        most = self.settings.approvals.plans_a_day
        if Decisions(self.home).approved_plan(plan.digest):
            return
        if shop.ledger.plans_since(datetime.now(UTC) - timedelta(days=1)) >= most:
            reason = "the shop accepts no more plans today"
            raise RefusalError(f"run {plan.run}: {reason}, {most} were", reason=reason)

    def most(self, plan: Plan | None) -> float:
        """What a plan may cost together with its rounds that are paid again.

        One that the operator has approved may be repeated as the settings say: the cost of that was shown.
        """
        if plan is not None and Decisions(self.home).approved_plan(plan.digest):
            return float("inf")
        return self.settings.approvals.epsilon

    def _admit_plan(self, plan: Plan) -> None:
        if plan.dp in ("central", "none"):
            raise _outside("dp")
        decisions = Decisions(self.home)
        if decisions.rejected(plan.digest):
            raise RefusalError(f"run {plan.run}: rejected", reason="the operator has rejected the plan")
        if decisions.approved_plan(plan.digest):
            return
        outside = outside_ranges(plan, self.settings)
        if not outside and self.settings.approvals.plans == "ranges":
            return
        why = f"outside the shop's ranges: {', '.join(outside)}" if outside else "every plan is asked for"
        decisions.ask("plan", plan.digest, why, plan.model_dump_json())
        if outside:
            raise _outside(*outside)
        raise RefusalError(f"run {plan.run}: waits", reason="the plan waits for the operator's approval")

    def _admit_roster(self, plan: Plan, text: str, shop: str) -> None:
        if not (plan.dp == "distributed" and plan.masked):
            if text:
                raise ForbiddenError("a roster with a plan that masks nothing")
            return
        try:
            roster = Roster.from_json(text)
        except UsageError:
            raise ForbiddenError("the run's roster cannot be read") from None
        if roster.digest != plan.roster:
            raise ForbiddenError("the run's roster is not the plan's")
        if shop not in roster.keys:
            raise ForbiddenError("the roster does not list this shop")
        decisions = Decisions(self.home)
        approved = decisions.approved_roster()
        if approved is not None and approved.digest == roster.digest:
            return  # whether the ledger agrees is looked at with the round's other terms
        if decisions.ask("roster", roster.digest, "a roster that is not approved", roster.to_json()):
            raise RefusalError(
                f"run {plan.run}: roster", reason="the roster waits for the operator's approval"
            )
        raise RefusalError(f"run {plan.run}: roster", reason="the operator has rejected the roster")


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration without what is empty.

    Raises:
        ForbiddenError: It has a key or a value that is none of the protocol's.
    """
    for key, value in config.items():
        if key not in KEYS or not isinstance(value, KEYS[key]) or isinstance(value, bool):
            raise ForbiddenError("the run's configuration has other settings than Hansa's")
    return {key: value for key, value in config.items() if value != ""}


def check_request(kind: str, request: Request, plan: Plan | None) -> None:
    """See that a message says what its type says, and is about the run's plan.

    Raises:
        ForbiddenError: It does not.
    """
    if bool(request.state) != (kind in _WITH_STATE):
        raise ForbiddenError("arrays where the message has none, or none where it has")
    if bool(request.fields) != (kind in _FIELDS):
        raise ForbiddenError("a protocol record where the message has none, or none where it has")
    try:
        if kind in _FIELDS:
            _FIELDS[kind].from_fields(request.fields)
        run, round_ = _subject(kind, request)
    except HansaError:
        raise ForbiddenError("a malformed message") from None
    if plan is not None and (run != plan.run or request.run != plan.run):
        raise ForbiddenError("the message is about another run than the configuration's plan")
    if request.run != run or request.round != round_:
        raise ForbiddenError("the message contradicts itself")
    if plan is not None and kind == PLAN_MESSAGE and _plan(request.body).digest != plan.digest:
        raise ForbiddenError("the message's plan is not the configuration's")
    if plan is not None and kind not in (PLAN_MESSAGE, MODEL_MESSAGE):
        if not 1 <= round_ <= len(plan.releases):
            raise ForbiddenError("the plan has no such round")
        if (kind == RELEASE_MESSAGE) == (plan.dp == "distributed" and plan.masked):
            raise ForbiddenError("the message does not belong to the plan's DP model")


def _subject(kind: str, request: Request) -> tuple[str, int]:
    """The run and the round that a message's body is about; of a message without body what it says."""
    if kind == PLAN_MESSAGE:
        return _plan(request.body).run, 0
    if kind == MODEL_MESSAGE:
        return ModelCard.from_json(request.body, "model").run, request.round
    if kind == ADVERTISE:
        parameters = RoundParameters.from_json(request.body)
        return parameters.run, parameters.round
    if request.body:
        raise UsageError("request: a body where the message has none")
    return request.run, request.round


def outside_ranges(plan: Plan, settings: ShopSettings) -> list[str]:
    """Names of the ranges that a plan leaves.

    Epsilon alone is not enough: what a release discloses of the few customers of a sample that is rarer than
    delta hardly counts in it, whence the least noise multiplier.
    """
    ranges: Approvals = settings.approvals
    hidden, few = plan.dp == "distributed", len(plan.steps) <= ranges.releases  # too many are not priced
    return [
        name
        for name, inside in {
            "dp": plan.dp in ranges.dp,
            "method": plan.method in ranges.methods,
            "noise": not few or all(release.noise_multiplier >= ranges.noise for release in plan.releases),
            "releases": few,
            "shops": not hidden or plan.shops >= ranges.shops,
            "delta": plan.delta <= settings.budget.delta,
            "masked": not hidden or plan.masked,
            "epsilon": not few or cost(plan, settings.budget.delta) <= ranges.epsilon + _TOLERANCE,
        }.items()
        if not inside
    ]


def cost(plan: Plan, delta: float) -> float:
    """Epsilon of a whole plan at ``delta``, for a customer of one shop."""
    return price(plan.steps, delta)


def spent_after(plan: Plan, ledger: Ledger) -> float | None:
    """What a ledger would have spent with this plan; None if it would refuse it."""
    account = Account.of(ledger.entries())
    try:
        draft = account.reserve(plan.run, plan.steps, {"plan": plan.digest})
    except RefusalError:
        return None
    return account.spent if draft is None else float(draft.body["epsilon_after"])


def _plan(text: str) -> Plan:
    try:
        return parse_plan(text)
    except UsageError:
        raise ForbiddenError("the plan cannot be read") from None


def _outside(*ranges: str) -> RefusalError:
    reason = f"outside the shop's ranges: {', '.join(ranges)}"
    return RefusalError(reason, reason=reason)
