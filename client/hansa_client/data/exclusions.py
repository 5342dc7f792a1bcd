"""Customers who have opted out: nothing of them is read from the next release on.

**Guarantee:** on the disk is a keyed hash of each, so that a list of ids cannot be tried against a stolen
file without the key, which never leaves ``keys/``. Without the key, with a damaged list, with a key whose
list is gone, or after a restoration until the operator has brought the list up to date, the shop reads no
data at all: nobody who opted out may come back by accident. What was released before stays in the
league's model under the privacy that it had then, and cannot be taken out again.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import import_module

import polars as pl

from hansa.durable import sync, write_whole
from hansa.errors import RefusalError, UsageError
from hansa_client.home import ShopHome

_HASH = re.compile("[0-9a-f]{64}")
UNCONFIRMED = "the shop was restored and its operator has to confirm it"
CACHES = ("hansa_client.data.rowcache", "hansa_client.serving.knowledge")
"""Modules that keep something of customers; each has ``forget(home, customers) -> int``."""


class Exclusions:
    """The list of a shop.

    Args:
        home: The shop's folder.

    Raises:
        UsageError: The list or its key is damaged, or one of the two is missing.
    """

    def __init__(self, home: ShopHome) -> None:
        self._home = home
        self._path, self._key_path = home.excluded, home.root / "keys" / "exclusions.key"
        self._key: bytes | None = None
        self._hashes = self._read()

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, customer: str) -> bool:
        return bool(self._hashes) and self._hash(customer) in self._hashes

    @property
    def hashes(self) -> tuple[str, ...]:
        """Of the customers, in hex, sorted."""
        return tuple(sorted(self._hashes))

    def mask(self, customers: pl.Series) -> pl.Series:
        """Which of these have opted out; null is nobody."""
        if not self._hashes:
            return pl.Series([False], dtype=pl.Boolean).new_from_index(0, len(customers))
        gone = [name for name in customers.drop_nulls().unique().to_list() if name in self]
        return customers.is_in(gone).fill_null(False)

    def add(self, customers: Collection[str]) -> int:
        """Put customers on the list, on the disk when this returns.

        Returns:
            How many are new on it.
        """
        with self._turn():
            new = {self._hash(_id(customer)) for customer in customers} - self._hashes
            self._write(self._hashes | new)
        return len(new)

    def remove(self, customers: Collection[str]) -> int:
        """Take customers off the list, for whoever wants back in.

        Returns:
            How many were on it.
        """
        with self._turn():
            old = {self._hash(_id(customer)) for customer in customers} & self._hashes
            self._write(self._hashes - old)
        return len(old)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        folder = os.open(self._home.root, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            self._hashes = self._read()
            if not self._key_path.exists():
                self._write(self._hashes)  # a key without a list is never left behind
                self._key_path.parent.mkdir(mode=0o700, exist_ok=True)
                write_whole(self._key_path, secrets.token_hex(32).encode())
            yield
        finally:
            os.close(folder)

    def _read(self) -> frozenset[str]:
        try:
            lines = self._path.read_text(encoding="ascii").split()
        except FileNotFoundError:
            if not self._key_path.exists():
                return frozenset()
            raise UsageError(
                f"{self._path}: missing, and {self._key_path} says that there was one; restore it from a "
                "backup, or exclude everybody anew after removing the key"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self._path}: cannot be read; restore it from a backup") from error
        if not all(_HASH.fullmatch(line) for line in lines):
            raise UsageError(f"{self._path}: a line is no hash; restore the file from a backup")
        if lines:
            self._hash("")  # without the key nobody on the list would be found
        return frozenset(lines)

    def _write(self, hashes: frozenset[str]) -> None:
        write_whole(self._path, "".join(f"{line}\n" for line in sorted(hashes)).encode("ascii"))
        self._hashes = hashes

    def _hash(self, customer: str) -> str:
        if self._key is None:
            try:
                self._key = bytes.fromhex(self._key_path.read_text(encoding="ascii").strip())
            except (OSError, ValueError) as error:
                raise UsageError(
                    f"{self._key_path}: missing or damaged; restore it from a backup, or exclude everybody "
                    f"anew after removing {self._path.name}"
                ) from error
        return hmac.new(self._key, customer.encode(), hashlib.sha256).hexdigest()


def refuse_unconfirmed(home: ShopHome) -> None:
    """See that the list is not older than a restoration.

    Raises:
        RefusalError: Nobody has brought it up to date yet.
    """
    if home.unconfirmed.exists():
        raise RefusalError(
            f"{home.excluded}: as old as the backup that was restored; run 'hansa client exclude --file "
            "FILE' with who has opted out since, or 'hansa client exclude --confirm' if nobody has",
            reason=UNCONFIRMED,
        )


def confirm(home: ShopHome) -> bool:
    """Take the operator's word that the list is up to date; whether it was asked for."""
    if not home.unconfirmed.exists():
        return False
    home.unconfirmed.unlink(missing_ok=True)
    sync(home.root)
    return True


def _id(customer: str) -> str:
    return customer.strip()


def forget(home: ShopHome, customers: Collection[str]) -> dict[str, int]:
    """Take customers out of everything that the shop keeps beside its own database.

    Releases that are kept to be sent again go as a whole: one that has not left yet would come after the
    opt-out. A round that is then asked for again is made anew and paid again.

    Args:
        home: The shop's folder.
        customers: Their ids.

    Returns:
        By module, how many entries went.
    """
    ids = {_id(customer) for customer in customers}
    for kept in home.replies.glob("*.safetensors"):
        kept.unlink(missing_ok=True)
    return {name: int(import_module(name).forget(home, ids)) for name in CACHES}
