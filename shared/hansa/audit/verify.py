"""Goes the way back: opens a report, checks every signature, and recomputes every figure from the evidence.

**What it proves.** The file is as its signer made it; each ledger is one chain, signed throughout by one
key, and followed its own rule; statements, receipts and log fit it; every stated epsilon, delta and count
follows from the listed events. That is integrity and arithmetic. Whether the events were run as stated,
whether they are complete, and accuracy, are not proven; nor who the signer is, unless a roster or key from
elsewhere says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hansa import __version__
from hansa.audit.binding import unbound
from hansa.audit.derive import derive
from hansa.audit.document import ATTESTED, Derived, Report
from hansa.audit.evidence import Exhibits, read_evidence
from hansa.audit.league import gaps, oddities
from hansa.audit.signing import open_report
from hansa.errors import VerificationError
from hansa.secagg.roster import Roster

_ODD = (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, MemoryError, RecursionError)
_PRECISION = 1e-4  # another version of the accountant may differ by a step of its grid


@dataclass(frozen=True)
class Trusted:
    """What the verifier has from elsewhere.

    Attributes:
        rosters: Of the league, the present one and earlier ones.
        coordinator: Its public key, hex.
    """

    rosters: Sequence[Roster] = ()
    coordinator: str | None = None


@dataclass
class Verdict:
    """What a verification came to.

    Attributes:
        source: The file.
        findings: What is wrong; empty: consistent.
        notes: What is not wrong, and should be known.
        report: The report, where it could be read.
        exhibits: Its evidence, read.
        authenticated: Whether a roster or key from elsewhere says who signed.
    """

    source: str
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    report: Report | None = None
    exhibits: Exhibits | None = None
    authenticated: bool = False

    @property
    def words(self) -> str:
        """In one line."""
        if self.findings:
            count = len(self.findings)
            return f"{self.source}: NOT consistent: {count} finding{'s' * (count > 1)}"
        who = "signer authenticated" if self.authenticated else "signer not authenticated"
        return f"{self.source}: consistent, {who}"


def verify(content: bytes, source: str, trusted: Trusted | None = None) -> Verdict:
    """Check a report by itself; see ``hansa.audit.together`` for several.

    Args:
        content: The bytes of its file.
        source: Where from, for messages.
        trusted: What is known from elsewhere.
    """
    verdict, trusted = Verdict(source), trusted or Trusted()
    try:
        report = open_report(content, source)
    except VerificationError as error:
        verdict.findings.append(str(error))
        return verdict
    verdict.report, statement = report, report.statement
    try:
        verdict.exhibits = found = read_evidence(statement.evidence, report.signature.key)
    except _ODD as error:
        verdict.findings.append(f"its evidence cannot be read: {type(error).__name__}: {error}")
        return verdict
    verdict.findings += found.findings
    verdict.findings += _signer(report, found)
    if not verdict.findings:
        verdict.findings += _bound(report, found, trusted)
    if not verdict.findings:
        _recompute(report, found, verdict)
    _authenticate(report, found, trusted, verdict)
    verdict.notes += [f"left out of the evidence: {words}" for words in found.omitted]
    return verdict


def _signer(report: Report, found: Exhibits) -> Iterator[str]:
    """A shop's report is signed with the key of the one ledger that it is about."""
    statement = report.statement
    if statement.kind == "shop":
        keys = {books.key for books in found.ledgers}
        if keys and keys != {report.signature.key}:
            yield "signed with another key than that of the ledger that it is about"
        if any(books.shop != statement.identity.shop for books in found.ledgers):
            yield "identity.shop names another shop than the ledger"
        if any(books.league != statement.identity.league for books in found.ledgers):
            yield "identity.league names another league than the ledger's endorsement"
    if statement.kind != "federation":
        return
    if found.head is None:
        yield "evidence.head is missing: a federation's report rests on the coordinator's signed log"
    elif statement.identity.league != found.head.league:
        yield "identity.league names another league than the log's head"
    elif any(said.league != found.head.league for said in found.statements):
        yield "a statement is of another league than the log"


def _bound(report: Report, found: Exhibits, trusted: Trusted) -> list[str]:
    kind = report.statement.kind
    coordinator = report.signature.key if kind == "federation" else trusted.coordinator
    try:
        return list(unbound(kind, found, coordinator))
    except _ODD as error:
        return [f"its evidence says nothing that can be understood: {type(error).__name__}: {error}"]


def _recompute(report: Report, found: Exhibits, verdict: Verdict) -> None:
    statement = report.statement
    try:
        if statement.kind == "federation":
            verdict.findings += gaps(found)
            verdict.notes += oddities(found)
        again = derive(statement.kind, found, statement.guarantee.overlap)
    except _ODD as error:
        verdict.findings.append(f"its figures cannot be recomputed: {type(error).__name__}: {error}")
        return
    stated = statement.model_dump(mode="json", include=set(Derived.model_fields))
    program = statement.identity.program
    hint = "" if program == __version__ else f" (made by version {program}, this is {__version__})"
    for path, said, other in differences(stated, again.model_dump(mode="json")):
        verdict.findings.append(f"{path} is {_short(said)}, and by the evidence {_short(other)}{hint}")


def _authenticate(report: Report, found: Exhibits, trusted: Trusted, verdict: Verdict) -> None:
    kind = report.statement.kind
    if kind == "simulation":
        verdict.notes.append("a simulation: its keys were made for the run and authenticate nobody")
        return
    if not trusted.rosters:
        verdict.notes.append("without a roster from elsewhere nobody knows whose keys these are")
    problems = list(_strangers(found, trusted.rosters)) if trusted.rosters else []
    verdict.findings += problems
    known = bool(trusted.rosters) and not problems
    if kind == "federation":
        if trusted.coordinator is None:
            verdict.notes.append("without the coordinator's key from elsewhere its log is anybody's")
        elif trusted.coordinator != report.signature.key:
            verdict.findings.append("signed with another key than the coordinator's")
        known = known and trusted.coordinator == report.signature.key
    verdict.authenticated = known and not verdict.findings
    verdict.notes += [f"only the signer's word: {name}" for name in ATTESTED if _said(report, name)]


def _strangers(found: Exhibits, rosters: Sequence[Roster]) -> Iterator[str]:
    """Ledgers and statements that no key on a roster vouches for."""
    for books in found.ledgers:
        if not any(
            books.endorsed_by(roster.keys[books.shop]) for roster in rosters if books.shop in roster.keys
        ):
            yield f"ledger of {books.shop}: no key on the roster vouches for it"
    for said in found.statements:
        keys = [roster.keys[said.shop] for roster in rosters if said.shop in roster.keys]
        if not any(said.endorsed_by(key) for key in keys):
            where = f"statement of {said.shop} on {said.run}, round {said.round}"
            yield f"{where}: no key on the roster vouches for it"


def _said(report: Report, name: str) -> bool:
    return getattr(report.statement, name) is not None


def differences(stated: Any, again: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two values differ: (place, one, other); numbers count as equal within the accountant's grid."""
    if isinstance(stated, Mapping) and isinstance(again, Mapping):
        for name in sorted({*stated, *again}):
            place = f"{path}.{name}" if path else str(name)
            yield from differences(stated.get(name), again.get(name), place)
    elif isinstance(stated, list) and isinstance(again, list):
        if len(stated) != len(again):
            yield f"{path} (length)", len(stated), len(again)
        for number, (one, other) in enumerate(zip(stated, again, strict=False)):
            yield from differences(one, other, f"{path}[{number}]")
    elif _numbers(stated, again):
        if not math.isclose(stated, again, rel_tol=_PRECISION, abs_tol=1e-12):
            yield path, stated, again
    elif stated != again or type(stated) is not type(again):
        yield path, stated, again


def _numbers(one: Any, other: Any) -> bool:
    return isinstance(one, float) and isinstance(other, float)


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
