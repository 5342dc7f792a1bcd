"""How a ledger's entries are written: canonical JSON, each with the hash of the one before, each signed.

Hashes are SHA-256 of an entry's text; signatures are Ed25519 (RFC 8032) over the text with a prefix that
says what is signed, so that an entry never passes for a receipt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from secrets import token_hex
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hansa import __version__
from hansa.dp.ledger.account import Draft
from hansa.secagg.keys import is_sound

NOTHING = "0" * 64
"""What the first entry has for the hash of the one before."""

_ENTRY = b"hansa ledger entry 1\n"
_RECEIPT = b"hansa ledger receipt 1\n"


@dataclass(frozen=True)
class Entry:
    """A draft in its place.

    Attributes:
        sequence: From 1, without gaps.
        previous: Hash of the entry before.
        time: UTC by the shop's clock, ISO 8601. It may jump; the order is that of ``sequence``.
        code: Version of Hansa that wrote it.
        kind: See ``Draft``.
        body: See ``Draft``.
    """

    sequence: int
    previous: str
    time: str
    code: str
    kind: str
    body: dict[str, Any]

    @property
    def draft(self) -> Draft:
        """What the entry says."""
        return Draft(self.kind, self.body)


@dataclass(frozen=True)
class Row:
    """An entry as it is stored: its text and the signature over it."""

    sequence: int
    text: bytes
    signature: bytes

    @property
    def hash(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return sha256(self.text).hexdigest()

    def parse(self) -> Entry:
        """The entry, if the text is what ``write`` would have written for it.

        Raises:
            ValueError: It is not.
        """
        try:
            entry = Entry(**json.loads(self.text))
            if canonical(asdict(entry)) != self.text or not isinstance(entry.body, dict):
                raise ValueError("its text is not in canonical form")
        except (TypeError, RecursionError) as error:
            raise ValueError(f"its text is not an entry ({error})") from error
        return entry

    def signed_by(self, key: Ed25519PublicKey) -> bool:
        """Whether ``key`` signed this entry."""
        return valid_signature(key, self.signature, _ENTRY + self.text)


def write(draft: Draft, after: Row | None, key: Ed25519PrivateKey) -> Row:
    """The row for ``draft`` behind the row ``after`` (None: the first)."""
    sequence, previous = (1, NOTHING) if after is None else (after.sequence + 1, after.hash)
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    text = canonical(asdict(Entry(sequence, previous, time, __version__, draft.kind, draft.body)))
    return Row(sequence, text, key.sign(_ENTRY + text))


def write_all(drafts: Iterable[Draft], shop: str, key: Ed25519PrivateKey) -> list[Row]:
    """The rows of a new ledger, the opening first, which gets an identity and names shop and key."""
    rows: list[Row] = []
    for draft in drafts:
        if not rows:
            identity = {"ledger": token_hex(16), "key": public_hex(key), "shop": shop}
            draft = Draft(draft.kind, {**draft.body, **identity})
        rows.append(write(draft, rows[-1] if rows else None, key))
    return rows


@dataclass(frozen=True)
class Receipt:
    """A shop's signed word on how far its ledger has come, to be kept by another party.

    Attributes:
        ledger: The ledger's identity, from its first entry.
        sequence: Number of the last entry.
        hash: Its hash, on which all earlier entries depend.
        signature: Ed25519, in hexadecimal.
    """

    ledger: str
    sequence: int
    hash: str
    signature: str = ""

    def sign(self, key: Ed25519PrivateKey) -> Receipt:
        """The same with its signature."""
        return Receipt(self.ledger, self.sequence, self.hash, key.sign(self._message()).hex())

    def signed_by(self, key: Ed25519PublicKey) -> bool:
        """Whether ``key`` signed this receipt."""
        try:
            return valid_signature(key, bytes.fromhex(self.signature), self._message())
        except ValueError:
            return False

    def to_json(self) -> str:
        """As it is handed over."""
        return canonical(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> Receipt:
        """What ``to_json`` gave.

        Raises:
            ValueError: It is no receipt.
        """
        try:
            receipt = cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(str(error)) from error
        kinds = (receipt.ledger, str), (receipt.sequence, int), (receipt.hash, str), (receipt.signature, str)
        if not all(isinstance(value, kind) for value, kind in kinds):
            raise ValueError("a field is of the wrong kind")
        return receipt

    def _message(self) -> bytes:
        return _RECEIPT + canonical({**asdict(self), "signature": ""})


def canonical(value: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys, without blanks, in ASCII; numbers in Python's shortest form that reads back."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


def public_key(hexadecimal: str) -> Ed25519PublicKey:
    """The key of 64 hexadecimal digits.

    Raises:
        ValueError: They are none, or of a key of small order, whose signatures anybody can make.
    """
    raw = bytes.fromhex(hexadecimal)
    if not is_sound(raw):
        raise ValueError("not a key that can be signed with")
    return Ed25519PublicKey.from_public_bytes(raw)


def public_hex(key: Ed25519PrivateKey) -> str:
    """The public half of ``key`` in 64 hexadecimal digits."""
    return key.public_key().public_bytes_raw().hex()


def valid_signature(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether this is the key's signature of the message."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True
