"""What parties signed, read and checked: texts in, books and findings out.

Nothing here trusts the report that the texts came in. What contradicts itself, or is not signed by who is
named, is a finding; what cannot be seen from the evidence alone is for ``hansa.audit.together``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hansa.audit.document import Evidence, LedgerEvidence
from hansa.dp.ledger.account import Account
from hansa.dp.ledger.check import check
from hansa.dp.ledger.entries import NOTHING, Entry, Receipt, Row, public_key
from hansa.errors import HansaError
from hansa.plan import Plan, parse_plan
from hansa.secagg.roster import Roster
from hansa.transparency import LogHead, LogLine, ReleaseReceipt, endorsed, read_lines


@dataclass(frozen=True)
class Books:
    """A shop's ledger.

    Attributes:
        shop: Whose it is said to be.
        key: Its public key, hex.
        identity: Its own, from the first entry.
        rows: As they are stored.
        entries: What they say.
        account: Their sum.
        endorsement: See ``LedgerEvidence``.
        league: See ``LedgerEvidence``.
    """

    shop: str
    key: str
    identity: str
    rows: list[Row]
    entries: list[Entry]
    account: Account
    endorsement: str | None
    league: str | None

    def endorsed_by(self, key: bytes) -> bool:
        """Whether the holder of this long-term key vouches that it is the shop's ledger."""
        said = self.endorsement
        return bool(said) and endorsed(key, str(said), self.league or "", self.shop, self.identity, self.key)


@dataclass
class Exhibits:
    """Evidence that was read.

    Attributes:
        ledgers: Shops' ledgers that are in order.
        plans: By digest.
        statements: Of releases.
        receipts: Of ledgers, by identity the furthest.
        log: The coordinator's log.
        head: The coordinator's word on it.
        rosters: By digest.
        omitted: What was left out.
        findings: What is wrong.
    """

    ledgers: list[Books] = field(default_factory=list)
    plans: dict[str, Plan] = field(default_factory=dict)
    statements: list[ReleaseReceipt] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    log: list[LogLine] = field(default_factory=list)
    head: LogHead | None = None
    rosters: dict[str, Roster] = field(default_factory=dict)
    omitted: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    def plan(self, digest: str | None) -> Plan | None:
        """The plan of a digest, if it is there."""
        return self.plans.get(digest or "")


def read_evidence(evidence: Evidence, signer: str) -> Exhibits:
    """Read and check everything.

    Args:
        evidence: The texts.
        signer: The public key that signed the report, hex: of a coordinator's log it must be the head's.
    """
    found = Exhibits(omitted=list(evidence.omitted))
    _read_plans(evidence.plans, found)
    _read_rosters(evidence.rosters, found)
    for ledger in evidence.ledgers:
        _read_ledger(ledger, found)
    _read_statements(evidence.statements, found)
    _read_receipts(evidence.receipts, found)
    _read_log(evidence, signer, found)
    _compare(found)
    return found


def _read_plans(texts: Iterable[str], found: Exhibits) -> None:
    for text in texts:
        try:
            plan = parse_plan(text)
            if plan.model_dump_json() != text or plan.digest in found.plans:
                raise ValueError("spelled in another way than its digest is of, or given twice")
            found.plans[plan.digest] = plan
        except (HansaError, ValueError, OverflowError) as error:
            found.findings.append(f"a plan cannot be read: {error}")


def _read_rosters(texts: Iterable[str], found: Exhibits) -> None:
    for text in texts:
        try:
            roster = Roster.from_json(text)
        except HansaError as error:
            found.findings.append(f"a roster cannot be read: {error}")
        else:
            if roster.to_json() != text:
                found.findings.append("a roster is spelled in another way than its digest is of")
            found.rosters[roster.digest] = roster


def _read_ledger(ledger: LedgerEvidence, found: Exhibits) -> None:
    rows = [
        Row(number, row.text.encode("utf-8", "replace"), bytes.fromhex(row.signature))
        for number, row in enumerate(ledger.rows, start=1)
    ]
    problems = [f"ledger of {ledger.shop}: {finding}" for finding in check(rows)]
    if problems:
        found.findings += problems
        return
    entries = [row.parse() for row in rows]
    opened = entries[0].body
    if opened.get("shop") != ledger.shop:
        found.findings.append(f"ledger of {ledger.shop}: its first entry names another shop")
    if any(books.identity == opened["ledger"] for books in found.ledgers):
        found.findings.append(f"ledger of {ledger.shop}: given twice")
    account = Account.of([entry.draft for entry in entries])
    identity, key = str(opened["ledger"]), str(opened["key"])
    found.ledgers.append(
        Books(ledger.shop, key, identity, rows, entries, account, ledger.endorsement, ledger.league)
    )


def _read_statements(texts: Iterable[str], found: Exhibits) -> None:
    seen: dict[tuple[str, int], str] = {}
    for text in texts:
        try:
            said = ReleaseReceipt.from_json(text)
            said.check()
        except (HansaError, ValueError) as error:
            found.findings.append(f"a shop's statement cannot be used: {error}")
            continue
        if seen.setdefault((said.ledger, said.sequence), text) != text:
            found.findings.append(
                f"statements of {said.shop}: two different ones are of entry {said.sequence} of its ledger: "
                "the shop has shown two histories"
            )
        found.statements.append(said)


def _read_receipts(texts: Iterable[str], found: Exhibits) -> None:
    for text in texts:
        try:
            receipt = Receipt.from_json(text)
            if (
                receipt.sequence < 1
                or receipt.to_json() != text
                or not re.fullmatch("[0-9a-f]{128}", receipt.signature)
            ):
                raise ValueError("spelled in another way than receipts are")
            found.receipts.append(receipt)
        except (ValueError, RecursionError) as error:
            found.findings.append(f"a receipt cannot be read: {error}")


def _read_log(evidence: Evidence, signer: str, found: Exhibits) -> None:
    try:
        found.log = lines = read_lines(evidence.log)
    except HansaError as error:
        found.findings.append(f"coordinator's log: {error}")
        return
    if evidence.head is None:
        if evidence.log:
            found.findings.append("coordinator's log: its head is missing, so nobody has signed it")
        return
    try:
        head = LogHead.from_json(evidence.head)
        head.check(signer)
    except (HansaError, ValueError) as error:
        found.findings.append(f"coordinator's log: its head cannot be used: {error}")
        return
    found.head = head
    if (head.size, head.hash) != (len(lines), lines[-1].hash if lines else NOTHING):
        found.findings.append(f"coordinator's log: its head is of {head.size} other lines")


def _compare(found: Exhibits) -> None:
    """Statements and receipts against the ledgers that are there, and against the log."""
    ledgers = {books.identity: books for books in found.ledgers}
    for said in found.statements:
        books = ledgers.get(said.ledger)
        if books is not None:
            found.findings += [f"statement of {said.shop}: {text}" for text in contradictions(said, books)]
    for receipt in found.receipts:
        books = ledgers.get(receipt.ledger)
        key = None if books is None else books.key
        keys = {key} if key else {said.key for said in found.statements if said.ledger == receipt.ledger}
        if not keys:
            found.findings.append(
                f"a receipt is of the ledger {receipt.ledger[:8]}, of which nothing is here"
            )
        elif not any(receipt.signed_by(public_key(each)) for each in keys):
            found.findings.append(f"a receipt is not signed by its ledger {receipt.ledger[:8]}")
        elif books is not None:
            found.findings += [f"ledger of {books.shop}: {text}" for text in against(receipt, books)]
        for said in found.statements:
            if said.ledger == receipt.ledger and said.sequence > receipt.sequence:
                found.findings.append(
                    f"the receipt of {said.shop} is of entry {receipt.sequence}, its statement of the later "
                    f"entry {said.sequence}"
                )
            elif (said.ledger, said.sequence) == (receipt.ledger, receipt.sequence) and (
                said.hash != receipt.hash
            ):
                found.findings.append(f"{said.shop} has shown two histories of entry {said.sequence}")


def contradictions(said: ReleaseReceipt, books: Books) -> list[str]:
    """What a shop's statement says that its ledger does not."""
    if said.key != books.key:
        return ["signed with another key than its ledger's"]
    if said.sequence > len(books.rows):
        end = f"the ledger shown ends at entry {len(books.rows)}"
        return [f"of entry {said.sequence}; {end}: it was cut, or is an older one"]
    if books.rows[said.sequence - 1].hash != said.hash:
        return [f"entry {said.sequence} of the ledger shown is another one: the shop has two histories"]
    charged = charges_of(said, books)
    return [] if charged else ["its ledger has no such charges"]


def charges_of(said: ReleaseReceipt, books: Books) -> list[Entry]:
    """The charges that a statement names: the last ones up to its entry that make up its events."""
    charges = [entry for entry in books.entries[: said.sequence] if entry.kind == "charge"]
    named: list[Entry] = []
    parts: list[Any] = []
    for entry in reversed(charges):
        if len(parts) >= len(said.events):
            break
        named, parts = [entry, *named], [*entry.body["event"], *parts]
    same = parts == written(said) and all(
        (entry.body.get("round"), entry.body.get("release")) == (said.round, said.release) for entry in named
    )
    return named if same else []


def written(said: ReleaseReceipt) -> list[list[Any]]:
    """The events of a statement as ledgers write them in JSON."""
    return [list(part) for part in said.events]


def against(receipt: Receipt, books: Books) -> list[str]:
    """What a receipt says that a ledger does not."""
    if receipt.sequence > len(books.rows):
        return [f"cut or older: a receipt proves entry {receipt.sequence}, and it ends at {len(books.rows)}"]
    if books.rows[receipt.sequence - 1].hash != receipt.hash:
        return [f"forked: entry {receipt.sequence} is another than a receipt's"]
    return []


def heads_of(books: Books) -> list[tuple[Entry, dict[str, Any]]]:
    """The words of the coordinator on its log that a shop has written down, in order."""
    listed = [(entry, entry.body.get("log")) for entry in books.entries]
    return [(entry, head) for entry, head in listed if isinstance(head, dict) and _is_head(head)]


def _is_head(head: dict[str, Any]) -> bool:
    return type(head.get("size")) is int and head["size"] > 0 and isinstance(head.get("hash"), str)
