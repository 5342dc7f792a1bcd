"""Changes to audit reports that have to be refused: by strangers, and by a coordinator with its own key."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from hansa.audit.document import Derived, Report
from hansa.audit.signing import open_report, seal, spelled
from hansa.audit.verify import Trusted, differences, verify
from hansa.dp.ledger.beside import Beside
from hansa.dp.ledger.entries import canonical, public_hex
from hansa.errors import VerificationError
from hansa.rng import Generator, seeded_generator
from hansa_simulations.bench import timing
from hansa_simulations.paper_league import busy_league

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Case:
    """A report and who may be trusted about it.

    Attributes:
        name: What it is.
        content: The file's bytes.
        trusted: What the verifier has from elsewhere.
    """

    name: str
    content: bytes
    trusted: Trusted


def measure(bytes_: int, fields: int, own_key: int, seed: int) -> timing.Document:
    """Change reports of a league on paper, and count what ``verify`` refuses.

    Args:
        bytes_: Changes of a single byte.
        fields: Changes of a single field by somebody without keys, who writes the file anew: half of them
            with the old signature, half signed with a key of his own.
        own_key: Changes by the coordinator of what shops signed, signed with its own key.
        seed: Of the choice of changes.
    """
    with tempfile.TemporaryDirectory(prefix="hansa-tampering-") as folder:
        league = busy_league(Path(folder))
        trusted = Trusted([league.roster], public_hex(league.signer))
        shop = Case("a shop's report", league.shop_report("north"), trusted)
        whole = Case("the federation's report", league.league_report(), trusted)
        random = seeded_generator(seed, "tampering")
        cases = []
        for case in (shop, whole):
            assert verify(case.content, case.name, case.trusted).authenticated
            cases += [
                _counted(case, "a single byte, anywhere", bytes_, lambda c: _byte(c.content, random)),
                _counted(
                    case, "a single field, written anew with the old signature", fields // 2,
                    lambda c: _field(c.content, random, None),
                ),
                _counted(
                    case, "a single field, signed with a stranger's key", fields - fields // 2,
                    lambda c: _field(c.content, random, Ed25519PrivateKey.generate()),
                ),
            ]  # fmt: skip
        owner = Beside(league.ledgers["north"].path).read_key()
        cases.append(
            _counted(
                shop,
                "a figure that follows from the ledger, by the shop with its own key",
                own_key,
                lambda c: _field(c.content, random, owner, set(Derived.model_fields)),
            )
        )
        cases.append(
            _counted(
                whole,
                "what a shop signed, by the coordinator with its own key",
                own_key,
                lambda c: _signed_field(c.content, random, league.signer),
            )
        )
    return timing.document("tampering", cases, 1, seed=seed)


def _counted(case: Case, name: str, times: int, change: Callable[[Case], bytes]) -> dict[str, Any]:
    refused, unseen, seconds = 0, [], 0.0
    for _ in range(times):
        changed = change(case)
        started = perf_counter()
        found = verify(changed, "changed", case.trusted).findings
        seconds += perf_counter() - started
        refused += bool(found)
        if not found:
            unseen.append(_where(case.content, changed))
    return {
        "name": f"{case.name}: {name}",
        "items": times,
        "refused": refused,
        "unseen": unseen[:10],
        "seconds": seconds / max(1, times),
        "ratio": refused / max(1, times),
        "baseline": "all of them",
    }


def _byte(content: bytes, random: Generator) -> bytes:
    changed = bytearray(content)
    place = int(random.integers(len(content)))
    changed[place] = (changed[place] + 1 + int(random.integers(255))) % 256
    return bytes(changed)


def _field(
    content: bytes, random: Generator, key: Ed25519PrivateKey | None, sections: set[str] | None = None
) -> bytes:
    """One field of the statement changed; with the old signature, or signed with ``key``.

    ``sections``: those that are changed; None: all. What is declared, not derived, is left out of these.
    """
    report = json.loads(content)
    while True:
        changed = copy.deepcopy(report)
        paths = list(_leaves(changed["statement"], ()))
        if sections is not None:
            paths = [path for path in paths if path[0] in sections and path != ("guarantee", "overlap")]
        path = paths[int(random.integers(len(paths)))]
        _replace(changed["statement"], path, random)
        try:
            return _written(changed, key)
        except ValidationError:  # of another type than the schema's: try a change that is harder to see
            continue


def _signed_field(content: bytes, random: Generator, key: Ed25519PrivateKey) -> bytes:
    """One field within a shop's statement or receipt, and the report signed with the coordinator's key."""
    report = json.loads(content)
    evidence = report["statement"]["evidence"]
    name = ("statements", "receipts")[int(random.integers(2))]
    number = int(random.integers(len(evidence[name])))
    said = json.loads(evidence[name][number])
    paths = list(_leaves(said, ()))
    _replace(said, paths[int(random.integers(len(paths)))], random)
    evidence[name][number] = canonical(said).decode()
    return _written(report, key)


def _written(report: dict[str, Any], key: Ed25519PrivateKey | None) -> bytes:
    """The file anew, by the schema."""
    parsed = Report.model_validate_json(json.dumps(report))
    if key is not None:
        return seal(parsed.statement, key)
    signature = canonical(parsed.signature.model_dump(mode="json"))
    lines = [b'{"format":"hansa audit report 1",', b'"statement":' + spelled(parsed.statement) + b","]
    return b"\n".join([*lines, b'"signature":' + signature + b"}", b""])


def _leaves(value: Any, path: Place) -> Iterator[Place]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, (*path, number))
    else:
        yield path


def _replace(value: Any, path: Place, random: Generator) -> None:
    """Another value of the same kind in that place."""
    for step in path[:-1]:
        value = value[step]
    old = value[path[-1]]
    value[path[-1]] = _another(old, random)


def _another(old: Any, random: Generator) -> Any:
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return old + 1 + int(random.integers(9))
    if isinstance(old, float):
        return old * (1.01 + float(random.random())) + 0.001
    if isinstance(old, str) and old:
        place = int(random.integers(len(old)))
        digits = "0123456789abcdef"
        other = digits[(digits.find(old[place]) + 1) % 16]
        return old[:place] + other + old[place + 1 :]
    return "1" if old == "" else 1.5


def _where(before: bytes, after: bytes) -> str:
    """The field that differs, for a change that nobody saw."""
    try:
        one = open_report(before, "report").statement.model_dump()
        other = open_report(after, "report").statement.model_dump()
    except VerificationError:
        return "unreadable"
    return next((path for path, _, _ in differences(one, other)), "nothing")


def text(found: timing.Document) -> list[str]:
    """The counts in Markdown."""
    return [
        "# Changed audit reports",
        "",
        "How many changes of a shop's and of a federation's report `hansa audit verify` refuses, with the "
        "league's roster and the coordinator's key at hand. Written by `hansa bench tampering --out "
        "benchmarks`.",
        "",
        timing.machine_line(found),
        "",
        *timing.table(
            ["change", "changes", "refused", "milliseconds each"],
            [
                [case["name"], f"{case['items']:,}", f"{case['refused']:,}", f"{1000 * case['seconds']:.1f}"]
                for case in found["cases"]
            ],
        ),
        "",
        "A stranger who makes a whole report of his own is refused by roster and key only: without these the "
        "answer is `consistent, signer not authenticated`. A coordinator's own log is its word: "
        "what it leaves out shows against the shops' reports, not in its own.",
        "",
    ]
