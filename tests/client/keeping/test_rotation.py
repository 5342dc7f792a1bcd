import io
import json
import os
import shutil

import pytest

from hansa.cli import main
from hansa.errors import RefusalError, UsageError, VerificationError
from hansa.league import Invitation, KeyCard, LeaveNotice
from hansa.secagg.roster import Roster
from hansa_client.config import ShopSettings
from hansa_client.deployed import member_of
from hansa_client.home import ShopHome
from hansa_client.keeping import leaving, rotation
from hansa_client.keeping.joining import card_path, found_shop
from hansa_client.keys import load_key, load_node_key, make_key, shop_fingerprint
from hansa_client.runtime import processes


class PowerCutError(BaseException):
    """The machine stops here."""


@pytest.fixture
def shop(tmp_path, invitation):
    home = ShopHome(tmp_path / "shop")
    found_shop(home, invitation(tmp_path))
    return home


def public(home):
    return load_key(home).public_key().public_bytes_raw().hex(), load_node_key(home)


def sent(home):
    card = KeyCard.from_json(card_path(home, "corner").read_text(), "card")
    card.check()
    return card


def test_new_keys_wait_until_they_are_finished_and_the_old_one_endorses_them(shop, capsys):
    old = public(shop)
    assert main(["client", "rotate-keys", "--home", str(shop.root)]) == 0
    card = sent(shop)
    assert public(shop) == old
    assert card.previous == old[0]
    assert {card.key, card.node}.isdisjoint(old)
    assert card.fingerprint in capsys.readouterr().out
    assert main(["client", "rotate-keys", "--home", str(shop.root)]) == 0
    assert sent(shop) == card  # asked again: the same keys
    assert main(["client", "rotate-keys", "--finish", "--home", str(shop.root)]) == 0
    assert public(shop) == (card.key, card.node)
    assert sorted(os.listdir(shop.key.parent)) == ["node", "node.pub", "shop.pem"]
    assert rotation.waiting(shop) is None
    assert shop.key.stat().st_mode & 0o077 == 0


def test_the_fingerprints_are_those_of_the_key_cards(shop, capsys):
    assert main(["client", "fingerprint", "--home", str(shop.root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["own"] == sent(shop).fingerprint
    assert told["next"] is None
    rotation.begin(shop)
    assert main(["client", "fingerprint", "--home", str(shop.root)]) == 0
    said = capsys.readouterr().out
    assert told["own"] in said
    assert sent(shop).fingerprint in said
    assert Invitation.from_json(shop.invitation.read_text(), "").fingerprint == told["invitation"]


def test_cancelled_keys_are_gone_and_the_card_is_that_of_the_keys_in_use(shop):
    old = public(shop)
    rotation.begin(shop)
    rotation.cancel(shop)
    assert public(shop) == old
    assert (sent(shop).key, sent(shop).previous) == (old[0], "")
    with pytest.raises(UsageError, match="no new keys wait"):
        rotation.finish(shop)
    with pytest.raises(UsageError, match="no new keys wait"):
        rotation.cancel(shop)


STEPS = ("open", "replace", "rename", "rmdir", "unlink", "mkdir")


def cut_at(monkeypatch, count):
    """The power goes with the call of this number that changes something on the disk."""
    left = [count]
    for name in STEPS:
        real = getattr(os, name)

        def step(*arguments, real=real, name=name, **named):
            if name != "open" or (len(arguments) > 1 and arguments[1] & os.O_CREAT):
                left[0] -= 1
                if left[0] == 0:
                    raise PowerCutError
            return real(*arguments, **named)

        monkeypatch.setattr(os, name, step)


@pytest.mark.parametrize("what", ["begin", "finish", "cancel"])
def test_a_rotation_that_is_cut_short_anywhere_is_done_again(shop, tmp_path, monkeypatch, what):
    old = public(shop)
    card = rotation.begin(shop) if what != "begin" else None
    for count in range(1, 60):
        copy = ShopHome(tmp_path / f"cut {count}")
        shutil.copytree(shop.root, copy.root)
        with monkeypatch.context() as patched:
            cut_at(patched, count)
            try:
                getattr(rotation, what)(copy)
                done = True
            except PowerCutError:
                done = False
        load_key(copy), load_node_key(copy)  # never without keys
        if what == "begin":
            assert public(copy) == old
            again = rotation.begin(copy)
            assert sent(copy) == again
            rotation.finish(copy)
            assert public(copy) == (again.key, again.node)
        elif what == "finish":
            assert done or (copy.key.parent / "next").exists() or public(copy) == (card.key, card.node)
            if rotation.waiting(copy) is not None:
                rotation.finish(copy)
            assert public(copy) == (card.key, card.node)
        else:
            if rotation.waiting(copy) is not None:
                rotation.cancel(copy)
            assert public(copy) == old
            assert sent(copy).key == old[0]
        assert rotation.begin(copy).previous == public(copy)[0]
        if done:
            break
    assert done
    assert count > 3


def test_half_way_there_is_no_way_back(shop, monkeypatch):
    rotation.begin(shop)
    (shop.key.parent / "next" / "finishing").touch()
    for step in (rotation.cancel, rotation.begin):
        with pytest.raises(UsageError, match="rotate-keys --finish"):
            step(shop)


def test_a_shop_that_runs_keeps_its_keys(shop, monkeypatch):
    old = public(shop)
    rotation.begin(shop)
    monkeypatch.setattr(processes, "running", lambda home: 17)
    with pytest.raises(RefusalError, match="hansa client stop"):
        rotation.finish(shop)
    assert public(shop) == old


def test_until_the_next_roster_masked_rounds_wait_and_others_go_on(shop, tmp_path):
    """A roster with the earlier key is no error that would stop the shop as a whole."""
    others = {
        name: make_key(tmp_path / name).public_key().public_bytes_raw() for name in ("mill", "depot", "quay")
    }
    own = load_key(shop).public_key().public_bytes_raw()
    shop.roster.write_text(Roster({"corner": own, **others}).to_json())
    assert member_of(shop, ShopSettings(), "corner") is not None
    card = rotation.begin(shop)
    assert member_of(shop, ShopSettings(), "corner") is not None
    rotation.finish(shop)
    assert member_of(shop, ShopSettings(), "corner") is None
    shop.roster.write_text(Roster({"corner": bytes.fromhex(card.key), **others}).to_json())
    assert member_of(shop, ShopSettings(), "corner") is not None


def test_who_leaves_runs_nothing_more_and_keeps_ledger_and_models(shop, capsys):
    card = sent(shop)
    rotation.begin(shop)
    shop.ledger.write_text("spent")
    shop.settings.write_text(f'[approvals]\nbundles = ["{"0" * 64}"]  # theirs\ndp = ["local"]\n')
    (shop.models / "v1").mkdir()
    for path in (shop.roster, shop.root / "approved-plans", shop.pending / "plan-1.json"):
        path.write_text("x")
    shop.plans.mkdir()
    (shop.plans / "x.json").write_text("{}")
    assert main(["client", "leave", "--yes", "--home", str(shop.root)]) == 0
    said = capsys.readouterr().out
    assert str(shop.ledger.parent) in said
    notice = LeaveNotice.from_json((shop.root / "corner.leave.json").read_text(), "notice")
    notice.check(card)
    for path in (
        shop.node_key,
        shop.roster,
        shop.root / "approved-plans",
        shop.plans,
        shop.key.parent / "next",
    ):
        assert not path.exists(), path
    assert list(shop.pending.iterdir()) == []
    assert "bundles = []" in shop.settings.read_text()
    assert 'dp = ["local"]' in shop.settings.read_text()
    assert shop.ledger.read_text() == "spent"
    assert (shop.models / "v1").is_dir()
    with pytest.raises(
        UsageError, match="node: not there, as where a shop has left; 'hansa client rotate-keys'"
    ):
        processes.ready(shop)
    leaving.leave(shop)  # safe to repeat


def test_nothing_leaves_without_a_yes(shop, monkeypatch):
    monkeypatch.setattr("typer.confirm", lambda question: False)
    assert main(["client", "leave", "--home", str(shop.root)]) == 3
    assert shop.node_key.exists()


def test_where_nobody_can_be_asked_nothing_leaves(shop, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["client", "leave", "--home", str(shop.root)]) == 3
    assert "--yes leaves without asking" in capsys.readouterr().err
    assert shop.node_key.exists()


def test_who_has_left_comes_back_with_new_keys_on_the_same_ledger(shop):
    shop.ledger.write_text("spent")
    leaving.leave(shop)
    card = rotation.begin(shop)
    rotation.finish(shop)
    assert public(shop) == (card.key, card.node)
    assert shop_fingerprint(shop, "corner") == card.fingerprint
    assert shop.ledger.read_text() == "spent"


def test_a_notice_of_somebody_else_is_none(shop, tmp_path, invitation):
    other = ShopHome(tmp_path / "other")
    found_shop(other, invitation(tmp_path))
    notice = LeaveNotice.make("grocers", "corner", load_key(other))
    with pytest.raises(VerificationError, match="not signed"):
        notice.check(sent(shop))
    mine = LeaveNotice.make("grocers", "corner", load_key(shop))
    with pytest.raises(VerificationError, match="not signed"):
        mine.model_copy(update={"shop": "north"}).check(sent(shop))
    with pytest.raises(VerificationError, match="not signed"):
        LeaveNotice.make("bakers", "corner", load_key(shop)).check(sent(shop))
