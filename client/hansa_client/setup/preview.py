"""What a shop's next release would hold, worked out by the very functions that make it, before it leaves.

**Guarantee:** nothing is charged, kept or sent: the ledger is a throw-away one in memory, and the noise is
drawn anew when the release is really made. What is worked out here is as private as the data themselves: the
sum without noise must not leave, and neither must the one with noise, which no ledger has paid for.
"""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hansa.dp.accounting import compose, epsilon
from hansa.dp.clipping import ROUNDING_SLACK
from hansa.dp.events import to_parts
from hansa.dp.ledger import Budget, Ledger
from hansa.dp.private_sum import Table
from hansa.durable import write_whole
from hansa.errors import RefusalError, UsageError
from hansa.models.base import NoisySum, State
from hansa.plan import Plan, noise_growth
from hansa.records import Request
from hansa.rng import system_generator
from hansa.secagg.markers import MarkerMemory
from hansa.secagg.masks import Residues, add_packed, centre, residue_type
from hansa_client.replies import NoReplies
from hansa_client.rounds.training import contribute, part_of_sum
from hansa_client.shop import LocalShop

_PRIVATE = "PRIVATE: never give this file to anybody; its noise was paid for by no ledger"


@dataclass(frozen=True)
class Customers:
    """Numbers about the customers in a release; none of them leaves.

    Attributes:
        all: Customers of the shop.
        counted: Those whose contribution is not zero.
        clipped: Those whose contribution is above the bound, and scaled down to it.
        strongest: The largest norm of a contribution, before it is clipped.
        leaving: The same after.
    """

    all: int
    counted: int
    clipped: int
    strongest: float
    leaving: float


@dataclass(frozen=True)
class Preview:
    """A release before it leaves.

    Attributes:
        plan: The plan.
        round: The round.
        name: What is released.
        shape: Of the table.
        record: Name and type of the array that leaves.
        bytes: Its size.
        bound: L2 bound of a customer's contribution.
        noise: What noise is on each entry.
        deviation: Standard deviation of the noise that this shop adds to each entry.
        whole_deviation: Of the noise of one complete sum.
        event: What the release costs, as the ledger records it.
        epsilon: Of this release alone, at ``delta``.
        plan_epsilon: Of the whole plan.
        delta: The ledger's.
        refusal: Why the ledger would refuse the plan; None if it would not.
        stand_in: Whether earlier rounds were made up from this shop's own sums.
        customers: Numbers about them.
        exact: float32 [rows, width]: the clipped sum without noise.
        made: float32 [rows, width]: a sum with noise like the one that leaves, but for masks.
    """

    plan: Plan
    round: int
    name: str
    shape: tuple[int, int]
    record: str
    bytes: int
    bound: float
    noise: str
    deviation: float
    whole_deviation: float
    event: list[Any]
    epsilon: float
    plan_epsilon: float
    delta: float
    refusal: str | None
    stand_in: bool
    customers: Customers
    exact: Table
    made: Table

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays."""
        left = {"exact", "made", "plan", "customers"}
        told = {name: value for name, value in vars(self).items() if name not in left}
        plan = {"run": self.plan.run, "method": self.plan.method, "dp": self.plan.dp}
        return {**plan, "rounds": len(self.plan.releases), **told, "customers": asdict(self.customers)}


def next_release(shop: LocalShop) -> tuple[Plan, int] | None:
    """The plan accepted last that is not through, and its next round; None if there is none."""
    known = shop.ledger.reservations
    for run in reversed(list(known)):
        plan = shop.plans.get(run)
        if plan is None or known[run].charged >= len(known[run].releases):
            continue
        steps = 0
        for number, release in enumerate(plan.releases, start=1):
            steps += release.steps
            if known[run].charged < steps:
                return plan, number
    return None


def preview(shop: LocalShop, plan: Plan, round_: int = 1) -> Preview:
    """Work out a release of a plan.

    Args:
        shop: The shop; neither its ledger nor its folders are touched.
        plan: An accepted plan, or one that somebody thinks of.
        round_: The round, from 1. The public state before it is not here: where it matters, that of earlier
            rounds is made up from this shop's own sums.

    Raises:
        UsageError: The plan is for another catalogue, has no such round, or leaves sums bare.
        RefusalError: The shop would refuse to compute it.
    """
    if plan.n_items != shop.histories.n_items:
        raise UsageError(f"plan: for {plan.n_items} items, not {shop.histories.n_items} as the catalogue")
    if not 1 <= round_ <= len(plan.releases):
        raise UsageError(f"--round {round_}: the plan has rounds 1 to {len(plan.releases)}")
    if plan.dp not in ("local", "distributed"):
        raise UsageError(f"plan: dp {plan.dp}: a shop never takes part; use local or distributed")
    release, delta = plan.releases[round_ - 1], shop.ledger.ceiling.delta
    state = _state(shop, plan, round_)
    made, record, size = _made(shop, plan, round_, state)
    shared = plan.dp == "distributed"
    whole = float(release.noise_multiplier) * release.bound
    return Preview(
        plan=plan,
        round=round_,
        name=release.name,
        shape=(release.rows, release.width),
        record=record,
        bytes=size,
        bound=release.bound,
        noise=f"Skellam, a share of one in {plan.honest}" if shared else "Gaussian on a grid, complete",
        deviation=whole / math.sqrt(plan.honest) if shared else whole,
        whole_deviation=whole,
        event=[list(part) for part in to_parts(release.event)] * release.steps,
        epsilon=epsilon(compose([release.event] * release.steps), delta),
        plan_epsilon=epsilon(plan.event(), delta),
        delta=delta,
        refusal=shop.ledger.why_not(plan.run, plan.steps),
        stand_in=round_ > 1,
        customers=_customers(shop, plan, round_, state),
        exact=_exact(shop, plan, round_, state),
        made=made,
    )


def write_values(path: Path, seen: Preview) -> None:
    """Write the arrays with and without noise, for the shop's own eyes: NumPy's .npz, mode 0600."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        PRIVATE=np.array(_PRIVATE),
        PRIVATE_without_noise=seen.exact,
        PRIVATE_with_noise=seen.made,
    )
    try:
        write_whole(path, buffer.getvalue())
    except OSError as error:
        raise UsageError(f"--values {path}: {error.strerror or error}") from None


def _throw_away(shop: LocalShop, plan: Plan) -> LocalShop:
    """The same shop with a ledger of its own that pays for anything, and nothing that outlives it."""
    ledger = Ledger(Budget(math.inf, shop.ledger.ceiling.delta))
    if plan.dp != "none":
        ledger.reserve(plan.run, plan.steps, {"plan": plan.digest})
    return replace(
        shop,
        ledger=ledger,
        plans={plan.run: plan},
        allowed=("local", "distributed", "central", "none"),
        markers=MarkerMemory(),
        replies=NoReplies(),
        receive=None,
        unmasked=True,
    )


def _made(shop: LocalShop, plan: Plan, round_: int, state: State) -> tuple[Table, str, int]:
    """The release as it leaves but for masks, the array that carries it, and its bytes."""
    copy, request = _throw_away(shop, plan), Request(plan.run, round_, "", state)
    release = plan.releases[round_ - 1]
    if plan.dp == "local":
        answer = contribute(copy, request)
        if answer.release is None:
            raise RefusalError(f"run {plan.run}: {answer.reason}", reason=answer.reason)
        made = answer.release
        return made, f"release ({made.dtype} {list(made.shape)})", made.nbytes
    packed = part_of_sum(copy, plan, request, _no_mask)
    bits, mechanism = plan.bits(release), release.shared_mechanism
    words = np.zeros(mechanism.entries, residue_type(bits))
    add_packed(words, packed, bits)
    table = (centre(words, bits) * mechanism.quantum).astype(np.float32).reshape(release.rows, release.width)
    return table, f"residues (uint8 [{len(packed)}], modulo 2^{bits}, then masked)", len(packed)


def _no_mask(words: Residues) -> None:
    """Masks hide a sum and leave its size as it is."""


def _exact(shop: LocalShop, plan: Plan, round_: int, state: State) -> Table:
    """The clipped sum without noise."""
    bare = _bare(plan)
    answer = contribute(_throw_away(shop, bare), Request(bare.run, round_, "", state))
    if answer.release is None:
        raise RefusalError(f"run {plan.run}: {answer.reason}", reason=answer.reason)
    return answer.release


def _bare(plan: Plan) -> Plan:
    """The same learning without noise, for this process only."""
    none = {"dp": "none", "noise_scale": 0.0, "threshold": 0, "colluders": 0, "roster": "", "trim": 0.0}
    return Plan(**{**plan.model_dump(), **none})


def _state(shop: LocalShop, plan: Plan, round_: int) -> State:
    """Public state of the right shape: that of a league of this shop alone, whose sums had no noise."""
    learner, memory = plan.learner, dict[str, Table]()
    state = learner.initial_state(system_generator())
    growth = noise_growth(plan.dp, plan.shops, plan.threshold, plan.colluders)
    for number in range(1, round_):
        release = plan.releases[number - 1]
        deviation = float(release.noise_multiplier) * release.bound * growth
        total = _exact(shop, plan, number, state)
        noisy = NoisySum(total, deviation, plan.customers * release.sampling_rate)
        state = learner.update(number, release, state, noisy, memory)
    return state


def _customers(shop: LocalShop, plan: Plan, round_: int, state: State) -> Customers:
    release = plan.releases[round_ - 1]
    contribution = plan.learner.contributor(round_, release, state)
    with torch.no_grad():
        chunks = shop.histories.chunks(shop.performance.chunk)
        norms = [contribution(chunk).squared_norms().sqrt().numpy() for chunk in chunks]
    found = np.nan_to_num(np.concatenate([np.zeros(0), *norms]), nan=0.0, posinf=0.0)
    strongest = float(found.max(initial=0.0))
    return Customers(
        all=len(shop.histories),
        counted=int((found > 0).sum()),
        clipped=int((found > release.bound * (1 + ROUNDING_SLACK)).sum()),
        strongest=strongest,
        leaving=min(strongest, release.bound),
    )
