"""Simulated shops' ledgers: in memory, or in a folder where they outlive the run, and what they say of it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from hashlib import sha256
from secrets import token_hex
from typing import Any

from hansa.dp.ledger import Budget, Ledger
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import RefusalError, UsageError
from hansa.plan import Plan
from hansa_client.shop import LocalShop
from hansa_simulations.settings import SimulationSettings

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def run_name(settings: SimulationSettings, name: str) -> str:
    """``name``, made unique where ledgers outlive the run: a second run is no resumption of the first."""
    return name if settings.ledger.dir is None else f"{name}-{token_hex(4)}"


def open_ledger(settings: SimulationSettings, shop: str, delta: float) -> Ledger:
    """A shop's ledger; with ``ledger.dir`` the one in that folder, which is made if it is not there.

    The ceiling is ``budget.ceiling``. Without it an existing ledger keeps its own, and a new one gets the
    run's epsilon. Runs without privacy are in no ledger.

    Raises:
        UsageError: The folder cannot be made.
    """
    stated, folder = settings.budget.ceiling, settings.ledger.dir
    budget = Budget(stated or settings.epsilon or math.inf, delta)
    if folder is None or settings.dp == "none":
        return Ledger(budget)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--set ledger.dir={folder}: {error.strerror}; give a folder to write to") from error
    return LedgerFile(folder / f"{file_name(shop)}.sqlite", budget, name=shop, follow=stated is not None)


def file_name(shop: str) -> str:
    """A shop's name as a file's: itself, or what is safe of it and a part of its hash."""
    if _SAFE.fullmatch(shop):
        return shop
    return re.sub(r"[^A-Za-z0-9_-]", "_", shop)[:60] + "-" + sha256(shop.encode()).hexdigest()[:12]


def explained(refusal: RefusalError, shops: Sequence[LocalShop], plan: Plan) -> RefusalError:
    """The coordinator's refusal with what a shop's own ledger says, which a simulation may see."""
    for shop in shops:
        detail = shop.ledger.why_not(plan.run, plan.steps) if plan.dp != "none" else None
        if detail is not None:
            return RefusalError(f"{refusal}; shop {shop.name}: {detail}", reason=refusal.reason)
    return refusal


def ledger_sums(shops: Sequence[LocalShop]) -> dict[str, Any]:
    """What the ledgers say is spent over their lifetime: the largest sum, beside its ceiling."""
    sums = []
    for shop in shops:
        try:
            sums.append((shop.ledger.spent(), shop.ledger.ceiling.epsilon))
        except RefusalError:  # a ledger that cannot be read has refused the run, too
            continue
    spent, ceiling = max(sums, default=(None, None))
    return {"largest": spent, "ceiling": ceiling, "readable": len(sums)}
