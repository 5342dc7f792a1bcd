"""A deployed shop from its folder: what the client app serves, made anew for every message.

**Guarantee:** nothing of it comes from a coordinator: data, ledger, ceiling, roster and terms are the
shop's own files. The ledger and the folder of marks are made when the shop is set up and never here: where
one is missing the shop refuses, since a new one would know nothing of what was spent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.dp.ledger import Budget
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import RefusalError
from hansa.league import ModelCard
from hansa.models.base import State
from hansa.secagg.markers import MarkerFolder
from hansa.secagg.roster import Member, Roster
from hansa_client.config import ShopSettings, read_settings
from hansa_client.home import ShopHome
from hansa_client.invited import read_invitation
from hansa_client.keys import load_key
from hansa_client.replies import ReplyFolder
from hansa_client.shop import LocalShop
from hansa_client.shop_files import PlanFolder

if TYPE_CHECKING:
    from hansa_client.data.loading import ShopData

FRESH = 900.0
"""Seconds for which data that were read are used; opt-outs and settings count at once."""


@dataclass
class DeployedShop:
    """Finds the shop of a folder for the client app; keeps what is slow to read.

    Attributes:
        home: The shop's folder.
    """

    home: ShopHome
    _ledger: LedgerFile | None = None
    _key: tuple[object, Ed25519PrivateKey] | None = field(default=None, repr=False)
    _read: tuple[object, float, ShopData] | None = field(default=None, repr=False)

    def __call__(self, node_config: Mapping[str, object]) -> LocalShop:
        """The shop as its files are now.

        Raises:
            HansaError: A file is missing or wrong.
        """
        home, settings = self.home, read_settings(self.home.settings)
        invitation = read_invitation(home)
        return LocalShop(
            name=invitation.shop,
            histories=self.data(settings).histories,
            ledger=self.ledger(settings, invitation.shop),
            customers=settings.budget.customers,
            allowed=settings.approvals.dp,
            plans=PlanFolder(home.plans),
            coordinator=invitation.league,
            member=member_of(home, settings, invitation.shop),
            markers=MarkerFolder(home.markers),
            replies=ReplyFolder(home.replies),
            repeats=settings.approvals.repeats,
            key=self.key(),
            signer=invitation.signer,
            receive=self._receive,
        )

    def key(self) -> Ed25519PrivateKey:
        """The shop's long-term key.

        Raises:
            UsageError: It is missing or damaged.
        """
        stamp = _stamp(self.home.key)
        if self._key is None or self._key[0] != stamp:
            self._key = stamp, load_key(self.home)
        return self._key[1]

    def ledger(self, settings: ShopSettings, name: str) -> LedgerFile:
        """The shop's ledger under its configured ceiling.

        Raises:
            RefusalError: There is none.
        """
        budget = Budget(settings.budget.epsilon, settings.budget.delta)
        if not self.home.ledger.exists():
            raise RefusalError(
                f"{self.home.ledger}: no ledger; 'hansa client configure' makes the first one, "
                "'hansa client restore' brings back a lost one",
                reason="the shop's ledger cannot be used now",
            )
        if self._ledger is None or self._ledger.budget != budget:
            self._ledger = LedgerFile(self.home.ledger, budget, name=name)
        return self._ledger

    def data(self, settings: ShopSettings) -> ShopData:
        """The shop's customers without those that have opted out."""
        from hansa_client.data.loading import load_data

        key = settings.data, settings.catalogue, _stamp(self.home.excluded), _stamp(self.home.catalogue)
        known = self._read
        if known is None or known[0] != key or time.monotonic() - known[1] > FRESH:
            known = self._read = (key, time.monotonic(), load_data(self.home, settings))
        return known[2]

    def _receive(self, card: str, state: State) -> None:
        from hansa_client.serving.vault import receive_model

        receive_model(self.home, ModelCard.from_json(card, "model"), state)


def member_of(home: ShopHome, settings: ShopSettings, name: str) -> Member | None:
    """The shop's own side of the roster that its operator has approved.

    None if there is none yet, or it lists another key of this shop, which has new ones: then masked rounds
    wait for the next roster, and runs that need none go on.

    Raises:
        UsageError: The files do not fit each other.
    """
    if not home.roster.exists():
        return None
    masking, key = settings.masking, load_key(home)
    roster = Roster.from_json(home.roster.read_text(encoding="utf-8"))
    if roster.keys.get(name) != key.public_key().public_bytes_raw():
        return None
    return Member(
        name=name,
        key=key,
        roster=roster,
        vouched=frozenset(masking.vouched),
        threshold=masking.threshold,
        honest=masking.honest,
        bits=masking.bits,
        colluders=masking.colluders,
    )


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
