"""Holds several documents against each other: whoever has shown two histories is found here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from hansa.audit.binding import signed_head
from hansa.audit.evidence import Books, Exhibits, against, contradictions, heads_of
from hansa.audit.verify import Verdict
from hansa.dp.ledger.entries import NOTHING


def compare(verdicts: Sequence[Verdict], coordinator: str | None = None) -> list[str]:
    """What several reports, each consistent in itself, say against each other.

    Args:
        verdicts: Of reports; those with findings of their own are left out.
        coordinator: The coordinator's public key from elsewhere, hex: only heads that it signed accuse it.
    """
    sound = [verdict for verdict in verdicts if not verdict.findings]
    read = [(verdict, verdict.exhibits) for verdict in sound if verdict.exhibits is not None]
    problems = []
    for (one, first), (other, second) in combinations(read, 2):
        where = f"{one.source} and {other.source}: "
        both = [*_ledgers(first, second), *_statements(first, second), *_logs(first, second)]
        problems += [where + problem for problem in both]
    ledgers = _longest([books for _, found in read for books in found.ledgers])
    signers = _signers(verdicts, coordinator)
    for verdict, found in read:
        problems += [f"{verdict.source}: {problem}" for problem in _shown(found, ledgers, signers)]
    shown = [(verdict.source, books) for verdict, found in read for books in found.ledgers]
    problems += _heads(shown, signers)
    return list(dict.fromkeys(problems))


def _signers(verdicts: Sequence[Verdict], coordinator: str | None) -> set[str]:
    """Keys of coordinators: those of federations' reports, and the one from elsewhere."""
    federations = [v.report for v in verdicts if v.report and v.report.statement.kind == "federation"]
    return {report.signature.key for report in federations} | ({coordinator} if coordinator else set())


def _ledgers(one: Exhibits, other: Exhibits) -> Iterator[str]:
    """The same ledger twice: the longer must go on from the shorter."""
    for mine in one.ledgers:
        for theirs in other.ledgers:
            if mine.identity == theirs.identity:
                yield from _one_history(mine, theirs)
            elif mine.shop == theirs.shop and mine.league == theirs.league:
                yield f"{mine.shop} has two ledgers ({mine.identity[:8]}, {theirs.identity[:8]})"


def _one_history(mine: Books, theirs: Books) -> Iterator[str]:
    for number, (one, other) in enumerate(zip(mine.rows, theirs.rows, strict=False), start=1):
        if one.hash != other.hash:
            yield f"{mine.shop} has two histories: entry {number} of its ledger differs"
            return


def _statements(one: Exhibits, other: Exhibits) -> Iterator[str]:
    held = {(said.ledger, said.sequence): said for said in one.statements}
    for said in other.statements:
        same = held.get((said.ledger, said.sequence))
        if same is not None and same.hash != said.hash:
            yield f"{said.shop} has two histories: its statements of entry {said.sequence} differ"


def _longest(shown: Sequence[Books]) -> dict[str, Books]:
    """Of each ledger the one with most entries: an older report of a shop contradicts nobody."""
    return {books.identity: books for books in sorted(shown, key=lambda books: len(books.rows))}


def _shown(theirs: Exhibits, ledgers: Mapping[str, Books], signers: set[str]) -> Iterator[str]:
    """What shops and coordinator signed in one document, against the ledgers that any shows."""
    for said in theirs.statements:
        books = ledgers.get(said.ledger)
        if books is not None:
            yield from (f"statement of {said.shop}: {problem}" for problem in contradictions(said, books))
        elif any((said.shop, said.league) == (each.shop, each.league) for each in ledgers.values()):
            yield f"statement of {said.shop}: of another ledger than the one it shows"
    for receipt in theirs.receipts:
        books = ledgers.get(receipt.ledger)
        if books is not None:
            yield from (f"ledger of {books.shop}: {problem}" for problem in against(receipt, books))
    if not theirs.log or theirs.head is None:
        return
    hashes = [NOTHING, *(line.hash for line in theirs.log)]
    for books in ledgers.values():
        if books.league != theirs.head.league:
            continue
        yield from _hidden(books, theirs)
        for entry, head in heads_of(books):
            if not _signed(head, books, signers):
                continue  # told by ``_heads``, and no word of the coordinator's
            place = f"entry {entry.sequence} of {books.shop}: the coordinator showed"
            if head["size"] >= len(hashes):
                yield f"{place} {head['size']} lines of its log, here it has {len(theirs.log)}: it was cut"
            elif hashes[head["size"]] != head["hash"]:
                yield f"{place} another line {head['size']} of its log: it has two histories"


def _hidden(books: Books, theirs: Exhibits) -> Iterator[str]:
    """Runs that a shop has accepted for the league, and rounds that it answered, against the log."""
    begun = {line.body["run"] for line in theirs.log if line.kind == "run"}
    paid_for: dict[str, str] = {}
    charged: set[tuple[str | None, object]] = set()
    for entry in books.entries:
        body = entry.body
        if entry.kind == "reserve":
            run = paid_for[body["run"]] = str(body.get("again") or body["run"])
            if run not in begun and body.get("asked_by") == books.league:
                place = f"entry {entry.sequence} of {books.shop}"
                yield f"{place}: it accepted the run {run}, of which the log has nothing: hidden, or older"
        elif entry.kind == "charge":
            charged.add((paid_for.get(body["run"]), body.get("round")))
    for line in theirs.log:
        if line.kind != "round" or books.shop not in line.body["answered"]:
            continue
        run, round_ = line.body["run"], line.body["round"]
        if (run, round_) not in charged:
            place = f"line {line.sequence} of the log: {books.shop} answered round {round_} of {run}"
            yield f"{place}, and its ledger has no charge for it: cut, or older"


def _logs(one: Exhibits, other: Exhibits) -> Iterator[str]:
    if one.head is None or other.head is None or one.head.league != other.head.league:
        return
    for mine, theirs in zip(one.log, other.log, strict=False):
        if mine.hash != theirs.hash:
            yield f"the coordinator has two histories: line {mine.sequence} of its log differs"
            return


def _heads(shown: Sequence[tuple[str, Books]], signers: set[str]) -> Iterator[str]:
    """The coordinator's words on its log, as shops wrote them down: one history, and never shorter."""
    known: dict[tuple[str | None, int], tuple[str, str]] = {}
    doubt = "" if signers else " (or a shop made one up: give --coordinator)"
    for source, books in shown:
        before = 0
        for entry, head in heads_of(books):
            place = f"{source}, entry {entry.sequence}"
            if signers and not _signed(head, books, signers):
                yield f"{place}: {books.shop} has written down a head that the coordinator has not signed"
                continue
            size, hash_ = int(head["size"]), str(head["hash"])
            if size < before:
                yield f"{place}: the coordinator's log went back from {before} to {size} lines{doubt}"
            before = max(before, size)
            first, seen = known.setdefault((books.league, size), (place, hash_))
            if seen != hash_:
                yield f"{first} and {place}: the coordinator showed two histories of {size} lines{doubt}"


def _signed(head: Mapping[str, Any], books: Books, signers: set[str]) -> bool:
    return any(signed_head(head, books.league or "", key) for key in signers)
