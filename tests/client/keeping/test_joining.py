import hashlib
import os
import shutil
import subprocess

import pytest

from hansa.cli import main
from hansa.errors import UsageError
from hansa.league import Invitation, KeyCard
from hansa.secagg.markers import MarkerFolder
from hansa_client.home import ShopHome
from hansa_client.keeping.joining import card_path, found_shop
from hansa_client.keys import load_key, load_node_key

CATALOGUE = b"item_id,title\na,Ale\nb,Beer\n"


def invitation(folder, **changed):
    told = Invitation(
        **{
            "league": "grocers",
            "shop": "corner",
            "address": "localhost:8443",
            "authority": "a certificate",
            "signer": "0" * 64,
            "bundle": "1" * 64,
            "catalogue": hashlib.sha256(CATALOGUE).hexdigest(),
            "items": 2,
            **changed,
        }
    )
    told.save(folder / "corner.invite", CATALOGUE)
    return folder / "corner.invite"


def test_a_shop_comes_out_of_an_invitation_with_keys_that_nobody_else_can_read(tmp_path, capsys):
    assert main(["client", "init", str(invitation(tmp_path)), "--home", str(tmp_path / "shop")]) == 0
    home = ShopHome(tmp_path / "shop")
    card = KeyCard.from_json(card_path(home, "corner").read_text(), "card")
    card.check()
    assert card.key == load_key(home).public_key().public_bytes_raw().hex()
    assert card.node == load_node_key(home)
    told = Invitation.load(tmp_path / "corner.invite")[0]
    said = capsys.readouterr().out
    assert told.fingerprint in said
    assert card.fingerprint in said
    assert home.catalogue.read_bytes() == CATALOGUE
    assert home.authority.read_text() == "a certificate"
    for folder, _, files in os.walk(home.root):
        for path in (folder, *(os.path.join(folder, file) for file in files)):
            assert os.stat(path).st_mode & 0o077 == 0, path
    MarkerFolder(home.markers).claim("r", 1, 1, "advertise", b"")


def test_the_node_key_is_one_that_ssh_keygen_takes(tmp_path):
    home = ShopHome(tmp_path / "shop")
    found_shop(home, invitation(tmp_path))
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    told = subprocess.run(["ssh-keygen", "-y", "-f", str(home.node_key)], capture_output=True, text=True)
    assert told.stdout.split()[:2] == load_node_key(home).split()[:2]
    assert told.stdout.startswith("ecdsa-sha2-nistp384")


def test_a_shop_is_never_overwritten(tmp_path, capsys):
    home = ShopHome(tmp_path / "shop")
    found_shop(home, invitation(tmp_path))
    before = home.key.read_bytes()
    assert main(["client", "init", str(tmp_path / "corner.invite"), "--home", str(home.root)]) == 2
    assert "there is a shop already; give another --home" in capsys.readouterr().err
    assert home.key.read_bytes() == before


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "a b"])
def test_a_name_that_cannot_name_a_file_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="ask for another"):
        found_shop(ShopHome(tmp_path / "shop"), invitation(tmp_path, shop=name))
    assert not (tmp_path / "shop").exists()


def test_what_is_no_invitation_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"PK no zip")
    with pytest.raises(UsageError, match="not an invitation"):
        found_shop(ShopHome(tmp_path / "shop"), tmp_path / "x")


def test_a_missing_key_is_named_with_the_way_out(tmp_path):
    home = ShopHome(tmp_path / "shop")
    found_shop(home, invitation(tmp_path))
    home.key.write_text("no key")
    home.node_key.unlink()
    with pytest.raises(UsageError, match=r"shop.pem: no usable key .* restore it from a backup"):
        load_key(home)
    with pytest.raises(UsageError, match=r"node: no usable key .* restore it from a backup"):
        load_node_key(home)
