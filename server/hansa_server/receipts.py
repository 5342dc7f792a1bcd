"""Shops' words on their ledgers, as a coordinator holds them: the furthest of each ledger, over all runs.

They are what a shop's ledger is compared with that was cut, forked or begun anew. So a lower one never takes
the place of a higher, and what does not follow is told: ``FORK``. The coordinator does not know the ledgers'
keys; whether a receipt is signed by its ledger is for the shop to see, in ``ledger reconcile``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from hansa.dp.ledger.entries import Receipt
from hansa.errors import UsageError

FORK, MALFORMED, DAMAGED = "fork or rollback", "malformed receipt", "damaged receipt"
_LONGEST = 1000
_FORM = {"ledger": "[0-9a-f]{32}", "hash": "[0-9a-f]{64}", "signature": "[0-9a-f]{128}"}


def parse(text: str) -> Receipt:
    """A receipt as a shop sends it.

    Raises:
        ValueError: It is none by its form.
    """
    if len(text) > _LONGEST:
        raise ValueError("too long")
    try:
        receipt = Receipt.from_json(text)
    except RecursionError as error:
        raise ValueError("nested") from error
    if type(receipt.sequence) is not int or receipt.sequence < 1:
        raise ValueError("its entry has no number")
    for field, form in _FORM.items():
        if not re.fullmatch(form, getattr(receipt, field)):
            raise ValueError(f"its {field} has another form")
    return receipt


def paths(runs: Path, shop: str) -> Iterator[Path]:
    """Files of a shop's receipts: in each run the newest, and in folders by ledger what it displaced."""
    for folder in sorted(runs.glob("*/receipts")):
        within = [folder, *(each for each in folder.iterdir() if each.is_dir())]
        yield from (path for each in within if (path := each / f"{shop}.json").exists())


def held(runs: Path, shop: str) -> list[Receipt]:
    """What is held of a shop, that of the newest file last.

    Raises:
        UsageError: A file is damaged.
    """
    found = []
    for path in paths(runs, shop):
        try:
            found.append((path.stat().st_mtime_ns, parse(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: not a receipt ({error}); restore it from a backup") from error
    return [receipt for _, receipt in sorted(found, key=lambda pair: pair[0])]


def newest(runs: Path, shop: str) -> Receipt | None:
    """The furthest of a shop's ledger; of several ledgers, that of the newest file. None if there is none."""
    known = held(runs, shop)
    return furthest(known, known[-1].ledger) if known else None


def furthest(known: list[Receipt], ledger: str) -> Receipt | None:
    """The highest of one ledger."""
    own = (receipt for receipt in known if receipt.ledger == ledger)
    return max(own, key=lambda receipt: receipt.sequence, default=None)


def problem(known: list[Receipt], given: Receipt) -> tuple[str, bool]:
    """How a receipt that just came contradicts those that are held.

    Returns:
        What is wrong, else empty; and whether it is to be kept nevertheless.
    """
    before = furthest(known, given.ledger)
    if before is not None and given.sequence < before.sequence:
        return f"its ledger is at entry {given.sequence} and was at entry {before.sequence}", False
    if before is not None and given.sequence == before.sequence and given.hash != before.hash:
        return f"entry {given.sequence} of its ledger is another than before", False
    if known and known[-1].ledger != given.ledger:
        return f"its ledger is another one than before, at entry {given.sequence}", True
    return "", True
