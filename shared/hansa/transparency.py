"""What shops and coordinator sign for each other, so that neither can show two histories unnoticed.

A shop signs a ``ReleaseReceipt`` for every release, over what it charged and how far its ledger had come. The
coordinator keeps one hash-chained log over all runs, which names the receipts, and signs its head; each
shop writes the heads that it is shown into its own ledger. So two documents that do not belong to one
history contradict each other (``hansa.audit.together``); a single document cannot show that.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hansa import __version__
from hansa.config import problem
from hansa.dp.accounting import DpEvent, Part, to_parts
from hansa.dp.ledger.entries import NOTHING, canonical, public_hex
from hansa.errors import VerificationError
from hansa.secagg.keys import sign, verify

_RECEIPT, _LEDGER_KEY, _HEAD = "release receipt", "ledger key", "log head"
_HEX32, _HEX64, _SIGNATURE = "^[0-9a-f]{32}$", "^[0-9a-f]{64}$", "^[0-9a-f]{128}$"
_LONGEST = 1_000_000

LineKind = Literal["run", "enrolled", "round", "model", "outcome"]
T = TypeVar("T", bound="Text")


class Text(BaseModel):
    """An object with one spelling: canonical JSON, whose exact bytes are signed and hashed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def to_text(self) -> str:
        """The one spelling."""
        return canonical(self.model_dump(mode="json")).decode("ascii")

    @classmethod
    def from_text(cls: type[T], text: str) -> T:
        """What ``to_text`` gave; it may come from anybody.

        Raises:
            VerificationError: It is none, or spelled in another way.
        """
        name = cls.__name__
        if len(text) > _LONGEST:
            raise VerificationError(f"{name}: too long")
        try:
            found = cls.model_validate_json(text)
            same = found.to_text() == text
        except ValidationError as error:
            raise VerificationError(f"{name}: {problem(error)}") from error
        except (ValueError, RecursionError) as error:
            raise VerificationError(f"{name}: {error}") from error
        if not same:
            raise VerificationError(f"{name}: spelled in another way than it is signed")
        return found


class ShownHead(Text):
    """The coordinator's log as a shop was shown it: its length and the hash of its last line."""

    size: int = Field(ge=0)
    hash: str = Field(pattern=_HEX64)


class ReleaseReceipt(Text):
    """A shop's signed word on one release: what it charged for it, and where its ledger was after that.

    Attributes:
        version: Of this form.
        league: The league's name.
        shop: The shop.
        ledger: Its ledger's identity.
        key: The ledger's public key, hex, with which this is signed.
        sequence: Number of the ledger's entry right after the charge.
        hash: Its hash, on which all earlier entries depend.
        run: The run.
        plan: SHA-256 of its plan.
        round: The round.
        release: What was released.
        events: Of every private sum in it the written form of what was charged (``hansa.dp.events``).
        roster: Digest of the roster under masks; else empty.
        head: The coordinator's log as the shop was shown it; None: it was shown none.
        endorsement: See ``endorse``; empty: nobody vouches for the ledger.
        signature: By ``key``, hex.
    """

    version: Literal[1] = 1
    league: str = Field(max_length=200)
    shop: str = Field(max_length=200)
    ledger: str = Field(pattern=_HEX32)
    key: str = Field(pattern=_HEX64)
    sequence: int = Field(ge=1)
    hash: str = Field(pattern=_HEX64)
    run: str = Field(max_length=200)
    plan: str = Field(pattern=_HEX64)
    round: int = Field(ge=1)
    release: str = Field(max_length=200)
    events: list[list[Part]] = Field(min_length=1)
    roster: str = Field(pattern="^([0-9a-f]{64})?$")
    head: ShownHead | None
    endorsement: str = Field(pattern="^([0-9a-f]{128})?$")
    signature: str = Field(default="", pattern="^([0-9a-f]{128})?$")

    @classmethod
    def make(cls, *, events: Sequence[DpEvent], key: Ed25519PrivateKey, **said: Any) -> ReleaseReceipt:
        """A signed receipt.

        Args:
            events: Of every private sum what was charged.
            key: The ledger's.
            said: The other fields.
        """
        plain = cls(events=[to_parts(event) for event in events], key=public_hex(key), **said)
        signature = sign(key, _RECEIPT, plain.to_text().encode()).hex()
        return plain.model_copy(update={"signature": signature})

    def check(self) -> None:
        """See that the ledger's key has signed it.

        Raises:
            VerificationError: It has not.
        """
        plain = self.model_copy(update={"signature": ""}).to_text().encode()
        if not verify(bytes.fromhex(self.key), bytes.fromhex(self.signature), _RECEIPT, plain):
            raise VerificationError(
                f"release receipt of {self.shop}: not signed by its ledger {self.ledger[:8]}: it was changed"
            )

    def endorsed_by(self, key: bytes) -> bool:
        """Whether the holder of this long-term key vouches that it is the shop's ledger."""
        return endorsed(key, self.endorsement, self.league, self.shop, self.ledger, self.key)

    @property
    def written_events(self) -> list[list[list[Any]]]:
        """The events as ledgers write them in JSON."""
        return [[list(part) for part in event] for event in self.events]


def endorse(key: Ed25519PrivateKey, league: str, shop: str, ledger: str, ledger_key: str) -> str:
    """A shop's word that a ledger is its own: a signature by its long-term key, hex.

    Args:
        key: The long-term key, which rosters list.
        league: The league's name.
        shop: The shop.
        ledger: The ledger's identity.
        ledger_key: The ledger's public key, hex.
    """
    return sign(key, _LEDGER_KEY, *_parts(league, shop, ledger, ledger_key)).hex()


def endorsed(key: bytes, endorsement: str, league: str, shop: str, ledger: str, ledger_key: str) -> bool:
    """Whether the holder of the long-term public key has given this endorsement."""
    try:
        signature = bytes.fromhex(endorsement)
    except ValueError:
        return False
    return verify(key, signature, _LEDGER_KEY, *_parts(league, shop, ledger, ledger_key))


class LogLine(Text):
    """A line of the coordinator's log.

    Attributes:
        sequence: From 1, without gaps.
        previous: SHA-256 of the line before.
        time: UTC by the coordinator's clock, which is no evidence.
        code: Version of Hansa that wrote it.
        kind: ``run``, ``enrolled``, ``round``, ``model`` or ``outcome``.
        body: What it says.
    """

    sequence: int = Field(ge=1)
    previous: str = Field(pattern=_HEX64)
    time: str
    code: str
    kind: LineKind
    body: dict[str, Any]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the line's text, hex."""
        return sha256(self.to_text().encode()).hexdigest()


def next_line(kind: LineKind, body: dict[str, Any], after: str | None) -> str:
    """The text of the line behind the line ``after``; None: the first."""
    sequence, previous = 1, NOTHING
    if after is not None:
        last = LogLine.from_text(after)
        sequence, previous = last.sequence + 1, last.hash
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    return LogLine(
        sequence=sequence, previous=previous, time=time, code=__version__, kind=kind, body=body
    ).to_text()


def read_log(texts: Sequence[str]) -> tuple[list[LogLine], list[str]]:
    """The lines of a log, and what is wrong with their chain; they may come from anybody."""
    lines: list[LogLine] = []
    for number, text in enumerate(texts, start=1):
        try:
            line = LogLine.from_text(text)
        except VerificationError as error:
            return lines, [f"line {number} cannot be read: {error}"]
        if line.sequence != number or line.previous != (lines[-1].hash if lines else NOTHING):
            return lines, [f"line {number} does not follow the line before it"]
        lines.append(line)
    return lines, []


class LogHead(Text):
    """The coordinator's signed word on how far its log has come.

    Attributes:
        league: The league's name.
        size: Lines of the log.
        hash: Hash of the last one, on which all earlier lines depend.
        signature: By the key that invitations name as ``signer``, hex.
    """

    league: str = Field(max_length=200)
    size: int = Field(ge=0)
    hash: str = Field(pattern=_HEX64)
    signature: str = Field(pattern=_SIGNATURE)

    @classmethod
    def make(cls, league: str, lines: Sequence[LogLine], key: Ed25519PrivateKey) -> LogHead:
        """The head of a log, signed."""
        size, hash_ = len(lines), lines[-1].hash if lines else NOTHING
        signature = sign(key, _HEAD, *_parts(league, str(size), hash_)).hex()
        return cls(league=league, size=size, hash=hash_, signature=signature)

    def signed_by(self, signer: str) -> bool:
        """Whether the coordinator with this public key, hex, has signed it."""
        parts = _parts(self.league, str(self.size), self.hash)
        try:
            return verify(bytes.fromhex(signer), bytes.fromhex(self.signature), _HEAD, *parts)
        except ValueError:
            return False

    def check(self, signer: str) -> None:
        """See that the coordinator has signed it.

        Raises:
            VerificationError: It has not.
        """
        if not self.signed_by(signer):
            raise VerificationError("the head of the log is not signed by the coordinator")

    @property
    def shown(self) -> dict[str, Any]:
        """As a shop writes it into its ledger."""
        return {"size": self.size, "hash": self.hash, "signature": self.signature}


def _parts(*parts: str) -> tuple[bytes, ...]:
    return tuple(part.encode() for part in parts)
