"""The form of an audit report: what it states, field by field. None is "missing", and shown as such.

What is derived from the evidence is recomputed by ``hansa.audit.verify``; the attested sections
(``identity``, ``tuning``, ``empirical``, ``accuracy``) are the signer's word alone.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hansa.audit.sections import (
    Accounting,
    Budget,
    Cap,
    Change,
    Check,
    Guarantee,
    Hex64,
    Identity,
    Member,
    Moment,
    Overlap,
    Party,
    Point,
    Protection,
    Refusal,
    Release,
    Restart,
    Risk,
    Run,
    Scalar,
    Section,
    Trust,
    Tuning,
    Unit,
)

__all__ = [
    "ATTESTED",
    "FORMAT",
    "Accounting",
    "Accuracy",
    "Attack",
    "Budget",
    "Cap",
    "Change",
    "Check",
    "Derived",
    "Evidence",
    "Guarantee",
    "Identity",
    "LedgerEvidence",
    "Member",
    "Moment",
    "Overlap",
    "Party",
    "Point",
    "Protection",
    "Refusal",
    "Release",
    "Report",
    "Restart",
    "Risk",
    "Run",
    "Section",
    "Signature",
    "SignedRow",
    "Statement",
    "Trust",
    "Tuning",
    "Unit",
]

FORMAT = "hansa audit report 1"
ATTESTED = ("identity", "tuning", "empirical", "accuracy")
"""Sections that rest on the signer's word; all others follow from the evidence."""


class Attack(Section):
    """Result of an attack of ``hansa audit attack``. Attested; see ``hansa_simulations.attacks``."""

    attack: str
    method: str
    dp: str
    claimed: float | None
    delta: float | None
    bound: float | None
    confidence: float | None
    trials: int
    figures: dict[str, Scalar]
    broken: bool
    words: str


class Accuracy(Section):
    """What a simulation measured at this epsilon. Attested.

    Attributes:
        scenario: The data.
        protocol: How items were held out.
        seeds: Seeds of the runs.
        metrics: Means by what is judged (``model``, ``shared``, ``alone``, ...) and metric.
        deviations: Their standard deviations over seeds.
        gain_kept: (model - alone) / (pooled - alone) on ndcg@10.
        worse_than_alone: Shops that are significantly worse off.
        customers: How many were judged.
        shops: How many shops.
    """

    scenario: str
    protocol: str
    seeds: list[int]
    metrics: dict[str, dict[str, float | None]]
    deviations: dict[str, dict[str, float | None]] | None
    gain_kept: float | None
    worse_than_alone: int | None
    customers: int | None
    shops: int | None


class SignedRow(Section):
    """An entry of a ledger: its exact text, and the ledger's signature, hex."""

    text: str
    signature: str = Field(pattern="^[0-9a-f]{128}$")


class LedgerEvidence(Section):
    """A shop's ledger.

    Attributes:
        league: The league that the endorsement names.
        shop: The shop.
        endorsement: By the shop's long-term key, see ``hansa.transparency.endorse``; None: nobody vouches for
            whose ledger it is.
        rows: Every entry.
    """

    league: str | None
    shop: str
    endorsement: str | None = Field(pattern="^[0-9a-f]{128}$")
    rows: list[SignedRow]


class Evidence(Section):
    """What the figures follow from: exact texts with the signatures of those who wrote them.

    Attributes:
        ledgers: Shops' ledgers.
        plans: Plans as JSON, in the spelling that their digest is of.
        statements: Shops' signed statements on releases (``hansa.transparency.ReleaseReceipt``).
        receipts: Shops' signed words on their ledgers (``hansa.dp.ledger.entries.Receipt``).
        log: The coordinator's log, line by line.
        head: The coordinator's signed word on its log (``hansa.transparency.LogHead``).
        rosters: Rosters as JSON.
        omitted: What was left out for length, in words.
    """

    ledgers: list[LedgerEvidence]
    plans: list[str]
    statements: list[str]
    receipts: list[str]
    log: list[str]
    head: str | None
    rosters: list[str]
    omitted: list[str]


class Derived(Section):
    """The sections that follow from the evidence."""

    guarantee: Guarantee
    unit: Unit
    trust: list[Trust]
    runs: list[Run]
    releases: list[Release]
    members: list[Member]
    protection: Protection
    accounting: Accounting
    budget: Budget
    risks: list[Risk]


class Statement(Derived):
    """All that a report states."""

    kind: Literal["shop", "federation", "simulation"]
    identity: Identity
    tuning: Tuning
    empirical: list[Attack] | None
    accuracy: Accuracy | None
    evidence: Evidence


class Signature(Section):
    """Ed25519, hex, over ``FORMAT``, a newline and the statement's exact bytes."""

    key: str = Hex64
    value: str = Field(pattern="^[0-9a-f]{128}$")


class Report(Section):
    """A whole document."""

    format: Literal["hansa audit report 1"]
    statement: Statement
    signature: Signature
