"""Who is let in, and who is not, with the SuperLink's own list of nodes as the witness."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.cli import main
from hansa.errors import RefusalError, UsageError, VerificationError
from hansa.league import Invitation, KeyCard
from hansa_server.bundle import build_bundle, bundle_hash
from hansa_server.deploy import Control
from hansa_server.home import ServerHome
from hansa_server.members import Member, admit, admitted, invite, members, node_names, remove, roster_of
from hansa_server.publishing import signer
from hansa_server.settings import read_settings

MakeKeys = Callable[..., Any]


def _invite(home: ServerHome, *shops: str) -> None:
    for shop in shops:
        invite(home, read_settings(home.settings), shop, home.root / f"{shop}.invite")


def _member(home: ServerHome, shop: str) -> Member:
    return next(member for member in members(home) if member.shop == shop)


def test_an_invitation_says_what_a_shop_has_to_check(home: ServerHome, tmp_path: Path) -> None:
    settings = read_settings(home.settings)
    invitation, path = invite(home, settings, "north", tmp_path / "north.invite")
    loaded, catalogue = Invitation.load(path)
    assert loaded == invitation
    assert catalogue == home.catalogue.read_bytes()
    assert invitation.catalogue == hashlib.sha256(catalogue).hexdigest()
    assert invitation.address == settings.network.address
    assert invitation.bundle == bundle_hash(build_bundle())
    assert invitation.signer == signer(home).public_key().public_bytes_raw().hex()
    assert (invitation.league, invitation.shop, invitation.items) == ("grocers", "north", 40)
    assert _member(home, "north") == Member(shop="north")


def test_names_that_differ_in_case_only(home: ServerHome) -> None:
    _invite(home, "north")
    with pytest.raises(UsageError, match="in case only"):
        _invite(home, "North")
    with pytest.raises(UsageError, match="use 1 to 100"):
        _invite(home, "../north")


def test_an_invited_shop_is_admitted(league: ServerHome, control: Control, make_keys: MakeKeys) -> None:
    _invite(league, "ad-one")
    card = make_keys("ad-one").card
    member = admit(league, control, card)
    assert member == _member(league, "ad-one")
    assert node_names(league)[member.node or 0] == "ad-one"
    assert [node.id for node in control.nodes() if node.name == "ad-one"] == [member.node]
    assert admitted(league)["ad-one"] == card
    assert admit(league, control, card) == member  # once more changes nothing
    stored = json.loads((league.shops / "ad-one.json").read_text())
    assert set(stored) == {"shop", "card", "node", "state"}


def test_what_was_cut_short_is_put_right(league: ServerHome, control: Control, make_keys: MakeKeys) -> None:
    """Its node was registered, and the coordinator died before it could write that down."""
    _invite(league, "ad-cut")
    before = (league.shops / "ad-cut.json").read_bytes()
    keys = make_keys("ad-cut")
    first = admit(league, control, keys.card)
    (league.shops / "ad-cut.json").write_bytes(before)
    assert admit(league, control, keys.card) == first


def test_who_is_not_let_in(league: ServerHome, control: Control, make_keys: MakeKeys) -> None:
    _invite(league, "ad-two", "ad-twin")
    keys = make_keys("ad-two")
    with pytest.raises(UsageError, match="not invited"):
        admit(league, control, make_keys("ad-stranger").card)
    with pytest.raises(UsageError, match="for the league 'bakers'"):
        admit(league, control, make_keys("ad-two", league="bakers").card)
    with pytest.raises(VerificationError, match="not signed with its own key"):
        admit(league, control, keys.card.model_copy(update={"node": make_keys("ad-two").card.node}))
    admit(league, control, keys.card)
    with pytest.raises(UsageError, match="long-term key of ad-two"):
        admit(league, control, make_keys("ad-twin", key=keys.key).card)
    with pytest.raises(UsageError, match="node key of ad-two"):
        admit(league, control, make_keys("ad-twin", node=keys.node).card)
    with pytest.raises(UsageError, match="not in OpenSSH's format"):
        admit(league, control, KeyCard.make("grocers", "ad-twin", "rubbish", Ed25519PrivateKey.generate()))
    assert _member(league, "ad-twin").state == "invited"


def test_rotated_keys_need_the_word_of_the_old_ones(
    league: ServerHome,
    control: Control,
    make_keys: MakeKeys,
) -> None:
    _invite(league, "ad-turn")
    old = make_keys("ad-turn")
    before = admit(league, control, old.card)
    with pytest.raises(RefusalError, match="has not endorsed"):
        admit(league, control, make_keys("ad-turn").card)
    with pytest.raises(RefusalError, match="has not endorsed"):
        admit(league, control, make_keys("ad-turn", previous=Ed25519PrivateKey.generate()).card)
    assert _member(league, "ad-turn") == before
    new = make_keys("ad-turn", previous=old.key)
    after = admit(league, control, new.card)
    assert after.node != before.node
    assert [node.id for node in control.nodes() if node.name == "ad-turn"] == [after.node]
    with pytest.raises(RefusalError):
        admit(league, control, old.card)  # whoever has stolen the old key
    only_node = make_keys("ad-turn", key=new.key)
    assert admit(league, control, only_node.card).node not in (before.node, after.node)


def test_a_removed_shop_is_struck_off(league: ServerHome, control: Control, make_keys: MakeKeys) -> None:
    _invite(league, "ad-gone")
    card = make_keys("ad-gone").card
    admit(league, control, card)
    assert remove(league, control, "ad-gone").node is None
    assert not [node for node in control.nodes() if node.name == "ad-gone"]
    assert "ad-gone" not in admitted(league)
    with pytest.raises(UsageError, match="not invited"):
        admit(league, control, card)
    _invite(league, "ad-gone")
    with pytest.raises(UsageError, match="Flower takes none twice"):
        admit(league, control, card)
    assert admit(league, control, make_keys("ad-gone").card).state == "admitted"
    with pytest.raises(UsageError, match="not known"):
        remove(league, control, "ad-never")


def test_by_the_command_line(
    league: ServerHome,
    tmp_path: Path,
    make_keys: MakeKeys,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = ["--home", str(league.root)]
    cards = {}
    for shop in ("cl-a", "cl-b", "cl-c"):
        assert main(["server", "invite", shop, "--out", str(tmp_path / f"{shop}.invite"), *place]) == 0
        cards[shop] = make_keys(shop).card
        file = tmp_path / f"{shop}.keys.json"
        file.write_text(cards[shop].to_json())
        capsys.readouterr()
        assert main(["server", "admit", str(file), *place]) == 0
        assert cards[shop].fingerprint in capsys.readouterr().out
    out = tmp_path / "roster.json"
    assert main(["server", "roster", "--out", str(out), "--json", *place]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {one["shop"]: one["fingerprint"] for one in shown["shops"]}.items() >= {
        (shop, card.fingerprint) for shop, card in cards.items()
    }
    assert shown["roster"] == roster_of(admitted(league)).digest
    assert out.read_text() == roster_of(admitted(league)).to_json()
    assert main(["server", "remove", "cl-a", *place]) == 0
    assert main(["server", "admit", str(tmp_path / "cl-a.keys.json"), *place]) == 2
    assert main(["server", "admit", str(tmp_path / "nothing"), *place]) == 2
    (tmp_path / "bad").write_text('{"shop": 1}')
    assert main(["server", "admit", str(tmp_path / "bad"), *place]) == 2
    for shop in ("cl-b", "cl-c"):
        assert main(["server", "remove", shop, *place]) == 0


def test_without_a_superlink_nothing_changes(
    home: ServerHome,
    make_keys: MakeKeys,
) -> None:
    _invite(home, "north")
    with (
        Control(home, read_settings(home.settings)) as control,
        pytest.raises(UsageError, match="run 'hansa server start'"),
    ):
        admit(home, control, make_keys("north").card)
    assert _member(home, "north").state == "invited"
    (home.shops / "north.json").write_text("{")
    with pytest.raises(UsageError, match="restore it from a backup"):
        members(home)
