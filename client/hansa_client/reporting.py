"""A shop's folder as the source of its audit report."""

from __future__ import annotations

from pathlib import Path

from hansa.audit.document import Party
from hansa.audit.making import Material
from hansa.audit.sources import ledger_rows, shop_material
from hansa.errors import UsageError
from hansa.transparency import endorse
from hansa_client.home import ShopHome
from hansa_client.invited import read_invitation
from hansa_client.keys import load_key


def shop_folder(path: Path) -> Material | None:
    """What a deployed shop reports; its long-term key vouches for the ledger.

    Raises:
        UsageError: The folder has no ledger yet, or a file is damaged.
    """
    home = ShopHome(path.absolute())
    if not home.settings.exists():
        return None
    if not home.ledger.exists():
        raise UsageError(f"{home.ledger}: no ledger yet; run 'hansa client configure' first")
    invitation, key, rows = read_invitation(home), load_key(home), ledger_rows(home.ledger)
    opened = rows[0].parse().body
    return shop_material(
        home.ledger,
        rows,
        league=invitation.league,
        plans=sorted(path.read_text(encoding="utf-8") for path in home.plans.glob("*.json")),
        endorsement=endorse(key, invitation.league, invitation.shop, opened["ledger"], opened["key"]),
        rosters=[home.roster.read_text(encoding="utf-8")] if home.roster.exists() else [],
        parties=[
            Party(role="shop", name=invitation.shop, key=key.public_key().public_bytes_raw().hex()),
            Party(role="coordinator", name=invitation.league, key=invitation.signer),
        ],
    )
