"""The shops of a league as their coordinator knows them: invited, admitted, removed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hansa.errors import RefusalError, UsageError
from hansa.league import Invitation, KeyCard
from hansa.secagg.roster import Roster
from hansa_server.bundle import bundle_hash
from hansa_server.deploy import Control, node_key
from hansa_server.files import write_private
from hansa_server.home import ServerHome, plain_name
from hansa_server.publishing import signer
from hansa_server.settings import ServerSettings
from hansa_server.setup import read_catalogue


class Member(BaseModel):
    """``shops/NAME.json``.

    Attributes:
        shop: The shop.
        card: Its public keys, once it is admitted.
        node: Number of its Flower node while it is admitted.
        state: Where it stands.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shop: str
    card: KeyCard | None = None
    node: int | None = None
    state: Literal["invited", "admitted", "removed"] = "invited"


def members(home: ServerHome) -> list[Member]:
    """All shops that were ever invited, by name.

    Raises:
        UsageError: A file is damaged.
    """
    return [_read(path) for path in sorted(home.shops.glob("*.json"))]


def admitted(home: ServerHome) -> dict[str, KeyCard]:
    """The key cards of the shops that take part in runs, by name."""
    found = {member.shop: member.card for member in members(home) if member.state == "admitted"}
    return {shop: card for shop, card in found.items() if card is not None}


def node_names(home: ServerHome) -> dict[int, str]:
    """The admitted shops by their Flower node.

    Raises:
        UsageError: A file is damaged.
    """
    listed = (member for member in members(home) if member.state == "admitted")
    return {member.node: member.shop for member in listed if member.node is not None}


def roster_of(cards: dict[str, KeyCard]) -> Roster:
    """The roster of admitted shops.

    Raises:
        UsageError: Too few or too many of them.
    """
    return Roster({shop: bytes.fromhex(card.key) for shop, card in cards.items()})


def invite(
    home: ServerHome, settings: ServerSettings, shop: str, out: Path | None
) -> tuple[Invitation, Path]:
    """Write an invitation; a shop that is admitted stays so and may get another.

    Args:
        home: The coordinator's folder.
        settings: Its settings.
        shop: The shop.
        out: The file; None: ``SHOP.invite`` in the current folder.

    Raises:
        UsageError: The name is none, or the folder is not complete.
    """
    plain_name("shop", shop)
    known = _find(home, shop)
    if known is not None and known.shop != shop:
        raise UsageError(f"shop {shop!r}: differs from {known.shop!r} in case only; use another name")
    content, items = read_catalogue(home.catalogue)
    invitation = Invitation(
        league=home.league.read_text(encoding="utf-8").strip(),
        shop=shop,
        address=settings.network.address,
        authority=home.authority.read_text(encoding="ascii"),
        signer=signer(home).public_key().public_bytes_raw().hex(),
        bundle=bundle_hash(home.bundle.read_bytes()),
        catalogue=hashlib.sha256(content).hexdigest(),
        items=items,
    )
    path = out or Path(f"{shop}.invite")
    try:
        invitation.save(path, content)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give a file that can be written with --out") from error
    if known is None or known.state == "removed":
        _write(home, Member(shop=shop))
    return invitation, path


def admit(home: ServerHome, control: Control, card: KeyCard) -> Member:
    """Let an invited shop in, or take the new keys of one that is in.

    Its node is registered before it is written down, and its earlier node is struck off afterwards: whatever
    is cut short is put right by doing it again.

    Raises:
        UsageError: It was not invited, or has a key of another shop.
        VerificationError: The card is not signed with its keys.
        RefusalError: The shop is in with another long-term key, which has not endorsed this one.
    """
    card.check()
    league = home.league.read_text(encoding="utf-8").strip()
    if card.league != league:
        raise UsageError(f"key card of {card.shop}: for the league {card.league!r}, this is {league!r}")
    known = _find(home, plain_name("shop", card.shop))
    if known is None or known.shop != card.shop or known.state == "removed":
        raise UsageError(f"shop {card.shop}: not invited; 'hansa server invite {card.shop}' first")
    before = known.card
    if before is not None and before.key != card.key and card.previous != before.key:
        raise RefusalError(
            f"shop {card.shop}: another long-term key than the admitted one, which has not endorsed it; ask "
            f"for that of 'hansa client rotate-keys', or 'hansa server remove {card.shop}' and invite anew"
        )
    if before is not None and before.key != card.key and before.previous == card.key:
        raise RefusalError(f"shop {card.shop}: this key was replaced already; ask for the newest key card")
    twin = next(
        (shop for shop, other in admitted(home).items() if shop != card.shop and other.key == card.key), ""
    )
    if twin:
        raise UsageError(f"shop {card.shop}: has the long-term key of {twin}; each shop needs its own")
    public, nodes = node_key(card.node), control.nodes()
    holder = next((node for node in nodes if node.key == public), None)
    if holder is not None and holder.name != card.shop:
        raise UsageError(f"shop {card.shop}: has the node key of {holder.name}; each shop needs its own")
    node = control.register(card.shop, public) if holder is None else holder.id
    member = Member(shop=card.shop, card=card, node=node, state="admitted")
    _write(home, member)
    for other in nodes:
        if other.name == card.shop and other.id != node:
            control.unregister(other.id)
    return member


def remove(home: ServerHome, control: Control, shop: str) -> Member:
    """Let a shop in no longer; its records stay.

    Raises:
        UsageError: There is no such shop.
    """
    known = _find(home, plain_name("shop", shop))
    if known is None or known.shop != shop:
        raise UsageError(f"shop {shop}: not known; see 'hansa server roster'")
    nodes = control.nodes()
    member = known.model_copy(update={"node": None, "state": "removed"})
    _write(home, member)
    for node in nodes:
        if node.name == shop:
            control.unregister(node.id)
    return member


def _find(home: ServerHome, shop: str) -> Member | None:
    """The shop of this name; also one that differs in case, which some file systems take for the same."""
    found = (member for member in members(home) if member.shop.casefold() == shop.casefold())
    return next(found, None)


def _read(path: Path) -> Member:
    try:
        return Member.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: damaged; restore it from a backup") from error


def _write(home: ServerHome, member: Member) -> None:
    write_private(home.shops / f"{member.shop}.json", member.model_dump_json(indent=2) + "\n")
