"""The sections of an audit report that follow from its evidence, and who states it; None is "missing"."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from hansa.dp.accounting import Part

Scalar = float | int | str | bool | None
Hex64 = Field(pattern="^[0-9a-f]{64}$")


class Section(BaseModel):
    """A part of a statement: nothing in it but what is listed, and never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Party(Section):
    """Who has which part in the league.

    Attributes:
        role: ``shop``, ``coordinator``.
        name: Its name in the league.
        key: The public key that its statements are signed with, hex.
    """

    role: str
    name: str
    key: str | None


class Identity(Section):
    """Who states this, about what, with which program. Attested.

    Attributes:
        subject: What the report is about, in words.
        league: The league's name.
        shop: The shop whose ledger it is.
        made: When, ISO 8601, by the signer's clock, which is no evidence.
        parties: Who takes part.
        contact: Whom to ask.
        program: Version of Hansa that made the report.
        sources: SHA-256 over the installed sources of Hansa, hex.
        libraries: Versions of what the figures rest on.
    """

    subject: str
    league: str | None
    shop: str | None
    made: str
    parties: list[Party]
    contact: str | None
    program: str
    sources: str = Hex64
    libraries: dict[str, str]


class Point(Section):
    """A point of a privacy profile: (epsilon, delta)-DP."""

    epsilon: float
    delta: float


class Overlap(Section):
    """Epsilon for a customer of several shops that took part in exactly these runs, at the report's delta."""

    shops: int
    epsilon: float | None


class Guarantee(Section):
    """What holds for a customer.

    Attributes:
        variant: Kind of differential privacy.
        epsilon: None: nothing is guaranteed.
        delta: At which it is stated.
        claim: In words that can be quoted.
        profile: Further points at which it holds.
        mu: The smallest mu of Gaussian DP that is proven to dominate it.
        overlaps: For customers of several shops.
        overlap: Largest number of shops that was declared for one person.
    """

    variant: str
    epsilon: float | None
    delta: float | None
    claim: str
    profile: list[Point]
    mu: float | None
    overlaps: list[Overlap]
    overlap: int | None


class Cap(Section):
    """What one customer can contribute to a release.

    Attributes:
        run: The run.
        release: The release.
        bound: L2 norm C that a contribution is clipped to.
        interactions: Most interactions of a customer that enter it.
    """

    run: str
    release: str
    bound: float | None
    interactions: int | None


class Unit(Section):
    """Whom the guarantee protects."""

    unit: str
    adjacency: str
    caps: list[Cap]


class Trust(Section):
    """Whom a run asks to be trusted.

    Attributes:
        run: The run.
        dp: The DP model.
        words: What that means.
        threshold: Of ``distributed``: fewest shops t in a sum.
        colluders: Of ``distributed``: most shops k that may tell their shares of the noise.
        honest: Of ``distributed``: shops h whose shares make up the whole noise.
        masked: Whether the parts of a sum are masked.
        roster: Digest of the roster.
        vouched: Shops that this shop's operator has vouched for.
    """

    run: str
    dp: str | None
    words: str
    threshold: int | None
    colluders: int | None
    honest: int | None
    masked: bool | None
    roster: str | None
    vouched: list[str] | None


class Run(Section):
    """A run that was accepted.

    Attributes:
        run: Its name.
        accepted: When.
        asked_by: Who asked.
        plan: SHA-256 of the plan.
        again: The run of which it pays a lost round again.
        method: The method of learning.
        settings: The plan's hyperparameters that are not defaults.
        items: Size of the catalogue.
        customers: Declared bound on the federation's customers.
        shops: Shops invited.
        planned: Private sums planned.
        charged: Of them, how far it came: sums charged or passed over.
        epsilon: Of the whole plan by itself, at the report's delta.
        epsilon_after: Spent in all once it was accepted.
        ended: Nothing of it can follow any more.
    """

    run: str
    accepted: str | None
    asked_by: str | None
    plan: str | None
    again: str | None
    method: str | None
    settings: dict[str, Scalar]
    items: int | None
    customers: int | None
    shops: int | None
    planned: int
    charged: int
    epsilon: float | None
    epsilon_after: float | None
    ended: bool


class Release(Section):
    """Private sums that left.

    Attributes:
        number: Of the ledger's entry, or of the log's line.
        time: When, by the clock of whoever wrote it.
        run: The run that pays.
        round: The round.
        release: What was released.
        mechanism: ``Gaussian`` or ``Skellam`` noise, ``none``.
        parts: Written form of what was charged.
        bound: L2 bound C of a contribution.
        sigma: Standard deviation of the noise of one complete sum.
        multiplier: ``sigma`` / ``bound``.
        sampling: Rate of the Poisson sampling, as implemented; 1: everybody.
        to: Who got it.
        shops: In how many shops' answers, where it is about a federation.
        epsilon_after: Epsilon of what was charged by then.
        log: Length of the coordinator's log that the shop was shown.
    """

    number: int
    time: str | None
    run: str
    round: int | None
    release: str | None
    mechanism: str
    parts: list[Part]
    bound: float | None
    sigma: float | None
    multiplier: float | None
    sampling: float | None
    to: str | None
    shops: int | None
    epsilon_after: float | None
    log: int | None


class Protection(Section):
    """What is protected and what is not."""

    covered: list[str]
    not_covered: list[str]


class Check(Section):
    """Another accountant's figure for the dearest run by itself."""

    accountant: str
    run: str
    epsilon: float | None
    claimed: float | None


class Accounting(Section):
    """How figures follow from events.

    Attributes:
        accountant: Of a plan that is fixed in advance.
        composition: Over runs.
        order: Renyi order of the filter, fixed when the ledger was opened.
        amplification: Which is claimed.
        cross_check: None where no other accountant knows the noise.
    """

    accountant: str
    composition: str
    order: float | None
    amplification: str
    cross_check: Check | None


class Tuning(Section):
    """How hyperparameters were chosen.

    Attributes:
        words: What is known.
        declared: What the signer says of choices that looked at private data.
    """

    words: str
    declared: list[str] | None


class Moment(Section):
    """The budget after an entry."""

    number: int
    time: str
    spent: float
    charged: float
    ceiling: float | None


class Change(Section):
    """A changed ceiling."""

    number: int
    time: str
    before: float | None
    after: float | None


class Refusal(Section):
    """A run or a round that was refused."""

    number: int
    time: str
    shop: str | None
    run: str
    reason: str


class Restart(Section):
    """A ledger that was taken into use again, or a run that was gone on with."""

    number: int
    time: str
    words: str


class Budget(Section):
    """The lifetime budget of one ledger.

    Attributes:
        ledger: Its identity.
        shop: Whose it is; of many, the one that has spent most.
        ceiling: The present one; None: no limit.
        delta: Of the whole lifetime.
        spent: Epsilon of every plan that was accepted.
        charged: Epsilon of what was released.
        left: ``ceiling`` - ``spent``, not below 0.
        closed: History was lost: nothing is accepted any more.
        history: After every entry that moved it.
        changes: Of the ceiling.
        refusals: What was refused.
        restarts: Reconciliations after a restore.
    """

    ledger: str | None
    shop: str | None
    ceiling: float | None
    delta: float | None
    spent: float | None
    charged: float | None
    left: float | None
    closed: bool | None
    history: list[Moment]
    changes: list[Change]
    refusals: list[Refusal]
    restarts: list[Restart]


class Member(Section):
    """What a federation's report knows of a shop.

    Attributes:
        shop: Its name.
        ledger: Its ledger.
        key: Its ledger's public key.
        statements: Signed statements that the report holds of it.
        answered: Rounds for which the coordinator says that it answered.
        sequence: Length of its ledger by its last signed word.
        epsilon: Of all runs that it took part in; None: see ``Guarantee``.
    """

    shop: str
    ledger: str | None
    key: str | None
    statements: int
    answered: int
    sequence: int | None
    epsilon: float | None


class Risk(Section):
    """A risk of the implementation, and what is done about it."""

    risk: str
    treatment: str
