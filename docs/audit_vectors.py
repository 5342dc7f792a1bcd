"""Makes the test vectors of the audit report's specification: ``python docs/audit_vectors.py``.

Reports of leagues on paper, and files in which one thing is wrong. Keys and times are new every time; what a
verifier has to say of each file is in ``audit-vectors/vectors.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.audit.document import Report
from hansa.audit.signing import open_report, seal
from hansa.dp.ledger.beside import Beside
from hansa.dp.ledger.entries import public_hex
from hansa_simulations.paper_league import PaperLeague, busy_league

FOLDER = Path(__file__).parent / "audit-vectors"
Statement = dict[str, Any]


def changed(content: bytes, key: Ed25519PrivateKey, change: Callable[[Statement], Any]) -> bytes:
    """A report after ``change`` of its statement, signed anew."""
    report = json.loads(content)
    change(report["statement"])
    return seal(Report.model_validate_json(json.dumps(report)).statement, key)


def later(statement: Statement) -> None:
    """The ledger without its last entry."""
    statement["evidence"]["ledgers"][0]["rows"].pop()


def vectors(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files by name, and what a verifier says of them."""
    league, masked = busy_league(folder / "busy"), PaperLeague(folder / "masked")
    masked.run("spring", dp="distributed", epsilon=4.0)
    sampled = PaperLeague(folder / "sampled")
    sampled.run("spring", method="dpsgd", epsilon=4.0, sampling_rate=0.2, gradient_rounds=3)
    key = Beside(league.ledgers["north"].path).read_key()
    shop, whole = league.shop_report("north"), league.league_report()
    files = {
        "shop.json": shop,
        "federation.json": whole,
        "shop-distributed.json": masked.shop_report("north"),
        "shop-sampled.json": sampled.shop_report("north"),
        "byte.json": shop.replace(b'"kind":"shop"', b'"kind":"shoq"', 1),
        "spelling.json": shop.replace(b'"statement":{"accounting"', b'"statement":{ "accounting"', 1),
        "epsilon.json": changed(shop, key, lambda s: s["guarantee"].update(epsilon=0.5)),
        "left.json": changed(shop, key, lambda s: s["budget"].update(left=7.9)),
        "row.json": changed(shop, key, lambda s: s["evidence"]["ledgers"][0]["rows"].pop(3)),
        "stranger.json": changed(shop, Ed25519PrivateKey.generate(), lambda s: None),
        "statement.json": changed(whole, league.signer, lambda s: s["evidence"]["statements"].pop(0)),
        "log.json": changed(whole, league.signer, lambda s: s["evidence"]["log"].pop()),
    }
    roster = league.roster.to_json()
    consistent = ["shop.json", "federation.json", "shop-distributed.json", "shop-sampled.json"]
    said = {
        "files": {name: "consistent" if name in consistent else "refused" for name in files},
        "roster": json.loads(roster),
        "coordinator": public_hex(league.signer),
        "authenticated": ["shop.json", "federation.json"],
        "together": {"shop.json federation.json": "no contradictions"},
        "epsilon": {name: open_report(files[name], name).statement.guarantee.epsilon for name in consistent},
    }
    return files, said


def main() -> None:
    """Write them all."""
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory() as place:
        for name in ("busy", "masked", "sampled"):
            (Path(place) / name).mkdir()
        files, said = vectors(Path(place))
    for name, content in files.items():
        (FOLDER / name).write_bytes(content)
    (FOLDER / "vectors.json").write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
