"""A simulated shop in a folder, for engines whose clients run in other processes.

Everything that must outlive a message is in the folder: Ray's actors serve any shop in any round.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.dp.ledger import Budget
from hansa.dp.ledger.file import LedgerFile
from hansa.dp.private_sum import PerformanceSettings
from hansa.durable import write_whole
from hansa.errors import UsageError
from hansa.plan import Plan
from hansa.rng import Source
from hansa.schema import Histories
from hansa.secagg.markers import MarkerFolder
from hansa.secagg.roster import Member, Roster
from hansa_client.shop import LocalShop

SHOPS = "hansa-shops"
"""Key of the run configuration: the folder of simulated shops, each in a folder named by its position."""

_SIMULATED_NODE = {"partition-id", "num-partitions"}
_SETTINGS, _OFFSETS, _ITEMS = "shop.json", "offsets.npy", "items.npy"
_LEDGER, _PLANS, _MARKERS = "ledger.sqlite", "plans", "markers"


class PlanFolder(MutableMapping[str, Plan]):
    """A shop's accepted plans by run, one file each; plans are never taken back.

    Args:
        folder: Created with the first plan.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, run: str) -> Path:
        return self._folder / f"{sha256(run.encode()).hexdigest()}.json"  # a name may hold any character

    def _plans(self) -> list[Plan]:
        return [
            Plan.model_validate_json(path.read_text(encoding="utf-8"))
            for path in sorted(self._folder.glob("*.json"))
        ]

    def __getitem__(self, run: str) -> Plan:
        try:
            plan = Plan.model_validate_json(self._path(run).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise KeyError(run) from None
        return plan

    def __setitem__(self, run: str, plan: Plan) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_whole(self._path(run), plan.model_dump_json().encode())

    def __delitem__(self, run: str) -> None:
        self._path(run).unlink()

    def __iter__(self) -> Iterator[str]:
        return iter([plan.run for plan in self._plans()])

    def __len__(self) -> int:
        return len(self._plans())


def save_shop(shop: LocalShop, folder: Path) -> None:
    """Write a simulated shop into a new folder, with what its ledger holds so far, or where it lies."""
    folder.mkdir(parents=True)
    np.save(folder / _OFFSETS, shop.histories.offsets)
    np.save(folder / _ITEMS, shop.histories.items)
    ledger = shop.ledger
    if not isinstance(ledger, LedgerFile):
        ledger = LedgerFile(folder.resolve() / _LEDGER, durable=False)  # it outlives processes only
        ledger.create(shop.ledger.entries())
    for run, plan in shop.plans.items():
        PlanFolder(folder / _PLANS)[run] = plan
    settings = {
        "name": shop.name,
        "n_items": shop.histories.n_items,
        "ledger": {
            "path": str(ledger.path.resolve()),
            "budget": None if ledger.budget is None else asdict(ledger.budget),
            "name": ledger.name,
            "follow": ledger.follow,
            "durable": ledger.durable,
        },
        "customers": shop.customers,
        "allowed": shop.allowed,
        "noise": asdict(shop.noise),
        "coins": asdict(shop.coins),
        "performance": asdict(shop.performance),
        "coordinator": shop.coordinator,
        "unmasked": shop.unmasked,
        "member": None if shop.member is None else _written(shop.member),
    }
    if shop.member is not None:
        MarkerFolder.create(folder / _MARKERS)
    (folder / _SETTINGS).write_text(json.dumps(settings), encoding="utf-8")


def load_shop(folder: Path) -> LocalShop:
    """The shop in ``folder``, its histories mapped into memory and its ledger and plans kept in the folder.

    Raises:
        UsageError: It is not the folder of a simulated shop.
    """
    try:
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        # Copy on write, since torch wants arrays that could be written to; nobody does.
        offsets, items = (np.asarray(np.load(folder / name, mmap_mode="c")) for name in (_OFFSETS, _ITEMS))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: not the folder of a simulated shop ({error})") from error
    return LocalShop(
        name=settings["name"],
        histories=Histories(offsets, items, settings["n_items"]),
        ledger=_ledger(**settings["ledger"]),
        customers=settings["customers"],
        allowed=tuple(settings["allowed"]),
        noise=_source(**settings["noise"]),
        coins=_source(**settings["coins"]),
        performance=PerformanceSettings(**settings["performance"]),
        plans=PlanFolder(folder / _PLANS),
        coordinator=settings["coordinator"],
        unmasked=settings["unmasked"],
        member=None if settings["member"] is None else _member(**settings["member"]),
        markers=MarkerFolder(folder / _MARKERS),
    )


def restore_books(shop: LocalShop, folder: Path) -> None:
    """Take over what happened to the shop in ``folder``: its ledger and its accepted plans."""
    loaded = load_shop(folder)
    if not isinstance(shop.ledger, LedgerFile):
        shop.ledger.take_over(loaded.ledger.entries())
    shop.plans.update(loaded.plans)


def simulated_folder(node: Mapping[str, object], run: Mapping[str, object]) -> Path | None:
    """The folder of the shop that a simulated node stands for; None on any other node.

    The run's configuration is the coordinator's word. It is believed only where Flower's simulation
    runtime made the node, whose configuration then is a position and a number; a deployed shop's has its own
    keys, and no coordinator can send it to another folder.
    """
    if SHOPS not in run or set(node) != _SIMULATED_NODE:
        return None
    return Path(str(run[SHOPS])) / str(node["partition-id"])


def _ledger(path: str, budget: dict[str, float] | None, **settings: Any) -> LedgerFile:
    return LedgerFile(Path(path), None if budget is None else Budget(**budget), **settings)


def _written(member: Member) -> dict[str, Any]:
    return {
        "name": member.name,
        "key": member.key.private_bytes_raw().hex(),
        "roster": member.roster.to_json(),
        "vouched": sorted(member.vouched),
        "threshold": member.threshold,
        "honest": member.honest,
        "bits": member.bits,
        "colluders": member.colluders,
    }


def _member(key: str, roster: str, vouched: list[str], **settings: Any) -> Member:
    own = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key))
    return Member(key=own, roster=Roster.from_json(roster), vouched=frozenset(vouched), **settings)


def _source(seed: int | None, stream: list[str | int]) -> Source:
    return Source(seed, tuple(stream))
