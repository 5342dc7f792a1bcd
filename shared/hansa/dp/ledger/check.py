"""Finds what is wrong with a ledger: rows in, findings out.

The chain and the signatures are checked first; then the rule is applied anew to every entry, costs and
epsilons included, so that a ledger that spent too much is found even if it was signed with its own key.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hansa.dp.ledger import store
from hansa.dp.ledger.account import Account, Budget, Draft, event_of, opening, releases_of
from hansa.dp.ledger.entries import NOTHING, Entry, Receipt, Row, public_key
from hansa.errors import RefusalError

_NUMBERS = ("cost", "epsilon_before", "epsilon_after", "epsilon", "order")
_PRECISION = 1e-4  # another version of the accountant may differ by a step of its grid


@dataclass(frozen=True)
class Finding:
    """Something wrong.

    Attributes:
        entry: Number of the entry; 0 for the file as a whole.
        problem: What is wrong with it.
    """

    entry: int
    problem: str

    def __str__(self) -> str:
        return f"entry {self.entry}: {self.problem}" if self.entry else self.problem


def read_file(path: Path) -> tuple[list[Row], list[Finding]]:
    """The rows of a ledger's file that can be read, and what stands in the way of the others.

    Raises:
        OSError: There is no such file.
    """
    path.stat()
    found: list[Row] = []
    problems: list[Finding] = []
    try:
        with store.reading(path) as base:
            numbers: list[int] = []
            try:
                numbers.extend(store.numbers(base))
            except sqlite3.DatabaseError as error:
                problems.append(Finding(len(numbers) + 1, f"cannot be found: {error}"))
            for number in numbers:
                try:
                    row = store.row(base, number)
                except sqlite3.DatabaseError as error:
                    problems.append(Finding(number, f"cannot be read: {error}"))
                else:
                    found += [] if row is None else [row]
            for (line,) in base.execute("PRAGMA integrity_check"):
                if line != b"ok":
                    problems.append(Finding(0, f"the file is damaged: {line.decode(errors='replace')}"))
    except sqlite3.DatabaseError as error:
        problems.append(Finding(0, f"the file is damaged or cannot be opened: {error}"))
    return found, problems


def check(
    rows: Iterable[Row], *, key: Ed25519PublicKey | None = None, receipt: Receipt | None = None
) -> list[Finding]:
    """Everything that is wrong with a ledger's rows.

    Args:
        rows: In order.
        key: The shop's public key. None: the one that the first entry names, which then proves only that
            whoever made the ledger made all of it.
        receipt: One that another party holds; without it a cut tail cannot be seen.

    Returns:
        In order of the entries; empty if all is well.
    """
    listed = list(rows)
    if not listed:
        return [Finding(0, "there are no entries")]
    findings = list(_broken_chain(listed, key or _own_key(listed[0])))
    if receipt is not None:
        findings += _against(receipt, listed, key or _own_key(listed[0]))
    if not findings:
        findings += _broken_rule([row.parse() for row in listed])
        findings += _reconciled(listed, key or _own_key(listed[0]))
    return sorted(findings, key=lambda finding: finding.entry)


def _own_key(first: Row) -> Ed25519PublicKey | None:
    try:
        return public_key(first.parse().body["key"])
    except (ValueError, KeyError, TypeError):
        return None


def _broken_chain(rows: list[Row], key: Ed25519PublicKey | None) -> Iterator[Finding]:
    if key is None:
        yield Finding(1, "it names no usable key")
    expected, previous = 1, NOTHING
    for row in rows:
        if row.sequence > expected:
            missing = f"{expected}" if row.sequence == expected + 1 else f"{expected} to {row.sequence - 1}"
            yield Finding(expected, f"missing ({missing})")
        if key is not None and not row.signed_by(key):
            yield Finding(row.sequence, "its signature is not valid: it was changed after it was signed")
        try:
            entry = row.parse()
        except ValueError as error:
            yield Finding(row.sequence, str(error))
        else:
            if entry.sequence != row.sequence:
                yield Finding(row.sequence, f"it was written as entry {entry.sequence}")
            if entry.previous != previous and row.sequence == expected:
                yield Finding(row.sequence, "it does not follow the entry before it, which was changed")
        expected, previous = row.sequence + 1, row.hash


def _against(receipt: Receipt, rows: list[Row], key: Ed25519PublicKey | None) -> Iterator[Finding]:
    number = receipt.sequence
    if key is None or not receipt.signed_by(key):
        yield Finding(0, "the receipt is not signed with this ledger's key")
        return
    found = {row.sequence: row for row in rows}
    if number not in found:
        yield Finding(number, f"missing, and the receipt proves it was there: cut after entry {max(found)}")
    elif found[number].hash != receipt.hash:
        yield Finding(number, "it is another than the receipt's: this is a fork")


def _reconciled(rows: list[Row], key: Ed25519PublicKey | None) -> Iterator[Finding]:
    """A reconciliation's receipt is this ledger's own, and of an entry before it."""
    for row in rows:
        entry = row.parse()
        if entry.kind != "reconcile" or entry.body.get("receipt") is None:
            continue
        try:
            receipt = Receipt.from_json(entry.body["receipt"])
            problems = [*_against(receipt, rows[: row.sequence - 1], key)]
        except (ValueError, TypeError, RecursionError):
            problems = [Finding(0, "it is none")]
        if problems:
            yield Finding(row.sequence, f"its receipt: {problems[0].problem}")


def _broken_rule(entries: list[Entry]) -> Iterator[Finding]:
    """Apply the rule to each entry; the first that breaks it ends the search."""
    account: Account | None = None
    for entry in entries:
        try:
            problem = _judge(account, entry.draft)
            if problem is None and account is None:
                account = Account.opened_by(entry.draft)
            elif problem is None and account is not None:
                account.apply(entry.draft)
        except RefusalError as refusal:
            problem = f"the rule does not allow it: {refusal}"
        except (ValueError, KeyError, TypeError, IndexError, ArithmeticError, MemoryError) as error:
            problem = f"it says nothing that can be understood ({type(error).__name__}: {error})"
        if problem is not None:
            yield Finding(entry.sequence, problem)
            return


def _judge(account: Account | None, draft: Draft) -> str | None:
    """What is wrong with the entry that ``draft`` says, if anything."""
    body = draft.body
    if account is None:
        if draft.kind != "open":
            return f"a ledger opens with an entry of kind open, not {draft.kind}"
        ceiling = math.inf if body["epsilon"] is None else float(body["epsilon"])
        return _differs(opening(Budget(ceiling, float(body["delta"]))).body, body)
    if draft.kind == "reserve":
        again = account.reserve(body["run"], releases_of(body), {})
        return "it reserves a run a second time" if again is None else _differs(again.body, body)
    if draft.kind == "charge":
        if "bound" in body and not 0 < float(body["bound"]) < math.inf:
            return "its bound is not above 0"
        again = account.charge(body["run"], event_of(body), {})
        if type(body["position"]) is not int or again.body["position"] != body["position"]:
            return f"it charges release {body['position']} of the plan, and {again.body['position']} is next"
        return _differs(again.body, body)
    if draft.kind == "ceiling":
        return _differs({"epsilon_before": account.ceiling.epsilon}, body)
    if draft.kind == "refuse" and account.refuse(body["run"], body["reason"], {}) is None:
        return "it enters a refusal twice, or one of too many in a row"
    if draft.kind == "roster" and body["before"] != account.roster:
        return "it replaces another roster than the one that was approved"
    return None


def _differs(expected: Mapping[str, Any], stated: Mapping[str, Any]) -> str | None:
    for name in _NUMBERS:
        if name not in expected:
            continue
        one, other = (math.inf if body[name] is None else float(body[name]) for body in (expected, stated))
        if not math.isclose(one, other, rel_tol=_PRECISION, abs_tol=1e-9):
            return f"its {name} is {other:.6g}, and by the rule {one:.6g}"
    return None
