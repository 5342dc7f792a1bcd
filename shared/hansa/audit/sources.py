"""A ledger's file as the source of a report, and what every source of a shop's report has in common."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from hansa.audit.document import Evidence, LedgerEvidence, Party, SignedRow
from hansa.audit.making import Material
from hansa.dp.ledger.beside import Beside
from hansa.dp.ledger.check import read_file
from hansa.dp.ledger.entries import Row
from hansa.errors import UsageError


def ledger_material(path: Path) -> Material | None:
    """A bare ledger, such as a simulated shop's: plans and league are not known.

    Raises:
        UsageError: It is damaged, or its key is not beside it.
    """
    if not path.is_file() or path.suffix != ".sqlite":
        return None
    return shop_material(path, ledger_rows(path), league=None, plans=[], endorsement=None, rosters=[])


def shop_material(
    path: Path,
    rows: Sequence[Row],
    *,
    league: str | None,
    plans: list[str],
    endorsement: str | None,
    rosters: list[str],
    parties: Sequence[Party] = (),
) -> Material:
    """A shop's report.

    Args:
        path: The ledger's file, with its key beside it.
        rows: Its entries.
        league: The league's name.
        plans: The accepted plans as JSON.
        endorsement: By the shop's long-term key.
        rosters: The approved rosters as JSON.
        parties: Who takes part.

    Raises:
        UsageError: The ledger's key is not there.
    """
    try:
        key = Beside(path).read_key()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: its key is not beside it ({error}); restore it from a backup") from error
    named = {row.parse().body.get("plan") for row in rows}
    shop = str(rows[0].parse().body.get("shop", ""))
    return Material(
        kind="shop",
        subject=f"the privacy budget of the shop {shop}" if shop else "the privacy budget of a shop",
        league=league,
        shop=shop,
        parties=parties,
        evidence=Evidence(
            ledgers=[ledger_evidence(shop, rows, league, endorsement)],
            plans=[plan for plan in plans if sha256(plan.encode()).hexdigest() in named],
            statements=[],
            receipts=[],
            log=[],
            head=None,
            rosters=rosters,
            omitted=[],
        ),
        key=key,
    )


def ledger_evidence(
    shop: str, rows: Sequence[Row], league: str | None = None, endorsement: str | None = None
) -> LedgerEvidence:
    """A ledger as evidence."""
    signed = [SignedRow(text=row.text.decode("ascii"), signature=row.signature.hex()) for row in rows]
    return LedgerEvidence(league=league, shop=shop, endorsement=endorsement, rows=signed)


def ledger_rows(path: Path) -> list[Row]:
    """The entries of a ledger's file.

    Raises:
        UsageError: It cannot be read as a whole.
    """
    try:
        rows, problems = read_file(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give a ledger's file") from error
    if problems or not rows:
        why = problems[0] if problems else "it has no entries"
        raise UsageError(f"{path}: {why}; see 'hansa client ledger verify'")
    return rows
