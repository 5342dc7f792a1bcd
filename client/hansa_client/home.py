"""A shop's folder: what lies where. Nothing here reads or writes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

HOME = "HANSA_SHOP"
"""Environment variable: the shop's folder where no ``--home`` is given; else the current folder."""


@dataclass(frozen=True)
class ShopHome:
    """The folder of a shop; made by ``hansa client init``, readable by its owner alone.

    Attributes:
        root: The folder.
    """

    root: Path

    @classmethod
    def found(cls, given: Path | None = None) -> ShopHome:
        """The folder that is given, else of the environment, else the current one."""
        return cls((given or Path(os.environ.get(HOME, "."))).absolute())

    @property
    def settings(self) -> Path:
        """``shop.toml``."""
        return self.root / "shop.toml"

    @property
    def invitation(self) -> Path:
        """The league's invitation, as JSON."""
        return self.root / "invitation.json"

    @property
    def authority(self) -> Path:
        """The certificate of the league's authority, PEM."""
        return self.root / "authority.pem"

    @property
    def catalogue(self) -> Path:
        """The public catalogue: ``item_id`` and details."""
        return self.root / "catalogue.csv"

    @property
    def node_key(self) -> Path:
        """Private key of the Flower node: ECDSA P-384, OpenSSH's format; beside it ``.pub``."""
        return self.root / "keys" / "node"

    @property
    def key(self) -> Path:
        """Long-term Ed25519 private key, PKCS 8 PEM."""
        return self.root / "keys" / "shop.pem"

    @property
    def ledger(self) -> Path:
        """The ledger; its key and mark lie beside it."""
        return self.root / "ledger" / "ledger.sqlite"

    @property
    def markers(self) -> Path:
        """Marks of masked rounds; made once, by ``init``."""
        return self.root / "markers"

    @property
    def plans(self) -> Path:
        """Accepted plans."""
        return self.root / "plans"

    @property
    def replies(self) -> Path:
        """Releases as they left, to be sent again and never computed again."""
        return self.root / "replies"

    @property
    def roster(self) -> Path:
        """The roster that the operator has approved, JSON."""
        return self.root / "roster.json"

    @property
    def pending(self) -> Path:
        """What waits for the operator's decision, one file each."""
        return self.root / "pending"

    @property
    def excluded(self) -> Path:
        """Customers that have opted out: one keyed hash a line."""
        return self.root / "excluded"

    @property
    def unconfirmed(self) -> Path:
        """There while nobody has said whether customers have opted out since the backup that was restored."""
        return self.root / "excluded.unconfirmed"

    @property
    def models(self) -> Path:
        """Versions of the league's model, a folder each: ``model.safetensors`` and ``card.json``."""
        return self.root / "models"

    @property
    def vault(self) -> Path:
        """What never leaves: the shop's own model, its weight in the blend and customers' histories."""
        return self.root / "vault"

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.root / "logs"

    @property
    def state(self) -> Path:
        """Of running processes: pids, sockets, the node's secret."""
        return self.root / "state"
