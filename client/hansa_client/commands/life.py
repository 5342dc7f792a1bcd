"""``hansa client fingerprint``, ``rotate-keys`` and ``leave``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hansa_client.keeping.joining import Home


def fingerprint(
    home: Home = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print the fingerprints to compare by telephone: the invitation's and this shop's.

    Examples:

        hansa client fingerprint

        hansa client fingerprint --json
    """
    from hansa_client.home import ShopHome
    from hansa_client.invited import read_invitation
    from hansa_client.keeping import rotation
    from hansa_client.keys import shop_fingerprint

    place = ShopHome.found(home)
    told, new = read_invitation(place), rotation.waiting(place)
    own, next_ = shop_fingerprint(place, told.shop), None if new is None else new.fingerprint
    if json_:
        about = {"league": told.league, "shop": told.shop, "invitation": told.fingerprint}
        print(json.dumps({**about, "own": own, "next": next_}, indent=2))
        return
    print(f"The invitation to {told.league}:\n    {told.fingerprint}\nThis shop, {told.shop}:\n    {own}")
    if next_ is not None:
        print(f"Its new keys, which wait for 'hansa client rotate-keys --finish':\n    {next_}")


def rotate_keys(
    finish: Annotated[
        bool, typer.Option("--finish", help="The coordinator has admitted the new keys: use them.")
    ] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Throw the new keys away.")] = False,
    home: Home = None,
) -> None:
    """Make new keys, endorsed by the old ones, which stay in use until --finish.

    First 'rotate-keys': send NAME.keys.json to the coordinator and read the fingerprint out. Once 'hansa
    server admit' has taken it, stop the shop and run 'rotate-keys --finish'. The old keys do not connect any
    more then, so do not wait long. The other shops of a distributed league compare the new fingerprint.

    Examples:

        hansa client rotate-keys

        hansa client rotate-keys --finish
    """
    from hansa.errors import UsageError
    from hansa_client.home import ShopHome
    from hansa_client.keeping import rotation
    from hansa_client.keeping.joining import card_path

    place = ShopHome.found(home)
    if finish and cancel:
        raise UsageError("rotate-keys: give --finish or --cancel, not both")
    if cancel:
        rotation.cancel(place)
        print(
            "the new keys are gone, the old ones stay; a coordinator that has admitted the new ones refuses"
        )
    elif finish:
        card = rotation.finish(place)
        print(f"the new keys are in use, the old ones are gone:\n    {card.fingerprint}")
        print("'hansa client backup' now: an earlier backup has the old keys")
    else:
        card = rotation.begin(place)
        print(
            f"new keys wait; the old ones are in use. Their fingerprint, to read out:\n    {card.fingerprint}"
        )
        print(
            f"Next: send {card_path(place, card.shop)} to the coordinator; once it is admitted:\n"
            f"    hansa client stop && hansa client rotate-keys --finish && hansa client start"
        )


def leave(
    home: Home = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Leave the league: stop, and take away what lets this shop run. Ledger and models stay.

    What the shop has given to earlier models stays in them, under the privacy that it had then. Coming back
    later goes by 'hansa client rotate-keys', and counts on the same ledger.

    Examples:

        hansa client leave

        hansa client leave --yes
    """
    from hansa.errors import RefusalError
    from hansa_client.home import ShopHome
    from hansa_client.invited import read_invitation
    from hansa_client.keeping import leaving

    place = ShopHome.found(home)
    told = read_invitation(place)
    if not yes and not _agreed(f"{told.shop} leaves {told.league}, and its connection's key is deleted?"):
        raise RefusalError("nothing was changed; --yes leaves without asking")
    path = leaving.leave(place)
    print(
        f"{told.shop} has left {told.league}: its node key, roster, approvals and accepted plans are "
        f"deleted, so that nothing runs\n"
        f"Kept: the ledger {place.ledger.parent}, the models {place.models}, what serves {place.vault}\n"
        f"Next: send {path} to the coordinator, for 'hansa server remove {told.shop}'"
    )


def _agreed(question: str) -> bool:
    """Whether somebody says yes; nobody being there is a no."""
    try:
        return typer.confirm(question)
    except typer.Abort:
        return False
