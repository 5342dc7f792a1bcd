"""Keys of one round: agreement, derivation, signatures and sealed envelopes, each bound to what it is for.

All of it is the ``cryptography`` package's: X25519 (RFC 7748), HKDF-SHA256 (RFC 5869), Ed25519 (RFC 8032)
and ChaCha20-Poly1305 (RFC 8439). What is added here is only that no output can serve in another place: every
hash, key and signature has a label, and everything that goes in is framed by its length.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hansa.errors import RefusalError

SECRET = 32
"""Bytes of a secret, of a public key and of a digest."""
SIGNATURE = 64
"""Bytes of a signature."""
SEALING = 12 + 16
"""Bytes that an envelope is longer than its content: nonce and tag."""

_FIELD = 2**255 - 19
_EIGHTH = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL = {0, 1, _FIELD - 1, _EIGHTH, _FIELD - _EIGHTH}  # y of the points whose order divides 8


def _label(label: str) -> bytes:
    return f"hansa secagg {label} 1\n".encode()


def frame(*parts: bytes) -> bytes:
    """The parts in one piece that no other parts have: each behind its length."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def names(shops: list[str] | tuple[str, ...]) -> bytes:
    """A list of names in one piece."""
    return frame(*(shop.encode() for shop in shops))


def digest(label: str, *parts: bytes) -> bytes:
    """SHA-256 of the parts, for this purpose only."""
    return hashlib.sha256(_label(label) + frame(*parts)).digest()


def derive(secret: bytes, salt: bytes, label: str, *parts: bytes) -> bytes:
    """A key of 32 bytes from a secret, for this purpose only (HKDF-SHA256)."""
    return HKDF(SHA256(), SECRET, salt, _label(label) + frame(*parts)).derive(secret)


def is_sound(public: bytes) -> bool:
    """Whether an Ed25519 public key is in canonical form and not of small order.

    A signature of a key of small order can be valid for any message (RFC 8032, section 8.9).
    """
    y = int.from_bytes(public, "little") & ((1 << 255) - 1)
    return len(public) == SECRET and y < _FIELD and y not in _SMALL


def sign(key: Ed25519PrivateKey, label: str, *parts: bytes) -> bytes:
    """A signature of the parts under this label."""
    return key.sign(_label(label) + digest(label, *parts))


def verify(public: bytes, signature: bytes, label: str, *parts: bytes) -> bool:
    """Whether this is the key's signature of these parts under this label."""
    return _verify(public, signature, _label(label) + digest(label, *parts))


@lru_cache(maxsize=4096)  # a simulation's shops all check the same signatures in one process
def _verify(public: bytes, signature: bytes, message: bytes) -> bool:
    if not is_sound(public):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def forget_verified() -> None:
    """Check signatures anew that were checked before: for measuring one shop of many in a process."""
    _verify.cache_clear()


def public_of(secret: bytes) -> bytes:
    """The public key that belongs to an X25519 secret."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def well_formed(public: bytes) -> bool:
    """Whether this is the one spelling of an X25519 public key, so that equal keys are equal bytes."""
    return len(public) == SECRET and int.from_bytes(public, "little") < _FIELD


def agree(secret: bytes, public: bytes) -> bytes:
    """The secret that two X25519 keys share; only ever the input of ``derive``.

    Raises:
        RefusalError: The public key is one of the few of low order, with which everybody shares zero.
    """
    try:
        ours = X25519PrivateKey.from_private_bytes(secret)
        return ours.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise RefusalError(
            f"secure aggregation: the key {public.hex()} shares no secret with anyone", reason="bad key"
        ) from None


class Channel:
    """From one shop to another, through a coordinator that can neither read nor change nor swap anything.

    Args:
        shared: What the two envelope keys agree on.
        transcript: Digest of all adverts (tau): an envelope of other adverts cannot be opened.
        sender: Who seals.
        recipient: Who opens.
    """

    def __init__(self, shared: bytes, transcript: bytes, sender: str, recipient: str) -> None:
        self._bound = frame(transcript, sender.encode(), recipient.encode())
        key = derive(shared, transcript, "envelope", sender.encode(), recipient.encode())
        self._cipher = ChaCha20Poly1305(key)

    def seal(self, content: bytes) -> bytes:
        """The content in an envelope."""
        nonce = secrets.token_bytes(12)
        return nonce + self._cipher.encrypt(nonce, content, self._bound)

    def open(self, sealed: bytes) -> bytes | None:
        """What the sender put in; None if it did not, or for other adverts or another recipient."""
        try:
            return self._cipher.decrypt(sealed[:12], sealed[12:], self._bound)
        except (InvalidTag, ValueError):
            return None
