"""What coordinator and shops hand each other outside the network: an invitation, public keys, a model.

An invitation tells a shop where the league is and what it has to check; a key card answers it. Neither is
secret. Whoever can swap them in transit could stand between the two, so both sides print fingerprints, to be
compared by telephone.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hansa.config import problem
from hansa.errors import UsageError, VerificationError
from hansa.secagg.keys import digest, sign, verify
from hansa.secagg.parameters import NAME_RULE, is_name

_HEX = "^[0-9a-f]{64}$"
_INVITATION, _CATALOGUE = "invitation.json", "catalogue.csv"

# All that zipfile raises for bytes that are no archive, or no longer one.
_DAMAGE = (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)

D = TypeVar("D", bound="Document")


class Document(BaseModel):
    """A file of one JSON object, in version 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(default=1, ge=1, le=1)

    def to_json(self) -> str:
        """The one spelling of this document."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls: type[D], text: str | bytes, source: str) -> D:
        """Read a document.

        Args:
            text: What is read.
            source: Where from, for messages.

        Raises:
            UsageError: It is not one.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise UsageError(f"{source}: {problem(error)}; ask for the file anew") from error


class Invitation(Document):
    """What a shop needs to reach a league.

    Attributes:
        league: The league's name.
        shop: The shop's name in it.
        address: ``host:port`` of the coordinator's proxy.
        authority: The certificate of the league's own authority, PEM.
        signer: The coordinator's Ed25519 public key, hex: it signs models.
        bundle: SHA-256 of the app bundle, hex.
        catalogue: SHA-256 of ``catalogue.csv``, hex.
        items: Its items.
    """

    league: str
    shop: str
    address: str = Field(pattern=r"^[^:/\s]+:\d+$")
    authority: str
    signer: str = Field(pattern=_HEX)
    bundle: str = Field(pattern=_HEX)
    catalogue: str = Field(pattern=_HEX)
    items: int = Field(gt=0)

    @field_validator("league", "shop")
    @classmethod
    def _names(cls, value: str) -> str:
        return _name(value)

    @property
    def fingerprint(self) -> str:
        """All of the invitation, the catalogue by its hash, as 40 digits, to be compared by telephone."""
        return digits(digest("invitation", self.to_json().encode()))

    def save(self, path: Path, catalogue: bytes) -> None:
        """Write the invitation and the catalogue as one file.

        Args:
            path: The file, by custom ``SHOP.invite``.
            catalogue: The bytes of ``catalogue.csv``.
        """
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_INVITATION, self.to_json())
            archive.writestr(_CATALOGUE, catalogue)

    @classmethod
    def load(cls, path: Path) -> tuple[Invitation, bytes]:
        """An invitation and the bytes of its catalogue.

        Raises:
            UsageError: The file is not an invitation, or its catalogue is another than it names.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                text, catalogue = archive.read(_INVITATION), archive.read(_CATALOGUE)
        except _DAMAGE as error:
            raise UsageError(f"{path}: not an invitation of 'hansa server invite' ({error})") from error
        invitation = cls.from_json(text, str(path))
        if hashlib.sha256(catalogue).hexdigest() != invitation.catalogue:
            raise UsageError(f"{path}: its catalogue is damaged; ask for the file anew")
        return invitation, catalogue


class KeyCard(Document):
    """A shop's public keys, signed with its long-term key: proof that it has that key.

    Attributes:
        league: The league's name.
        shop: The shop's name in it.
        node: The public key of its Flower node, in OpenSSH's format: ties its connection to it.
        key: Its long-term Ed25519 public key, hex, as rosters list it.
        previous: The long-term key that this one replaces, hex; else empty.
        endorsement: Signature by ``previous``, hex; else empty.
        signature: Signature by ``key``, hex.
    """

    league: str
    shop: str
    node: str
    key: str = Field(pattern=_HEX)
    previous: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    endorsement: str = Field(default="", pattern="^([0-9a-f]{128})?$")
    signature: str = Field(default="", pattern="^([0-9a-f]{128})?$")

    @field_validator("league", "shop")
    @classmethod
    def _names(cls, value: str) -> str:
        return _name(value)

    @classmethod
    def make(
        cls,
        league: str,
        shop: str,
        node: str,
        key: Ed25519PrivateKey,
        previous: Ed25519PrivateKey | None = None,
    ) -> KeyCard:
        """A signed key card; with ``previous`` the key that was used until now endorses it."""
        plain = cls(
            league=league,
            shop=shop,
            node=node.strip(),
            key=key.public_key().public_bytes_raw().hex(),
            previous="" if previous is None else previous.public_key().public_bytes_raw().hex(),
        )
        signed: dict[str, str] = {"signature": sign(key, "key card", *plain._parts()).hex()}
        if previous is not None:
            signed["endorsement"] = sign(previous, "key card", *plain._parts()).hex()
        return plain.model_copy(update=signed)

    def check(self) -> None:
        """See that the signatures are right.

        Raises:
            VerificationError: They are not.
        """
        good = verify(bytes.fromhex(self.key), bytes.fromhex(self.signature), "key card", *self._parts())
        if self.previous:
            old, endorsed = bytes.fromhex(self.previous), bytes.fromhex(self.endorsement)
            good = good and verify(old, endorsed, "key card", *self._parts())
        if not good:
            raise VerificationError(f"key card of {self.shop}: not signed with its own key; ask for it anew")

    @property
    def fingerprint(self) -> str:
        """The shop's name and long-term key as 40 digits: as ``Roster.fingerprint``."""
        return fingerprint_of(self.shop, bytes.fromhex(self.key))

    def _parts(self) -> tuple[bytes, ...]:
        return tuple(part.encode() for part in (self.league, self.shop, self.node, self.key, self.previous))


class LeaveNotice(Document):
    """A shop's word that it leaves, signed with its long-term key.

    Attributes:
        league: The league's name.
        shop: The shop's name in it.
        key: Its long-term Ed25519 public key, hex: to be compared with that of the admitted card.
        signature: Signature by ``key``, hex.
    """

    league: str
    shop: str
    key: str = Field(pattern=_HEX)
    signature: str = Field(pattern="^[0-9a-f]{128}$")

    @field_validator("league", "shop")
    @classmethod
    def _names(cls, value: str) -> str:
        return _name(value)

    @classmethod
    def make(cls, league: str, shop: str, key: Ed25519PrivateKey) -> LeaveNotice:
        """A signed notice."""
        parts = league.encode(), shop.encode()
        public = key.public_key().public_bytes_raw().hex()
        return cls(league=league, shop=shop, key=public, signature=sign(key, "leave", *parts).hex())

    def check(self, card: KeyCard) -> None:
        """See that the shop of this key card has signed it.

        Raises:
            VerificationError: It has not.
        """
        parts = card.league.encode(), card.shop.encode()
        signed = verify(bytes.fromhex(card.key), bytes.fromhex(self.signature), "leave", *parts)
        if not signed or (self.league, self.shop) != (card.league, card.shop):
            raise VerificationError(f"leave notice of {card.shop}: not signed with its key; ask by telephone")


class ModelCard(Document):
    """What is public of a version of the league's model, signed by the coordinator.

    Attributes:
        league: The league's name.
        model: The version's name: letters, digits, ``.``, ``-`` and ``_``; it names files.
        run: The run that trained it.
        plan: The run's plan as JSON.
        shops: For every round, the names of the shops in its sum.
        sha256: Of the model's file (safetensors), hex.
        created: ISO 8601, by the coordinator's clock, which is no evidence.
        signature: By the coordinator's key, hex.
    """

    league: str
    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    run: str
    plan: str
    shops: list[list[str]]
    sha256: str = Field(pattern=_HEX)
    created: str
    signature: str = Field(default="", pattern="^([0-9a-f]{128})?$")

    @field_validator("league")
    @classmethod
    def _names(cls, value: str) -> str:
        return _name(value)

    def signed(self, key: Ed25519PrivateKey) -> ModelCard:
        """The same card with a signature."""
        return self.model_copy(update={"signature": sign(key, "model", self._signed_part()).hex()})

    def check(self, signer: str, model: bytes) -> None:
        """See that the coordinator signed this card, and that it is about this file.

        Args:
            signer: The coordinator's public key, hex.
            model: The bytes of the model's file.

        Raises:
            VerificationError: It did not, or it is not.
        """
        signature = bytes.fromhex(self.signature)
        if not verify(bytes.fromhex(signer), signature, "model", self._signed_part()):
            raise VerificationError(f"model {self.model}: not signed by the league's coordinator")
        if hashlib.sha256(model).hexdigest() != self.sha256:
            raise VerificationError(f"model {self.model}: the file is another than its card names")

    def _signed_part(self) -> bytes:
        return self.model_copy(update={"signature": ""}).to_json().encode()


def fingerprint_of(shop: str, key: bytes) -> str:
    """A shop's name and long-term public key as 40 digits."""
    return digits(digest("fingerprint", shop.encode(), key))


def digits(summed: bytes) -> str:
    """A digest as 40 digits, in eight groups, to be read out."""
    number = f"{int.from_bytes(summed, 'big') % 10**40:040d}"
    return " ".join(number[start : start + 5] for start in range(0, 40, 5))


def _name(value: str) -> str:
    if not is_name(value):
        raise ValueError(NAME_RULE)
    return value
