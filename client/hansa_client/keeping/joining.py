"""``hansa client init``: a shop's folder from an invitation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hansa.league import Invitation, KeyCard
    from hansa_client.home import ShopHome

Home = Annotated[
    Path | None, typer.Option("--home", help="The shop's folder. Default: $HANSA_SHOP, or the current one.")
]
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def init(
    invitation: Annotated[Path, typer.Argument(metavar="INVITATION", help="The coordinator's file.")],
    home: Home = None,
) -> None:
    """Make a shop's folder: new keys, which never leave it, and what the invitation says of the league.

    It prints two fingerprints: the invitation's, to compare with what the coordinator reads out by
    telephone, and the shop's own, to read out. NAME.keys.json is to be sent to the coordinator.

    Examples:

        hansa client init corner.invite --home corner
    """
    from hansa_client.home import ShopHome

    place = ShopHome.found(home)
    told, card = found_shop(place, invitation)
    print(
        f"{place.root}: the shop {told.shop} of the league {told.league}, {told.items:,} items\n"
        f"The invitation's fingerprint, to compare by telephone:\n    {told.fingerprint}\n"
        f"This shop's fingerprint, to read out:\n    {card.fingerprint}\n"
        f"Next: send {card_path(place, told.shop)} to the coordinator, then\n"
        f"    hansa client configure --home {place.root}"
    )


def found_shop(home: ShopHome, invitation: Path) -> tuple[Invitation, KeyCard]:
    """Make the folder of a shop.

    Args:
        home: Where; what is there of a shop is never overwritten.
        invitation: The coordinator's file.

    Raises:
        UsageError: The file is no invitation, or there is a shop already.
    """
    from hansa.durable import write_new
    from hansa.errors import UsageError
    from hansa.league import Invitation
    from hansa.secagg.markers import MarkerFolder
    from hansa_client.keys import key_card, make_key, make_node_key

    told, catalogue = Invitation.load(invitation)
    if not _PLAIN.fullmatch(told.shop):
        raise UsageError(f"{invitation}: the shop's name {told.shop!r} cannot name a file; ask for another")
    if home.invitation.exists() or home.key.exists() or home.ledger.exists():
        raise UsageError(f"{home.root}: there is a shop already; give another --home")
    try:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.root.chmod(0o700)
        for folder in (home.key.parent, home.ledger.parent, home.pending, home.models, home.vault):
            folder.mkdir(mode=0o700, exist_ok=True)
        make_key(home.key)
        make_node_key(home.node_key)
        MarkerFolder.create(home.markers)
        write_new(home.authority, told.authority.encode())
        write_new(home.catalogue, catalogue)
        card = key_card(home, told.league, told.shop)
        write_new(card_path(home, told.shop), card.to_json().encode())
        write_new(home.invitation, told.to_json().encode())  # the last: now it is a shop
    except OSError as error:
        raise UsageError(
            f"{error.filename or home.root}: {error.strerror or error}; give another --home, an empty one"
        ) from error
    return told, card


def card_path(home: ShopHome, shop: str) -> Path:
    """The file of public keys for the coordinator."""
    return home.root / f"{shop}.keys.json"
