"""``hansa server invite|admit|remove|roster|receipts``: the shops of a league."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hansa_server.setup_commands import Home, Json, opened

Shop = Annotated[str, typer.Argument(metavar="SHOP", help="The shop's name.")]


def invite(
    shop: Shop,
    out: Annotated[Path | None, typer.Option(help="The file. Default: SHOP.invite.")] = None,
    home: Home = None,
) -> None:
    """Write an invitation for a shop to begin with. It is no secret, but must not be swapped on its way.

    Examples:

        hansa server invite north

        hansa server invite north --out north.invite --home coordinator
    """
    from hansa_server import members

    found, settings = opened(home)
    invitation, path = members.invite(found, settings, shop, out)
    print(f"{path}: hand it to {shop}; 'hansa client init {path.name}' there prints a fingerprint")
    print(f"compare it by telephone: {invitation.fingerprint}")


def admit(
    keyfile: Annotated[Path, typer.Argument(metavar="KEYFILE", help="The shop's NAME.keys.json.")],
    home: Home = None,
) -> None:
    """Let an invited shop connect, or take the new keys of one that has rotated them.

    Examples:

        hansa server admit north.keys.json --home coordinator
    """
    from hansa.errors import UsageError
    from hansa.league import KeyCard
    from hansa_server import members
    from hansa_server.deploy import Control

    found, settings = opened(home)
    try:
        text = keyfile.read_bytes()
    except OSError as error:
        raise UsageError(f"{keyfile}: {error.strerror}; give the file that the shop has sent") from error
    card = KeyCard.from_json(text, str(keyfile))
    with Control(found, settings) as control:
        member = members.admit(found, control, card)
    print(f"{member.shop}: admitted as node {member.node}")
    print(f"compare it by telephone: {card.fingerprint}")
    print(f"if it differs: hansa server remove {member.shop}")


def remove(
    shop: Shop,
    notice: Annotated[
        Path | None, typer.Option(help="The shop's NAME.leave.json: see first that the shop has signed it.")
    ] = None,
    home: Home = None,
) -> None:
    """Let a shop connect no longer. What it took part in stays as it is.

    Examples:

        hansa server remove north --home coordinator

        hansa server remove north --notice north.leave.json --home coordinator
    """
    from hansa.errors import UsageError
    from hansa.league import LeaveNotice
    from hansa_server import members
    from hansa_server.deploy import Control

    found, settings = opened(home)
    if notice is not None:
        card = members.admitted(found).get(shop)
        if card is None:
            raise UsageError(
                f"{shop}: not admitted, so that its notice cannot be checked; leave --notice out"
            )
        try:
            text = notice.read_bytes()
        except OSError as error:
            raise UsageError(f"{notice}: {error.strerror}; give the file that the shop has sent") from error
        LeaveNotice.from_json(text, str(notice)).check(card)
    with Control(found, settings) as control:
        members.remove(found, control, shop)
    print(f"{shop}: removed; other shops of a distributed league see another roster from the next run on")


def roster(
    out: Annotated[Path | None, typer.Option(help="Write the roster for shops to approve.")] = None,
    home: Home = None,
    json_: Json = False,
) -> None:
    """Show the shops with their fingerprints, which shops compare with each other by telephone.

    Examples:

        hansa server roster

        hansa server roster --out roster.json --home coordinator
    """
    from hansa.errors import UsageError
    from hansa.secagg.parameters import LEAST_SHOPS
    from hansa_server import members

    found, _ = opened(home)
    known, cards = members.members(found), members.admitted(found)
    digest = members.roster_of(cards).digest if len(cards) >= LEAST_SHOPS else None
    if out is not None:
        try:
            out.write_text(members.roster_of(cards).to_json(), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--out {out}: {error.strerror}; give a file that can be written") from error
    if json_:
        shops = [
            {
                "shop": member.shop,
                "state": member.state,
                "node": member.node,
                "key": cards[member.shop].key if member.shop in cards else None,
                "fingerprint": cards[member.shop].fingerprint if member.shop in cards else None,
            }
            for member in known
        ]
        print(json.dumps({"roster": digest, "shops": shops}, indent=2))
        return
    for member in known:
        told = cards[member.shop].fingerprint if member.shop in cards else member.state
        print(f"{member.shop:<24} {told}")
    few = f"{len(cards)} shops are admitted; a distributed run takes {LEAST_SHOPS} or more"
    print(f"roster {digest}" if digest else few)


def receipts(shop: Shop, home: Home = None) -> None:
    """Print the newest receipt of a shop's ledger that came with its answers, for 'ledger reconcile' there.

    Examples:

        hansa server receipts north --home coordinator
    """
    from hansa_server.runs import newest_receipt, warnings
    from hansa_server.showing import described

    found, _ = opened(home)
    print(newest_receipt(found, shop))
    about = warnings(found).get(shop)
    if about is not None:
        typer.echo(f"{described(about)} (run {about['run']}, {about['count']} in all)", err=True)
