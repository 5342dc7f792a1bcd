"""A file that only who knows the passphrase can read or change.

``hansa backup 1``, a line feed, a salt of 16 bytes, a nonce of 12 and the sealed content. Scrypt (RFC 7914;
n = 2^17, r = 8, p = 1: 128 MiB) makes the key of ChaCha20-Poly1305 (RFC 8439), which authenticates what
stands before the content, too. Another version is another first line.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from hansa.errors import UsageError, VerificationError

_KIND, _SIGN = b"hansa backup ", b"hansa backup 1\n"
_SALT, _NONCE = 16, 12


def seal(content: bytes, passphrase: str) -> bytes:
    """The content, encrypted and authenticated."""
    header = _SIGN + secrets.token_bytes(_SALT + _NONCE)
    return header + _cipher(header, passphrase).encrypt(header[-_NONCE:], content, header)


def unseal(sealed: bytes, passphrase: str, source: str) -> bytes:
    """The content.

    Args:
        sealed: What ``seal`` gave.
        passphrase: The same.
        source: Where from, for messages.

    Raises:
        UsageError: It is no backup, or one of another version.
        VerificationError: The passphrase is another, or it was changed.
    """
    if not sealed.startswith(_SIGN):
        what = (
            "a backup of another version"
            if sealed.startswith(_KIND)
            else "no backup of 'hansa client backup'"
        )
        raise UsageError(f"{source}: {what}; give another file")
    end = len(_SIGN) + _SALT + _NONCE
    header, content = sealed[:end], sealed[end:]
    try:
        return _cipher(header, passphrase).decrypt(header[-_NONCE:], content, header)
    except (InvalidTag, ValueError):
        raise VerificationError(f"{source}: another passphrase, or the file was damaged; try again") from None


def _cipher(header: bytes, passphrase: str) -> ChaCha20Poly1305:
    salt = header[len(_SIGN) : len(_SIGN) + _SALT]
    return ChaCha20Poly1305(Scrypt(salt=salt, length=32, n=2**17, r=8, p=1).derive(passphrase.encode()))
