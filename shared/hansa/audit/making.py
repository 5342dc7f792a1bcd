"""Makes a report from what a party has: its evidence, its key, and what only its word stands for."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa import __version__
from hansa.audit.binding import unbound
from hansa.audit.derive import Kind, derive
from hansa.audit.document import Accuracy, Attack, Evidence, Identity, Party, Statement, Tuning
from hansa.audit.evidence import read_evidence
from hansa.audit.league import gaps
from hansa.audit.signing import seal
from hansa.audit.wording import TUNING
from hansa.dp.ledger.entries import public_hex
from hansa.errors import UsageError

SOURCES = "hansa.reports"
"""Group of entry points: functions that know a party's folder, see ``Source``."""
_PACKAGES = ("hansa", "hansa_client", "hansa_server", "hansa_simulations")
_LIBRARIES = ("cryptography", "dp-accounting", "flwr", "numpy", "opacus", "scipy", "torch")


@dataclass(frozen=True)
class Material:
    """What a report is made of.

    Attributes:
        kind: What it is about.
        subject: In words.
        league: The league's name.
        shop: The shop, of a shop's report.
        parties: Who takes part.
        evidence: What the figures follow from.
        key: Signs the report.
        contact: Whom to ask.
        overlap: Largest number of shops that was declared for one person.
        declared: Choices that looked at private data.
        accuracy: Of a simulation.
    """

    kind: Kind
    subject: str
    league: str | None
    shop: str | None
    parties: Sequence[Party]
    evidence: Evidence
    key: Ed25519PrivateKey
    contact: str | None = None
    overlap: int | None = None
    declared: list[str] | None = None
    accuracy: Accuracy | None = None
    attacks: list[Attack] | None = field(default=None)


class Source(Protocol):
    """Reads a party's folder or file."""

    def __call__(self, path: Path) -> Material | None:
        """What is there; None: it is of another kind."""


def make_report(material: Material) -> bytes:
    """The signed file of a report.

    Raises:
        UsageError: The evidence contradicts itself, so that no honest report can be made of it.
    """
    found = read_evidence(material.evidence, public_hex(material.key))
    try:
        problems = found.findings or list(unbound(material.kind, found, None))
        problems += gaps(found) if material.kind == "federation" and not problems else []
        if problems:
            raise ValueError(problems[0])
        derived = derive(material.kind, found, material.overlap)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"no report can be made of this: {error}") from error
    statement = Statement(
        kind=material.kind,
        identity=Identity(
            subject=material.subject,
            league=material.league,
            shop=material.shop,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            parties=list(material.parties),
            contact=material.contact,
            program=__version__,
            sources=sources_hash(),
            libraries=libraries(),
        ),
        tuning=Tuning(words=TUNING, declared=material.declared),
        empirical=material.attacks,
        accuracy=material.accuracy,
        evidence=material.evidence,
        **{name: getattr(derived, name) for name in type(derived).model_fields},
    )
    return seal(statement, material.key)


def find_material(path: Path) -> Material:
    """What lies in a folder or file, by whoever knows its kind.

    Raises:
        UsageError: Nobody does.
    """
    if not path.exists():
        raise UsageError(f"{path}: not there; give a shop's or a coordinator's folder")
    for entry in sorted(entry_points(group=SOURCES), key=lambda entry: entry.name):
        source: Source = entry.load()
        material = source(path)
        if material is not None:
            return material
    raise UsageError(
        f"{path}: neither a shop's folder (hansa client init), nor a coordinator's (hansa server init), nor "
        "a ledger's file; give one of these"
    )


@lru_cache(maxsize=1)
def sources_hash() -> str:
    """SHA-256 over names and contents of all installed Python files of Hansa, hex."""
    summed = sha256()
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted(Path(place).rglob("*.py")):
                content = path.read_bytes()
                name = f"{package}/{path.relative_to(place).as_posix()}"
                summed.update(f"{name} {len(content)}\n".encode() + content)
    return summed.hexdigest()


def libraries() -> dict[str, str]:
    """Versions of the libraries that the figures rest on."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
