"""A coordinator's folder: what lies where."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from hansa.errors import UsageError

HOME = "HANSA_SERVER"
"""Environment variable: the coordinator's folder where no ``--home`` is given; else the current folder."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def plain_name(what: str, name: str) -> str:
    """A name that may name a file: of a shop, a run or a model.

    Raises:
        UsageError: It may not.
    """
    if not _PLAIN.fullmatch(name):
        raise UsageError(
            f"{what} {name!r}: use 1 to 100 letters, digits, '.', '_' or '-', a letter or a digit first"
        )
    return name


@dataclass(frozen=True)
class ServerHome:
    """The folder of a coordinator; made by ``hansa server init``, readable by its owner alone.

    Attributes:
        root: The folder.
    """

    root: Path

    @classmethod
    def found(cls, given: Path | None = None) -> ServerHome:
        """The folder that is given, else of the environment, else the current one."""
        return cls((given or Path(os.environ.get(HOME, "."))).absolute())

    @property
    def settings(self) -> Path:
        """``server.toml``."""
        return self.root / "server.toml"

    @property
    def league(self) -> Path:
        """The league's name; once made it stays."""
        return self.root / "league"

    @property
    def catalogue(self) -> Path:
        """The public catalogue: ``item_id`` and details."""
        return self.root / "catalogue.csv"

    @property
    def bundle(self) -> Path:
        """The app bundle that runs are started with."""
        return self.root / "bundle.fab"

    @property
    def authority(self) -> Path:
        """The certificate of the league's own authority, PEM."""
        return self.root / "authority.pem"

    @property
    def authority_key(self) -> Path:
        """Its private key; only ``renew`` needs it."""
        return self.root / "keys" / "authority.key"

    @property
    def certificate(self) -> Path:
        """The server's certificate, PEM: for the proxy, and for the SuperLink behind it."""
        return self.root / "server.pem"

    @property
    def certificate_key(self) -> Path:
        """Its private key."""
        return self.root / "keys" / "server.key"

    @property
    def signer(self) -> Path:
        """Ed25519 private key that signs models, PKCS 8 PEM."""
        return self.root / "keys" / "signer.pem"

    @property
    def shops(self) -> Path:
        """``NAME.json`` for each shop that was ever invited."""
        return self.root / "shops"

    @property
    def runs(self) -> Path:
        """A folder a run."""
        return self.root / "runs"

    @property
    def log(self) -> Path:
        """``log.jsonl``: the chained log over all runs."""
        return self.root / "log.jsonl"

    @property
    def models(self) -> Path:
        """Versions of the league's model, a folder each."""
        return self.root / "models"

    @property
    def proxy(self) -> Path:
        """nginx's configuration, written anew at every start."""
        return self.root / "nginx.conf"

    @property
    def database(self) -> Path:
        """The SuperLink's: node registrations survive in it."""
        return self.root / "state" / "superlink.sqlite"

    @property
    def flower(self) -> Path:
        """Flower's own folder, in place of ``~/.flwr``."""
        return self.root / "state" / "flower"

    @property
    def state(self) -> Path:
        """Of running processes."""
        return self.root / "state"

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.root / "logs"
