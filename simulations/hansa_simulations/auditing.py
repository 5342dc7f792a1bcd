"""The audit report of a simulation: real ledgers and plans, keys made for the run, and exact accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.audit.document import Accuracy, Attack, Evidence, LedgerEvidence, Party
from hansa.audit.files import Written, write_report
from hansa.audit.making import Material
from hansa.audit.sources import ledger_evidence, ledger_rows
from hansa.dp.ledger import Ledger
from hansa.dp.ledger.entries import Row, write_all
from hansa.dp.ledger.file import LedgerFile
from hansa.durable import write_whole
from hansa.plan import Plan
from hansa_simulations.members import simulated_roster

MOST_ENTRIES = 20_000
"""Entries of ledgers that a report holds; of larger federations it holds some shops' ledgers."""
_MEMORY = (
    "the ledgers of this simulation lay in memory: their entries bear the time at which the report was made"
)


@dataclass(frozen=True)
class Witnessed:
    """What a run leaves for its report.

    Attributes:
        plan: Its plan.
        ledgers: Of every shop, by name.
        seed: Its seed.
        overlap: Largest number of shops that was declared for one person.
    """

    plan: Plan
    ledgers: Mapping[str, Ledger]
    seed: int
    overlap: int


def write_audit(
    witnessed: Witnessed, result: Mapping[str, Any], out: Path, attacks: Sequence[Attack] | None = None
) -> Written:
    """Write audit-report.json and .html of a simulation.

    Args:
        witnessed: The run; of several seeds the first.
        result: The contract of result.json.
        out: The folder.
        attacks: On the claim; None: none was run.

    Raises:
        UsageError: A ledger is damaged, or the folder cannot be written to.
    """
    return write_report(material_of(witnessed, result, attacks), out)


def material_of(
    witnessed: Witnessed, result: Mapping[str, Any], attacks: Sequence[Attack] | None = None
) -> Material:
    """What the report is made of; see ``write_audit``."""
    plan = witnessed.plan
    ledgers, omitted = _evidence(witnessed.ledgers)
    return Material(
        kind="simulation",
        subject=f"a simulated league of {plan.shops:,} shops on {result['scenario']}",
        league=str(result["scenario"]),
        shop=None,
        parties=[
            Party(role="coordinator", name="hansa simulate", key=None),
            *(Party(role="shop", name=name, key=None) for name in witnessed.ledgers),
        ],
        evidence=Evidence(
            ledgers=ledgers,
            plans=_plans(plan, witnessed.ledgers),
            statements=[],
            receipts=[],
            log=[],
            head=None,
            rosters=[simulated_roster(plan.shops, witnessed.seed).to_json()] if plan.roster else [],
            omitted=omitted,
        ),
        key=Ed25519PrivateKey.generate(),
        overlap=witnessed.overlap,
        declared=list(result["privacy"]["not_covered"]),
        accuracy=accuracy_of(result),
        attacks=None if attacks is None else list(attacks),
    )


def _plans(plan: Plan, ledgers: Mapping[str, Ledger]) -> list[str]:
    """The run's plan; and where ledgers outlive runs, those of earlier ones, which lie beside them."""
    text = plan.model_dump_json()
    folders = {ledger.path.parent for ledger in ledgers.values() if isinstance(ledger, LedgerFile)}
    known = {text: None}
    for folder in folders:
        kept = folder / "plans"
        kept.mkdir(exist_ok=True)
        write_whole(kept / f"{plan.digest}.json", text.encode())
        known |= {path.read_text(encoding="utf-8"): None for path in sorted(kept.glob("*.json"))}
    return list(known)


def _evidence(ledgers: Mapping[str, Ledger]) -> tuple[list[LedgerEvidence], list[str]]:
    found: list[LedgerEvidence] = []
    omitted: list[str] = []
    held = 0
    for name, ledger in sorted(ledgers.items(), key=lambda item: -item[1].spent()):  # the dearest is shown
        rows = _rows(name, ledger)
        held += len(rows)
        if found and held > MOST_ENTRIES:
            omitted.append(
                f"ledgers of {len(ledgers) - len(found):,} of {len(ledgers):,} shops; this report holds "
                f"{MOST_ENTRIES:,} entries at most"
            )
            break
        found.append(ledger_evidence(name, rows))
    if any(not isinstance(ledger, LedgerFile) for ledger in ledgers.values()):
        omitted.append(_MEMORY)
    return found, omitted


def _rows(name: str, ledger: Ledger) -> Sequence[Row]:
    if isinstance(ledger, LedgerFile):
        return ledger_rows(ledger.path)
    return write_all(ledger.entries(), name, Ed25519PrivateKey.generate())


def accuracy_of(result: Mapping[str, Any]) -> Accuracy:
    """What the simulation measured, as a report states it."""
    return Accuracy(
        scenario=str(result["scenario"]),
        protocol=str(result["protocol"]),
        seeds=list(result["seeds"]),
        metrics={name: row for name, row in result["metrics"].items() if row},
        deviations={name: row for name, row in (result.get("metrics_sd") or {}).items() if row} or None,
        gain_kept=result["gain_kept"],
        worse_than_alone=result["per_shop"]["worse_than_alone"],
        customers=result["data"]["customers"],
        shops=result["data"]["shops"],
    )
