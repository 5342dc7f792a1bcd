"""A shop's keys. They are made here, lie in its folder for its owner alone, and never leave it."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from hansa.durable import write_new
from hansa.errors import UsageError
from hansa.league import KeyCard, fingerprint_of
from hansa_client.home import ShopHome


def make_key(path: Path) -> Ed25519PrivateKey:
    """A new long-term key in a file that must not be there.

    Raises:
        FileExistsError: It is there.
    """
    key = Ed25519PrivateKey.generate()
    write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


def make_node_key(path: Path) -> str:
    """A new key of a Flower node in a file that must not be there, beside it ``.pub``; its public half.

    Raises:
        FileExistsError: It is there.
    """
    key = generate_private_key(SECP384R1())
    write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    write_new(path.with_name(path.name + ".pub"), public + b"\n")
    return public.decode()


def load_key(home: ShopHome) -> Ed25519PrivateKey:
    """The shop's long-term key.

    Raises:
        UsageError: It is missing or damaged.
    """
    return read_key(home.key)


def read_key(path: Path) -> Ed25519PrivateKey:
    """A long-term key.

    Raises:
        UsageError: It is missing or damaged.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: no usable key ({error}); restore it from a backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: not an Ed25519 key; restore it from a backup")
    return key


def load_node_key(home: ShopHome) -> str:
    """The public half of the node's key, in OpenSSH's format.

    Raises:
        UsageError: It is missing or damaged.
    """
    try:
        key = load_ssh_private_key(home.node_key.read_bytes(), None)
    except (OSError, ValueError) as error:
        raise UsageError(f"{home.node_key}: no usable key ({error}); restore it from a backup") from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise UsageError(f"{home.node_key}: not an ECDSA key; restore it from a backup")
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def key_card(home: ShopHome, league: str, shop: str) -> KeyCard:
    """The shop's public keys, signed."""
    return KeyCard.make(league, shop, load_node_key(home), load_key(home))


def shop_fingerprint(home: ShopHome, shop: str) -> str:
    """The shop's name and long-term key as 40 digits; it needs no node key."""
    return fingerprint_of(shop, load_key(home).public_key().public_bytes_raw())
