"""Signed texts and ledgers, by ``docs/audit-report.md``: what :mod:`independent_verifier` reads them with."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from independent_accountant import Part, convert, cost, known, merged, order_for, own, same

Json = Any
ENTRY = {"body", "code", "kind", "previous", "sequence", "time"}
NOTHING = "0" * 64
PRIME = 2**255 - 19
EIGHTH = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL = {0, 1, PRIME - 1, EIGHTH, PRIME - EIGHTH}  # y of the points of order 1, 2, 4 and 8


def sha(text: str | bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """An object of distinct keys."""
    if len({k for k, _ in pairs}) < len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def canonical(text: str) -> Json:
    """The value of a text that must be in canonical form."""
    value = json.loads(text, object_pairs_hook=unique)
    again = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    again.encode().decode("unicode_escape").encode()  # half a surrogate pair has no UTF-8 bytes
    if again != text:
        raise ValueError("not in canonical form")
    return value


def signed(key: str, signature: str, data: bytes) -> bool:
    """Whether an Ed25519 signature, both in lower hex, is by ``key``."""
    if not (re.fullmatch("[0-9a-f]{64}", key) and re.fullmatch("[0-9a-f]{128}", signature)):
        return False
    if (int.from_bytes(bytes.fromhex(key), "little") & (2**255 - 1)) % PRIME in SMALL:
        return False  # such a key signs everything, and anybody can do it
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), data)
    except (InvalidSignature, ValueError):
        return False
    return True


def labelled(label: str, *texts: str) -> bytes:
    """What a labelled signature is over."""
    head = f"hansa secagg {label} 1\n".encode()
    return head + hashlib.sha256(head + framed(texts)).digest()


def framed(texts: Iterable[str]) -> bytes:
    """Each text's length in 8 bytes and its bytes."""
    return b"".join(len(t.encode()).to_bytes(8, "big") + t.encode() for t in texts)


def chain(texts: Sequence[str], need: Callable[[bool, str], bool]) -> tuple[list[Json], list[str]]:
    """Bodies and hashes of entries that are chained."""
    entries, hashes = [canonical(text) for text in texts], [NOTHING]
    for number, (text, entry) in enumerate(zip(texts, entries, strict=True), 1):
        need(set(entry) == ENTRY, f"entry {number}: not the fields of an entry")
        need(type(entry["sequence"]) is int and entry["sequence"] == number, f"entry {number}: sequence")
        need(entry["previous"] == hashes[-1], f"entry {number}: it does not follow the entry before it")
        hashes.append(sha(text))
    return entries, hashes[1:]


@dataclass
class Plan:
    """A reserved plan and how far it came."""

    number: int
    body: Json
    time: str
    after: float
    position: int = 0
    closed: bool = False

    @property
    def parts(self) -> list[Part]:
        """All of it."""
        return merged(
            [*p[:-1], p[-1] * count] for parts, count in self.body["releases"] for p in map(known, parts)
        )

    def sums(self, upto: float = math.inf) -> int:
        """Private sums in the first releases."""
        total, place = 0, 0
        for parts, count in self.body["releases"]:
            total += int(min(count, max(0, upto - place))) * sum(p[-1] for p in parts)
            place += count
        return total

    def next(self, event: Json) -> int | None:
        """Position of the next release with this event."""
        place = 0
        for parts, count in self.body["releases"]:
            if parts == event and place + count > self.position:
                return int(max(place, self.position)) + 1
            place += count
        return None


@dataclass
class Ledger:
    """A ledger's entries and, once replayed, where it stands."""

    entries: list[Json] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    plans: dict[str, Plan] = field(default_factory=dict)
    charges: list[tuple[int, Json, str]] = field(default_factory=list)
    history: list[tuple[int, float, float, float]] = field(default_factory=list)
    paid: float = 0.0
    used: float = 0.0
    spent: float = 0.0
    charged: float = 0.0
    ceiling: float = math.inf
    lost: bool = False

    @property
    def opening(self) -> Json:
        """Body of the first entry."""
        return self.entries[0]["body"]

    def replay(self, need: Callable[[bool, str], bool]) -> None:
        """Check the ledger's rule, entry by entry."""
        first = self.opening
        delta, order = first["delta"], first["order"]
        need(0 < delta < 1, "entry 1: delta is not between 0 and 1")
        self.ceiling = math.inf if first["epsilon"] is None else first["epsilon"]
        need(
            self.ceiling >= 0 and order == order_for(self.ceiling, delta),
            "entry 1: not the order of its ceiling",
        )
        refused: list[Json] = []

        def told(ok: bool, words: str) -> bool:
            return need(ok, f"entry {number}: {words}")

        for number, entry in enumerate(self.entries, 1):
            body, kind = entry["body"], entry["kind"]
            refused = [*refused, [body["run"], body["reason"]]] if kind == "refuse" else []
            told(len(refused) <= 20 and refused[-1:] not in [[r] for r in refused[:-1]], "refusals")
            if kind == "ceiling":
                told(same(body["epsilon_before"], self.ceiling), "epsilon_before is not the ceiling")
                self.ceiling = math.inf if body["epsilon_after"] is None else body["epsilon_after"]
            elif kind == "reserve":
                self.reserve(number, entry, told)
            elif kind == "charge":
                self.charge(number, entry, told)
            elif kind == "reconcile":
                self.lost = self.lost or body["receipt"] is None
                for plan in self.plans.values():
                    plan.closed = True
            else:
                told(kind in ("roster", "refuse") or (kind == "open" and number == 1), f"kind {kind}")
            if kind in ("open", "ceiling", "reserve", "charge"):
                self.history.append((number, self.spent, self.charged, self.ceiling))

    def reserve(self, number: int, entry: Json, need: Callable[[bool, str], bool]) -> None:
        """A plan is accepted."""
        body, delta, order = entry["body"], self.opening["delta"], self.opening["order"]
        plan = Plan(number, body, entry["time"], 0.0)
        counts = [count for _, count in body["releases"]]
        need(all(type(c) is int and c > 0 for c in counts), "a count is no whole number above 0")
        need(body["run"] not in self.plans and not self.lost, "its run is not allowed")
        price = cost(plan.parts, order)
        self.paid += price
        need(same(body["cost"], price), f"cost is {body['cost']}, and by its releases {price:.6g}")
        after = convert(self.paid, order, delta)
        if not self.plans:
            after = min(after, own(plan.parts, delta))
        need(same(body["epsilon_before"], self.spent), "epsilon_before is not what was reserved")
        need(same(body["epsilon_after"], after), f"epsilon_after is {body['epsilon_after']}, not {after:.6g}")
        need(after <= self.ceiling * (1 + 1e-4) + 1e-9, "above the ceiling")
        self.spent = plan.after = math.inf if body["epsilon_after"] is None else body["epsilon_after"]
        need(self.spent <= self.ceiling + 1e-9, "above the ceiling")
        self.plans[body["run"]] = plan

    def charge(self, number: int, entry: Json, need: Callable[[bool, str], bool]) -> None:
        """A release is charged."""
        body, delta, order = entry["body"], self.opening["delta"], self.opening["order"]
        plan = self.plans.get(body["run"])
        if not need(plan is not None, "its run was not reserved") or plan is None:
            return
        need(not plan.closed and not self.lost, "its run is closed")
        need(self.spent <= self.ceiling + 1e-9, "reserved is above the ceiling")
        whole = type(body["position"]) is int
        need(
            whole and body["position"] == plan.next(body["event"]),
            "not the next release of its plan with this event",
        )
        plan.position = max(plan.position, body["position"])
        price = cost(map(known, body["event"]), order)
        need(same(body["cost"], price), f"cost is {body['cost']}, and by its event {price:.6g}")
        before = min(self.spent, convert(self.used, order, delta))
        self.used += price
        after = min(self.spent, convert(self.used, order, delta))
        need(same(body["epsilon_before"], before), "epsilon_before is not what was charged")
        need(same(body["epsilon_after"], after), f"epsilon_after is {body['epsilon_after']}, not {after:.6g}")
        self.charged = math.inf if body["epsilon_after"] is None else body["epsilon_after"]
        self.charges.append((number, body, entry["time"]))
