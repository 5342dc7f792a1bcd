"""A shop's answers to the coordinator: whether it takes part, and its private sum of a round."""

from __future__ import annotations

import logging
from contextlib import suppress

import torch

from hansa.dp.private_sum import Contribution, Door, Mask, Share, Table
from hansa.dp.sgd import PrivateSumOptimizer
from hansa.errors import HansaError, RefusalError, UsageError
from hansa.models.base import State
from hansa.plan import Plan, digest_of, parse_plan
from hansa.records import Answer, Request
from hansa.secagg.masks import Residues, pack
from hansa.secagg.parameters import is_name
from hansa_client.rounds import payment
from hansa_client.rounds.membership import check_membership
from hansa_client.rounds.statement import log_shown, statement
from hansa_client.shop import LocalShop

log = logging.getLogger(__name__)


def consider(shop: LocalShop, request: Request) -> Answer:
    """Accept or refuse a run as a whole, before its first release.

    The plan must be well formed, use a DP model that the shop allows, and fit under the shop's ceiling.
    """
    try:
        plan = parse_plan(request.body)
        if plan.run != request.run:
            raise UsageError("plan: the run's name differs from the request's")
        if shop.key is not None and not is_name(plan.run):  # else a release could not be signed for
            reason = "the run's name cannot be written down"
            raise RefusalError(f"run {plan.run!r}: {reason}", reason=reason)
        if plan.n_items != shop.histories.n_items:
            reason = "the plan is for another catalogue"
            raise RefusalError(f"{reason}: {plan.n_items} items, not {shop.histories.n_items}", reason=reason)
        if shop.plans.get(plan.run, plan).digest != plan.digest:
            reason = "the plan differs from the one accepted under this name"
            raise RefusalError(f"run {plan.run}: {reason}", reason=reason)
        if plan.dp not in shop.allowed:
            reason = f"the shop does not take part in DP model {plan.dp!r}"
            raise RefusalError(reason, reason=reason)
        if not plan.masked and not shop.unmasked:
            reason = "the shop's part of a sum does not leave without masks"
            raise RefusalError(reason, reason=reason)
        if plan.dp == "distributed" and plan.masked:
            check_membership(shop, plan)
        if plan.dp != "none":
            about = {"asked_by": shop.coordinator, "plan": plan.digest, **log_shown(shop, request.head)}
            shop.ledger.reserve(plan.run, plan.steps, about)
    except RefusalError as refusal:
        return refused(shop, request.run, refusal)
    except UsageError as error:
        return Answer(False, str(error))
    shop.plans[plan.run] = plan
    return Answer(True, receipt=receipt(shop))


def receipt(shop: LocalShop) -> str:
    """The shop's word on its ledger as it is sent; empty where the ledger has no key."""
    signed = shop.ledger.receipt()
    return "" if signed is None else signed.to_json()


def contribute(shop: LocalShop, request: Request) -> Answer:
    """The shop's private sum for a round of a run that it has accepted."""
    plan = shop.plans.get(request.run)
    if plan is None or not 1 <= request.round <= len(plan.releases):
        return Answer(False, "no such round in an accepted plan")
    try:
        check_state(plan, request.state)
        if plan.dp == "distributed":
            if plan.masked or not shop.unmasked:
                return Answer(False, "the shop's part of a sum does not leave without masks")
            residues = part_of_sum(shop, plan, request, _unmasked)
            return Answer(True, residues=residues, statement=statement(shop, plan, request.round))
        return _own_sum(shop, plan, request)
    except RefusalError as refusal:
        return refused(shop, request.run, refusal)


def _own_sum(shop: LocalShop, plan: Plan, request: Request) -> Answer:
    """The shop's own sum, or the same bytes again if it has sent it before."""
    about = plan.run, request.round, plan.digest, digest_of(request.state)
    sent = shop.replies.find(*about)
    made = _release(shop, plan, request) if sent is None else sent
    if sent is None:
        shop.replies.keep(*about, made)
    return Answer(True, release=made, receipt=receipt(shop), statement=statement(shop, plan, request.round))


def receive(shop: LocalShop, request: Request) -> Answer:
    """Keep the model that a run has come to."""
    if shop.receive is None:
        return Answer(False, "the shop keeps no models")
    try:
        shop.receive(request.body, request.state)
    except HansaError as error:  # its text may name folders of the shop
        log.warning("shop %s: %s", shop.name, error)
        return Answer(False, "the shop did not keep the model")
    return Answer(True)


def check_state(plan: Plan, state: State) -> None:
    """See that public state has the plan's shape: another one could fail for customers of some items only.

    Raises:
        RefusalError: It has not.
    """
    if {name: table.shape for name, table in state.items()} != plan.learner.state_shapes():
        reason = "the public state does not have the plan's shape"
        raise RefusalError(f"run {plan.run}: {reason}", reason=reason)


def refused(shop: LocalShop, run: str, refusal: RefusalError) -> Answer:
    """The answer of a refusal, which is entered in the ledger; the numbers stay in the shop's own log."""
    log.info("shop %s: %s", shop.name, refusal)
    enter_refusal(shop, run, refusal.reason)
    return Answer(False, refusal.reason)


def enter_refusal(shop: LocalShop, run: str, reason: str) -> None:
    """Enter in the ledger that a run or a round was refused; one that cannot be written refuses anyhow."""
    with suppress(RefusalError):
        shop.ledger.refuse(run, reason, {"asked_by": shop.coordinator})


def part_of_sum(shop: LocalShop, plan: Plan, request: Request, mask: Mask) -> bytes:
    """The shop's part of a round's sum over shops under ``distributed`` noise, packed.

    Args:
        shop: The shop.
        plan: A plan that it has accepted.
        request: The round, and the public state.
        mask: Adds the masks in place.

    Raises:
        RefusalError: The ledger does not have this release as the next of the plan.
    """
    release, door = plan.releases[request.round - 1], _door(shop, plan, request)
    share = Share(plan.honest, plan.bits(release), mask)
    contribution = plan.learner.contributor(request.round, release, request.state)
    return pack(door.masked_sum(release, contribution, shop.histories, share), share.bits)


def _unmasked(words: Residues) -> None:
    """Adds nothing."""


def _door(shop: LocalShop, plan: Plan, request: Request) -> Door:
    round_ = request.round
    shown = log_shown(shop, request.head)
    run = plan.run if plan.dp == "none" else payment.reserve(shop, plan, round_, shown)
    noise, coins = shop.noise.generator(round_), shop.coins.generator(round_)
    return Door(plan.dp, shop.ledger, run, noise, coins, shop.performance, round_, request.message, shown)


def _release(shop: LocalShop, plan: Plan, request: Request) -> Table:
    round_, state = request.round, request.state
    release, learner = plan.releases[round_ - 1], plan.learner
    door = _door(shop, plan, request)

    def contribution_at(now: State) -> Contribution:
        return learner.contributor(round_, release, now)

    if release.steps == 1:
        return door.private_sum(release, contribution_at(state), shop.histories)
    # Several private sums, each a step of the shop's own copy; their whole way is post-processing.
    expected = max(1.0, shop.customers * release.sampling_rate)
    start = torch.from_numpy(state[release.name])
    table = torch.nn.Parameter(start.clone())
    optimizer = PrivateSumOptimizer(
        learner.local_optimizer([table]),
        door,
        release,
        lambda now: contribution_at({**state, release.name: now}),
        shop.histories,
        expected,
    )
    for _ in range(release.steps):
        optimizer.step()
    way: Table = ((start - table.detach()) * expected).numpy()
    return way
