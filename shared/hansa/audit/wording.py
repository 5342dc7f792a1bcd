"""What every report says in words: what is protected and what is not, whom a run trusts, which risks."""

from __future__ import annotations

from collections.abc import Sequence

from hansa.plan import Plan

VARIANT = "(epsilon, delta)-differential privacy of everything that leaves a shop, at the level of customers"
UNIT = "one customer of one shop, with all of that customer's interactions"
ADJACENCY = "add or remove one such customer"

TRUST = {
    "local": "each shop adds the whole noise itself: nobody else is trusted",
    "distributed": "shops add shares of the noise and mask their parts: the sum over shops is private "
    "(computationally) if at least h shops in it are honest and tell nobody their share",
    "central": "bounded sums leave bare and the coordinator adds the noise: it is trusted; simulations only",
    "none": "exact sums leave: nothing is protected; simulations only",
}
UNKNOWN_TRUST = "the plan is not part of this report, so whom it trusts is not known"
UNMASKED = "the parts are not masked, which only a simulation does"

COVERED = (
    "everything that left a shop for the league: model updates, item counts, co-occurrence sums and figures "
    "of evaluation are private sums through one door, charged before they were computed, or follow from them",
    "what is made of it later: the league's model, whatever is computed from it",
    "customers whose data were incomplete or odd: they contribute zero, and cause no errors or absences",
)
NOT_COVERED = (
    "what a shop serves: recommendations, reasons, similar and bought-together items and the weight of the "
    "blend use the shop's exact data and carry no guarantee against its own customers and staff; "
    "--serve shared-only does, if personalised only by the history of whoever asks",
    "that a shop takes part, when, its assortment and its rough size; what is left of timing",
    "a person who is a customer of more shops than the overlap that is stated; overlap is declared, and "
    "nobody enforces it",
    "whether the program ran as stated, whether the list of releases is complete, and accuracy: these are "
    "attested by the parties and tested by attacks, not proven",
    "the owner of a shop, or a thief of its key: the ledger's key lies beside it and could sign another "
    "history; that shows only against receipts that another party holds. Clocks are no evidence",
    "what was chosen by looking at private data without being charged: see tuning",
)
DISTRIBUTED = (
    "more than k shops that tell others their shares of the noise: then the noise is smaller than claimed",
    "a dishonest shop that puts anything into a masked sum: it spoils the model, and learns no more",
    "whoever breaks X25519, Ed25519, ChaCha20-Poly1305, AES-256 or HKDF-SHA256",
)
SIMULATED = (
    "real customers, in any way: this is a simulation. Its noise comes from a configured seed so that runs "
    "repeat, its keys were made for the run, and it reads exact data for its metrics and references",
)

RISKS = (
    (
        "floating-point noise discloses inputs (Mironov 2012)",
        "noise is drawn on a grid and added to sums of whole multiples of it; rounding is inside the bound",
    ),
    (
        "predictable or repeated noise",
        "noise and coins come from the operating system's entropy through AES in counter mode; nothing is "
        "reused, and a round is never made twice under the same number",
    ),
    (
        "a customer moves the sum by more than the bound",
        "contributions are pure functions of one customer's row and released state, to the last bit; each is "
        "clipped; tests remove customers one at a time, also with hostile public states",
    ),
    (
        "the sampling that is claimed is not the one that runs",
        "Poisson sampling with fresh secret coins for each sum; batches of fixed size are not used; an empty "
        "sample adds noise and is charged",
    ),
    (
        "a release that nobody charged",
        "one function releases, and it charges the ledger first; a second check looks at what leaves, by the "
        "ledger's entries",
    ),
    (
        "budgets that start anew after a crash, a restore or a second league",
        "the ledger is on the disk before anything is computed; copies are refused until they are reconciled "
        "with a receipt that another party holds",
    ),
    (
        "later plans that are chosen after earlier results",
        "a Renyi filter of an order fixed at the opening (Feldman and Zrnic 2021)",
    ),
    (
        "timing and sizes of messages",
        "arrays have the full shape of the public catalogue; replies of a deployed shop leave at whole "
        "multiples of a pace; what a longer computation tells beyond that is not covered",
    ),
    (
        "faults in the accountant",
        "every epsilon here is recomputed by hansa audit verify from the listed events, cross-checked where "
        "another accountant knows the noise; the specification suffices to write an independent verifier",
    ),
)

TUNING = (
    "the plan's settings are the method's defaults or those listed under runs; how the defaults were chosen "
    "is told in the program's documentation (docs/results.md). None of it was charged here"
)

PROOF = (
    "Verification proves integrity and arithmetic: IF the listed events were run as stated and are complete, "
    "the stated epsilon follows. It does not prove execution, completeness or accuracy."
)


def trust_of(plan: Plan) -> str:
    """Whom a plan trusts, in words."""
    words = TRUST.get(plan.dp, plan.dp)
    return words if plan.masked else f"{words}; {UNMASKED}"


def provided(plans: Sequence[Plan | None]) -> str:
    """What a guarantee under these plans rests on; empty: on each shop alone."""
    shared = [plan for plan in plans if plan is not None and plan.dp == "distributed"]
    conditions = []
    if shared:
        fewest = max(plan.colluders for plan in shared)
        shops = f"{fewest} shop" + "s" * (fewest != 1)
        conditions.append(f"no more than {shops} of a sum tell others their share of its noise")
    if any(plan is not None and plan.dp == "central" for plan in plans):
        conditions.append("the coordinator adds the noise")
    if any(plan is None for plan in plans):
        conditions.append("what the plans rest on that are missing here holds")
    return "provided that " + ", and that ".join(conditions) if conditions else ""


def not_covered(models: set[str], kind: str) -> list[str]:
    """What is not protected under these DP models."""
    return [
        *(SIMULATED if kind == "simulation" else ()),
        *NOT_COVERED,
        *(DISTRIBUTED if "distributed" in models else ()),
    ]
