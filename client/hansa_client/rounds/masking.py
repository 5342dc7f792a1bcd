"""A shop's part in a masked round: unpack a stage's request, let ``hansa.secagg`` answer, charge, upload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hansa.errors import RefusalError, UsageError
from hansa.records import Answer, Request
from hansa.secagg.messages import Adverts, Agreements, Delivery, Survivors
from hansa.secagg.parameters import RoundParameters
from hansa.secagg.roster import Member
from hansa.secagg.shop import Round, advertise
from hansa_client.rounds.membership import check_membership
from hansa_client.rounds.payment import check_payable
from hansa_client.rounds.statement import statement
from hansa_client.rounds.training import check_state, part_of_sum, receipt, refused
from hansa_client.shop import LocalShop

Kept = bytes | None
"""What a shop keeps between two stages of a round, secrets included; None when there is nothing to keep."""


def answer_stage(shop: LocalShop, stage: str, request: Request, kept: Kept) -> tuple[Answer, Kept]:
    """This shop's answer to a stage of a masked round, and what to keep for the next one.

    Whatever goes wrong is a refusal that forgets the round: the shop counts as dropped, and what it has
    charged stays charged. The ledger is charged at the upload, after everything else was checked.

    Args:
        shop: The shop.
        stage: One of ``hansa.secagg.markers.STAGES``.
        request: What the coordinator asks.
        kept: What the stage before has kept.
    """
    try:
        return _STAGES[stage](shop, request, kept)
    except RefusalError as refusal:
        return refused(shop, request.run, refusal), None
    except UsageError as error:
        return Answer(False, str(error)), None


def _advertise(shop: LocalShop, request: Request, kept: Kept) -> tuple[Answer, Kept]:
    plan = shop.plans.get(request.run)
    if plan is None or plan.dp != "distributed" or not plan.masked:
        raise UsageError("no masked plan of that name was accepted")
    asked = RoundParameters.from_json(request.body)
    if not 1 <= asked.round <= len(plan.releases):
        raise UsageError("no such round in an accepted plan")
    expected = replace(plan.parameters(asked.round, {}), attempt=asked.attempt, state=asked.state)
    if asked != expected:
        raise RefusalError("a round on other terms than the plan's", reason="the round differs from the plan")
    check_payable(shop, plan, asked.round)  # before others count on this shop
    round_, advert = advertise(check_membership(shop, plan), shop.markers, asked)
    return Answer(True, fields=advert.to_fields()), round_.to_bytes()


def _share(shop: LocalShop, request: Request, kept: Kept) -> tuple[Answer, Kept]:
    member, before = _going_on(shop, request, kept)
    round_, envelopes = before.share(member, shop.markers, Adverts.from_fields(request.fields))
    return Answer(True, fields=envelopes.to_fields()), round_.to_bytes()


def _upload(shop: LocalShop, request: Request, kept: Kept) -> tuple[Answer, Kept]:
    member, before = _going_on(shop, request, kept)
    plan, parameters = shop.plans[before.parameters.run], before.parameters
    check_state(plan, request.state)
    if plan.parameters(parameters.round, request.state).state != parameters.state:
        raise RefusalError("the public state is another than the round's", reason="the state differs")
    round_, masks = before.open(member, shop.markers, Delivery.from_fields(request.fields))
    residues = part_of_sum(shop, plan, request, masks.apply)
    signed = receipt(shop), statement(shop, plan, request.round)
    answer = Answer(True, "", None, residues, masks.upload.to_fields(), *signed)
    return answer, round_.to_bytes()


def _agree(shop: LocalShop, request: Request, kept: Kept) -> tuple[Answer, Kept]:
    member, before = _going_on(shop, request, kept)
    round_, agreement = before.agree(member, shop.markers, Survivors.from_fields(request.fields))
    return Answer(True, fields=agreement.to_fields()), round_.to_bytes()


def _unmask(shop: LocalShop, request: Request, kept: Kept) -> tuple[Answer, Kept]:
    member, before = _going_on(shop, request, kept)
    shares = before.unmask(member, shop.markers, Agreements.from_fields(request.fields))
    return Answer(True, fields=shares.to_fields()), None


def _going_on(shop: LocalShop, request: Request, kept: Kept) -> tuple[Member, Round]:
    if kept is None:
        raise RefusalError("nothing is kept of this round: restarted, or never begun", reason="state lost")
    round_ = Round.from_bytes(kept)
    if (round_.parameters.run, round_.parameters.round) != (request.run, request.round):
        raise RefusalError("the round that was begun is another than the message's", reason="state lost")
    plan = shop.plans.get(round_.parameters.run)
    if plan is None or plan.digest != round_.parameters.plan:
        raise RefusalError("the round was begun under another plan", reason="state lost")
    return check_membership(shop, plan), round_


_STAGES: dict[str, Callable[[LocalShop, Request, Kept], tuple[Answer, Kept]]] = {
    "advertise": _advertise,
    "share": _share,
    "upload": _upload,
    "agree": _agree,
    "unmask": _unmask,
}
