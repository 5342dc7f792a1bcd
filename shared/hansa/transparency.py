"""What shops and coordinator sign for each other, so that neither can later tell another story.

A shop signs a ``ReleaseReceipt`` for every release; the coordinator keeps a chained log of its runs
(``LogLine``), and signs its ``LogHead`` with every request. Each shop writes the heads that it saw into its
ledger. So a shop that rolls its ledger back is contradicted by receipts that others hold, and a coordinator
that keeps two histories by two heads that it signed. Neither is prevented; both are found by whoever has the
documents of both sides.

Documents are JSON in the one spelling of ``hansa.dp.ledger.entries.canonical``; nothing else is read.
Signatures are Ed25519, each under a purpose of its own (``hansa.secagg.keys``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from hansa import __version__
from hansa.dp.ledger.entries import NOTHING, canonical, public_hex
from hansa.errors import VerificationError
from hansa.secagg.keys import sign, verify
from hansa.secagg.parameters import NAME_RULE, is_name

LONGEST = 2**20
"""Characters of a document, at most."""
LONGEST_LINE = 2**24
"""Characters of a line of the log, at most: it may hold a plan."""
_MOST = 2**62


def _name(value: str) -> str:
    if not is_name(value):
        raise ValueError(NAME_RULE)
    return value


Name = Annotated[str, AfterValidator(_name)]
Count = Annotated[int, Field(ge=1, le=_MOST)]
Identity = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
GaussianPart = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0, le=1)], Count]
Whole = Annotated[int, Field(ge=1)]
SkellamPart = tuple[Literal["skellam"], Annotated[float, Field(ge=0)], Whole, Whole, Count]
D = TypeVar("D", bound="Spelled")


class Spelled(BaseModel):
    """A document that has one spelling."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_json(self) -> str:
        """The document as it is sent, kept and hashed."""
        return canonical(self.model_dump(mode="json")).decode()

    @classmethod
    def from_json(cls: type[D], text: str) -> D:
        """What ``to_json`` gave.

        Raises:
            VerificationError: It gave something else: another form, type, field or spelling.
        """
        try:
            found = cls.model_validate(_read(text, LONGEST))
            if found.to_json() == text:
                return found
            why = "not in canonical form"
        except ValidationError as error:
            first = error.errors()[0]
            why = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        except (ValueError, RecursionError) as error:
            why = str(error)
        raise VerificationError(f"{cls.__name__}: {why}")


class Head(Spelled):
    """How far a log has come.

    Attributes:
        size: Its lines.
        hash: SHA-256 of the last one's text, on which all earlier ones depend.
    """

    size: Count
    hash: Hash


class LogHead(Head):
    """The coordinator's signed word on how far its log has come.

    **What it proves:** that the coordinator stood by this very history of this length. Two heads of one size
    and different hashes, or a longer log that does not have ``hash`` at line ``size``, show that it told two
    histories. A head alone says nothing about whether what the log says is true or complete.

    Attributes:
        league: The league's name.
        signature: By the coordinator's key, which invitations name as ``signer``.
    """

    version: Literal[1] = 1
    league: Name
    signature: Signature

    @classmethod
    def make(cls, league: str, size: int, hash_: str, key: Ed25519PrivateKey) -> LogHead:
        """A signed head."""
        signature = sign(key, "log head", *_head_parts(league, size, hash_)).hex()
        return cls(league=league, size=size, hash=hash_, signature=signature)

    def check(self, signer: str) -> None:
        """See that the coordinator signed it.

        Args:
            signer: The coordinator's public key, hex.

        Raises:
            VerificationError: It did not.
        """
        parts = _head_parts(self.league, self.size, self.hash)
        if not verify(bytes.fromhex(signer), bytes.fromhex(self.signature), "log head", *parts):
            raise VerificationError(f"log head of line {self.size}: not signed by the league's coordinator")


class ReleaseReceipt(Spelled):
    """A shop's signed word on one release: what it charged for it, and where that stands in its ledger.

    **What it proves:** that whoever has the ledger's key stood by a ledger with ``hash`` at entry
    ``sequence``, in which these events were charged for this release. With ``endorsement`` and the shop's
    long-term key, which rosters list, that the shop stands by that ledger key. With ``head``, which history
    of the coordinator it had been shown. That the release was computed as the events say is the shop's word.

    Attributes:
        league: The league's name.
        shop: The shop's name in it.
        ledger: The ledger's identity.
        key: The ledger's public key.
        sequence: The ledger's last entry right after the charge, or the last of several.
        hash: Its hash.
        run: The run's name. A lost round is paid by a reservation of its own, which names this run.
        plan: Digest of the run's plan.
        round: From 1.
        release: The release's name in the plan.
        events: What was charged, in written form (``hansa.dp.events.to_parts``), in order.
        roster: Digest of the roster whose shops masked the sum; empty if nothing was masked.
        head: The coordinator's log as the shop was shown it with the request; None if it was not.
        endorsement: By the shop's long-term key, see ``endorse``; empty in simulations.
        signature: By the ledger's key, over all the rest.
    """

    version: Literal[1] = 1
    league: Name
    shop: Name
    ledger: Identity
    key: Hash
    sequence: Count
    hash: Hash
    run: Name
    plan: Hash
    round: Count
    release: Name
    events: tuple[GaussianPart | SkellamPart, ...] = Field(min_length=1)
    roster: Literal[""] | Hash = ""
    head: Head | None = None
    endorsement: Literal[""] | Signature = ""
    signature: Literal[""] | Signature = ""

    @classmethod
    def make(
        cls,
        *,
        league: str,
        shop: str,
        ledger: str,
        ledger_key: Ed25519PrivateKey,
        sequence: int,
        hash: str,
        run: str,
        plan: str,
        round: int,
        release: str,
        events: Iterable[Sequence[object]],
        roster: str = "",
        head: Head | None = None,
        endorsement: str = "",
    ) -> ReleaseReceipt:
        """A signed receipt; see the attributes.

        Raises:
            VerificationError: A value is not of its form.
        """
        values = {name: value for name, value in locals().items() if name in cls.model_fields}
        values |= {"key": public_hex(ledger_key), "events": [list(part) for part in events]}
        values |= {
            "version": 1,
            "signature": "",
            "head": None if head is None else {"size": head.size, "hash": head.hash},
        }
        try:
            plain = cls.model_validate(values)
        except ValidationError as error:
            raise VerificationError(f"ReleaseReceipt: {error.errors()[0]['msg']}") from error
        signature = sign(ledger_key, "release receipt", plain._signed_part()).hex()
        return plain.model_copy(update={"signature": signature})

    def check(self) -> None:
        """See that it is signed with the key that it names.

        Raises:
            VerificationError: It is not.
        """
        key, signature = bytes.fromhex(self.key), bytes.fromhex(self.signature)
        if not verify(key, signature, "release receipt", self._signed_part()):
            raise VerificationError(
                f"release receipt of {self.shop}, run {self.run}, round {self.round}: not signed with its key"
            )

    def endorsed_by(self, public: bytes) -> bool:
        """Whether the shop with this long-term public key (32 bytes) stands by the ledger's key."""
        return endorsed(public, self.endorsement, self.league, self.shop, self.ledger, self.key)

    @property
    def digest(self) -> str:
        """SHA-256 of its text, hex: as the coordinator's log names it."""
        return digest_of_text(self.to_json())

    def _signed_part(self) -> bytes:
        return self.model_copy(update={"signature": ""}).to_json().encode()


def endorse(key: Ed25519PrivateKey, league: str, shop: str, ledger: str, ledger_key: str) -> str:
    """A shop's signature, hex, by which its long-term key stands by the key of its ledger.

    Args:
        key: The shop's long-term key.
        league: The league's name.
        shop: The shop's name in it.
        ledger: The ledger's identity.
        ledger_key: The ledger's public key, hex.
    """
    return sign(key, "ledger key", *_endorsed(league, shop, ledger, ledger_key)).hex()


def endorsed(public: bytes, endorsement: str, league: str, shop: str, ledger: str, ledger_key: str) -> bool:
    """Whether the holder of the long-term public key (32 bytes) has given this endorsement."""
    try:
        signature = bytes.fromhex(endorsement)
    except ValueError:
        return False
    return verify(public, signature, "ledger key", *_endorsed(league, shop, ledger, ledger_key))


def digest_of_text(text: str) -> str:
    """SHA-256 of a text, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


BODIES: dict[str, dict[str, type]] = {
    "run": {"run": str, "plan": str, "digest": str, "roster": str},
    "enrolled": {"run": str, "enrolled": list, "refused": dict},
    "round": {
        "run": str,
        "round": int,
        "attempt": int,
        "release": str,
        "answered": list,
        "missing": dict,
        "receipts": dict,
    },
    "attempt": {"run": str, "round": int, "attempt": int},
    "model": {"run": str, "model": str, "sha256": str},
    "outcome": {"run": str, "state": str},
}
"""What the body of each kind of line has: texts, numbers, lists of texts, and texts by shop. ``receipts``: by
shop the ``digest`` of its receipt."""


@dataclass(frozen=True)
class LogLine:
    """A line of the coordinator's log.

    **What it proves:** nothing by itself. With the lines before it and a signed head of its own or of a later
    line: that the coordinator stood by it.

    Attributes:
        sequence: From 1, without gaps.
        previous: SHA-256 of the text of the line before; 64 zeros first.
        time: UTC by the coordinator's clock, ISO 8601; no evidence.
        code: Version of Hansa that wrote it.
        kind: One of ``BODIES``.
        body: As ``BODIES`` says.
    """

    sequence: int
    previous: str
    time: str
    code: str
    kind: str
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """The line, without the newline behind it."""
        return canonical(asdict(self)).decode()

    @property
    def hash(self) -> str:
        """SHA-256 of the text, hex."""
        return digest_of_text(self.text)

    @property
    def head(self) -> Head:
        """The log's head when this was its last line."""
        return Head(size=self.sequence, hash=self.hash)


def next_line(kind: str, body: Mapping[str, Any], after: LogLine | None) -> str:
    """The text of the line behind ``after`` (None: the first).

    Raises:
        ValueError: The body is not one of this kind.
    """
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    sequence, previous = (1, NOTHING) if after is None else (after.sequence + 1, after.hash)
    text = canonical(asdict(LogLine(sequence, previous, time, __version__, kind, dict(body)))).decode()
    return _line(text, after).text


def read_lines(texts: Iterable[str], after: LogLine | None = None) -> list[LogLine]:
    """A log's lines, each of which follows the one before.

    Args:
        texts: Without newlines.
        after: The line before the first; None: there is none.

    Raises:
        VerificationError: One does not, or is no line; it names the first.
    """
    found: list[LogLine] = []
    for text in texts:
        before = found[-1] if found else after
        try:
            found.append(_line(text, before))
        except (ValueError, RecursionError) as error:
            number = 1 if before is None else before.sequence + 1
            raise VerificationError(f"line {number} of the log: {error}") from None
    return found


def _line(text: str, after: LogLine | None) -> LogLine:
    sequence, previous = (1, NOTHING) if after is None else (after.sequence + 1, after.hash)
    try:
        line = LogLine(**_read(text, LONGEST_LINE))
    except TypeError as error:
        raise ValueError("not a line of a log") from error
    if line.text != text:
        raise ValueError("not in canonical form")
    if type(line.sequence) is not int or line.sequence != sequence:
        raise ValueError("its number is not the next one")
    if line.previous != previous:
        raise ValueError("it does not follow the line before it, one of which was changed")
    if not all(isinstance(word, str) for word in (line.time, line.code, line.kind)):
        raise ValueError("not a line of a log")
    wanted = BODIES.get(line.kind)
    if wanted is None or not isinstance(line.body, dict):
        raise ValueError(f"unknown kind {line.kind[:40]!r}")
    inner = [
        (*value, *(value.values() if isinstance(value, dict) else ()))
        for value in line.body.values()
        if isinstance(value, list | dict)
    ]
    words = all(isinstance(each, str) for value in inner for each in value)
    if not words or {name: type(value) for name, value in line.body.items()} != wanted:
        raise ValueError(f"its body is not that of a line of kind {line.kind}")
    return line


def _read(text: str, longest: int) -> dict[str, Any]:
    if not isinstance(text, str) or len(text) > longest:
        raise ValueError("not a text, or too long")
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _head_parts(league: str, size: int, hash_: str) -> tuple[bytes, ...]:
    return league.encode(), str(size).encode(), hash_.encode()


def _endorsed(league: str, shop: str, ledger: str, key: str) -> tuple[bytes, ...]:
    return tuple(part.encode() for part in (league, shop, ledger, key))
