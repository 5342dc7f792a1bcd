"""The messages of the five stages. A message that exists is well-formed; anything else is refused on reading.

Fields are a name, bytes, or a list of either; nothing here is ever unpickled or evaluated. Lists of names
ascend, so that none is there twice; the bytes that belong to them follow in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Self

from hansa.errors import RefusalError
from hansa.secagg.keys import SEALING, SECRET, SIGNATURE
from hansa.secagg.parameters import MOST_SHOPS, is_name
from hansa.secagg.shamir import SHARE, is_share

SEALED = 2 * SHARE + SEALING
"""Bytes of an envelope: a share of either secret."""


_NAME = {"kind": "name"}
_NAMES = {"kind": "names"}


def _bytes(size: int) -> dict[str, Any]:
    return {"kind": "bytes", "size": size}


def _list(size: int) -> dict[str, Any]:
    return {"kind": "list", "size": size}


class Message:
    """What all messages have in common.

    Raises:
        RefusalError: A field is missing, unknown, or not of the kind and size that it should be.
    """

    def __post_init__(self) -> None:
        length = 0
        for each in fields(self):  # type: ignore[arg-type]
            value, size = getattr(self, each.name), each.metadata.get("size", 0)
            match each.metadata["kind"]:
                case "name":
                    right = is_name(value)
                case "bytes":
                    right = isinstance(value, bytes) and len(value) == size
                case "names":
                    right = _are_names(value)
                    length = len(value) if right else 0
                case _:
                    right = _are_bytes(value, length, size)
            if not right:
                raise self._malformed(each.name)

    def to_fields(self) -> dict[str, Any]:
        """The fields as they are sent."""
        return {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_fields(cls, given: Mapping[str, Any]) -> Self:
        """Read a message."""
        wanted = {each.name for each in fields(cls)}  # type: ignore[arg-type]
        for name in sorted(wanted ^ set(map(str, given))):
            raise cls._malformed(name)
        return cls(
            **{name: list(value) if isinstance(value, list) else value for name, value in given.items()}
        )

    @classmethod
    def _malformed(cls, name: str) -> RefusalError:
        return RefusalError(
            f"secure aggregation: {cls.__name__.lower()}: {name}: missing, unknown or malformed",
            reason="malformed message",
        )


def _are_names(value: object) -> bool:
    if not isinstance(value, list) or len(value) > MOST_SHOPS or not all(map(is_name, value)):
        return False
    return all(before < after for before, after in pairwise(value))


def _are_bytes(value: object, length: int, size: int) -> bool:
    if not isinstance(value, list) or len(value) != length:
        return False
    if size == SHARE:
        return all(map(is_share, value))
    return all(isinstance(each, bytes) and len(each) == size for each in value)


@dataclass(frozen=True)
class Advert(Message):
    """Stage 0, from a shop: its keys for this round, signed with its long-term key.

    Attributes:
        shop: Whose they are.
        envelope_key: X25519 public key c for the envelopes.
        mask_key: X25519 public key s for the pairwise masks.
        commitment: Hash of the secret b of its own mask.
        signature: Over the above and the round's parameters.
    """

    shop: str = field(metadata=_NAME)
    envelope_key: bytes = field(metadata=_bytes(SECRET))
    mask_key: bytes = field(metadata=_bytes(SECRET))
    commitment: bytes = field(metadata=_bytes(SECRET))
    signature: bytes = field(metadata=_bytes(SIGNATURE))


@dataclass(frozen=True)
class Adverts(Message):
    """Stage 1, to the shops: all adverts (U1)."""

    shops: list[str] = field(metadata=_NAMES)
    envelope_keys: list[bytes] = field(metadata=_list(SECRET))
    mask_keys: list[bytes] = field(metadata=_list(SECRET))
    commitments: list[bytes] = field(metadata=_list(SECRET))
    signatures: list[bytes] = field(metadata=_list(SIGNATURE))

    @classmethod
    def of(cls, adverts: Sequence[Advert]) -> Adverts:
        """These adverts in one message."""
        rows = sorted(adverts, key=lambda advert: advert.shop)
        return cls(
            [row.shop for row in rows],
            [row.envelope_key for row in rows],
            [row.mask_key for row in rows],
            [row.commitment for row in rows],
            [row.signature for row in rows],
        )

    def rows(self) -> list[Advert]:
        """The adverts one by one."""
        columns = (self.shops, self.envelope_keys, self.mask_keys, self.commitments, self.signatures)
        return [Advert(*row) for row in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Envelopes(Message):
    """Stage 1, from a shop: sealed shares of its secrets, one envelope for each neighbour."""

    shop: str = field(metadata=_NAME)
    recipients: list[str] = field(metadata=_NAMES)
    sealed: list[bytes] = field(metadata=_list(SEALED))


@dataclass(frozen=True)
class Delivery(Message):
    """Stage 2, to a shop: who shared (U2), and the envelopes of those among them that are its neighbours."""

    shared: list[str] = field(metadata=_NAMES)
    senders: list[str] = field(metadata=_NAMES)
    sealed: list[bytes] = field(metadata=_list(SEALED))


@dataclass(frozen=True)
class Upload(Message):
    """Stage 2, from a shop, with its masked vector beside it: a signature of whom it masked with."""

    shop: str = field(metadata=_NAME)
    signature: bytes = field(metadata=_bytes(SIGNATURE))


@dataclass(frozen=True)
class Survivors(Message):
    """Stage 3, to the shops: whose vectors are in the sum (U3), and what each signed with its own."""

    survivors: list[str] = field(metadata=_NAMES)
    signatures: list[bytes] = field(metadata=_list(SIGNATURE))


@dataclass(frozen=True)
class Agreement(Message):
    """Stage 3, from a shop: its one signature of the survivors."""

    shop: str = field(metadata=_NAME)
    signature: bytes = field(metadata=_bytes(SIGNATURE))


@dataclass(frozen=True)
class Agreements(Message):
    """Stage 4, to the shops: who signed the survivors."""

    signers: list[str] = field(metadata=_NAMES)
    signatures: list[bytes] = field(metadata=_list(SIGNATURE))


@dataclass(frozen=True)
class Shares(Message):
    """Stage 4, from a shop: shares of b of each survivor, and of s of each shop lost after sharing."""

    shop: str = field(metadata=_NAME)
    survivors: list[str] = field(metadata=_NAMES)
    self_shares: list[bytes] = field(metadata=_list(SHARE))
    lost: list[str] = field(metadata=_NAMES)
    key_shares: list[bytes] = field(metadata=_list(SHARE))
