import hashlib
import json
import zipfile

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.errors import UsageError, VerificationError
from hansa.league import Invitation, KeyCard, LeaveNotice, ModelCard, digits
from hansa.secagg.roster import Roster

CATALOGUE = b"item_id,title\na,Ale\nb,Beer\n"
NODE = "ecdsa-sha2-nistp384 AAAA"


def key(number):
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def public(number):
    return key(number).public_key().public_bytes_raw().hex()


def told(**changed):
    return Invitation(
        **{
            "league": "grocers",
            "shop": "Ecke Süd",
            "address": "league.example:443",
            "authority": "-----BEGIN CERTIFICATE-----\n",
            "signer": public(9),
            "bundle": "1" * 64,
            "catalogue": hashlib.sha256(CATALOGUE).hexdigest(),
            "items": 2,
            **changed,
        }
    )


def model_card(**changed):
    return ModelCard(
        **{
            "league": "grocers",
            "model": "v1",
            "run": "r",
            "plan": "{}",
            "shops": [["a", "b"], ["a"]],
            "sha256": hashlib.sha256(b"weights").hexdigest(),
            "created": "2030-01-01T00:00:00+00:00",
            **changed,
        }
    )


def test_an_invitation_comes_back_as_it_was(tmp_path):
    told().save(tmp_path / "x.invite", CATALOGUE)
    assert Invitation.load(tmp_path / "x.invite") == (told(), CATALOGUE)
    assert Invitation.from_json(told().to_json(), "x") == told()


def write(path, text=None, catalogue=CATALOGUE, leave_out=""):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {
            "invitation.json": text or told().to_json(),
            "catalogue.csv": catalogue,
        }.items():
            if name != leave_out:
                archive.writestr(name, content)
    return path


@pytest.mark.parametrize("missing", ["invitation.json", "catalogue.csv"])
def test_an_invitation_without_a_part_is_none(tmp_path, missing):
    with pytest.raises(UsageError, match="not an invitation of 'hansa server invite'"):
        Invitation.load(write(tmp_path / "x", leave_out=missing))


def test_an_invitation_with_another_catalogue_is_damaged(tmp_path):
    with pytest.raises(UsageError, match="its catalogue is damaged; ask for the file anew"):
        Invitation.load(write(tmp_path / "x", catalogue=CATALOGUE + b"c,Cider\n"))


def test_no_damaged_byte_of_an_invitation_goes_unnoticed_or_crashes(tmp_path):
    path = tmp_path / "corner.invite"
    told().save(path, CATALOGUE)
    whole, noticed = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:  # a byte may say nothing, such as one of a date
            assert Invitation.load(path) == (told(), CATALOGUE)
        except UsageError:
            noticed += 1
    assert noticed > len(whole) / 2


def test_a_file_that_is_cut_or_missing_is_no_invitation(tmp_path):
    told().save(tmp_path / "x", CATALOGUE)
    (tmp_path / "cut").write_bytes((tmp_path / "x").read_bytes()[:-30])
    for path in (tmp_path / "cut", tmp_path / "missing", tmp_path):
        with pytest.raises(UsageError, match="not an invitation"):
            Invitation.load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", "league.example"),
        ("address", "http://league.example:443"),
        ("address", "league.example:443 --insecure"),
        ("signer", "0" * 63),
        ("signer", "G" * 64),
        ("bundle", ""),
        ("items", 0),
        ("version", 2),
        ("further", 1),
    ],
)
def test_a_wrong_field_is_named(tmp_path, field, value):
    text = json.dumps(json.loads(told().to_json()) | {field: value})
    with pytest.raises(UsageError, match=f"x: {field}: .*; ask for the file anew"):
        Invitation.load(write(tmp_path / "x", text=text))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"league": "\ud800"}'])
def test_what_is_no_document_is_refused(text):
    with pytest.raises(UsageError, match="ask for the file anew"):
        Invitation.from_json(text.encode("utf-8", "surrogatepass"), "x")


NO_NAMES = ["", "a\nb", "a\x00b", "a\u202eb", "\u200b", "x" * 129, "ü" * 65]


@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
@pytest.mark.parametrize("field", ["league", "shop"])
def test_a_name_that_is_none_is_refused_everywhere(name, field):
    card = json.loads(KeyCard.make("grocers", "corner", NODE, key(1)).to_json())
    notice = json.loads(LeaveNotice.make("grocers", "corner", key(1)).to_json())
    for kind, fields in ((Invitation, json.loads(told().to_json())), (KeyCard, card), (LeaveNotice, notice)):
        with pytest.raises(UsageError, match=f"x: {field}: "):
            kind.from_json(json.dumps(fields | {field: name}), "x")


def test_a_name_may_have_blanks_and_letters_of_any_language():
    for name in ("Ecke Süd", "角の店", "x" * 128):
        card = KeyCard.make("grocers", name, NODE, key(1))
        KeyCard.from_json(card.to_json(), "x").check()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "a b", "x" * 129, "é"])
def test_a_model_whose_name_cannot_name_a_file_is_refused(name):
    with pytest.raises(UsageError, match="x: model: "):
        ModelCard.from_json(json.dumps(json.loads(model_card().to_json()) | {"model": name}), "x")


@pytest.mark.parametrize("league", ["", "two\nlines", "\x1b[2J", "x" * 200])
def test_a_models_league_is_a_name(league):
    with pytest.raises(UsageError, match="x: league: "):
        ModelCard.from_json(json.dumps(json.loads(model_card().to_json()) | {"league": league}), "x")


def test_fingerprints_are_forty_digits_and_differ_with_what_they_are_about():
    assert digits(b"\0" * 32) == " ".join(["00000"] * 8)
    cards = [
        KeyCard.make("grocers", "corner", NODE, key(1)),
        KeyCard.make("grocers", "corner", NODE, key(2)),
        KeyCard.make("grocers", "north", NODE, key(1)),
    ]
    changes = {"league": "bakers", "shop": "north", "address": "evil.example:443", "authority": "another",
               "signer": public(8), "bundle": "2" * 64, "catalogue": "3" * 64, "items": 3}  # fmt: skip
    assert set(changes) == set(Invitation.model_fields) - {"version"}
    invitations = [told(), *(told(**{name: value}) for name, value in changes.items())]
    for printed in ([card.fingerprint for card in cards], [each.fingerprint for each in invitations]):
        assert len(set(printed)) == len(printed)
        for line in printed:
            assert [len(group) for group in line.split()] == [5] * 8
            assert line.replace(" ", "").isdigit()


def test_a_shops_fingerprint_is_that_of_the_roster():
    roster = Roster({name: bytes.fromhex(public(number)) for number, name in enumerate(("a", "b", "c"), 1)})
    assert KeyCard.make("grocers", "b", NODE, key(2)).fingerprint == roster.fingerprint("b")


def test_a_key_card_is_good_as_it_is_and_with_nothing_changed():
    card = KeyCard.make("grocers", "corner", NODE + "\n", key(1), previous=key(2))
    KeyCard.from_json(card.to_json(), "x").check()
    assert (card.node, card.previous) == (NODE, public(2))
    changes = {
        "league": "bakers",
        "shop": "north",
        "node": "ecdsa-sha2-nistp384 BBBB",
        "key": public(3),
        "previous": public(3),
        "signature": "0" * 128,
        "endorsement": "0" * 128,
    }
    for field, value in changes.items():
        forged = KeyCard.from_json(json.dumps(json.loads(card.to_json()) | {field: value}), "x")
        with pytest.raises(VerificationError, match="not signed with its own key; ask for it anew"):
            forged.check()


def test_a_key_card_without_signatures_is_none():
    card = KeyCard.make("grocers", "corner", NODE, key(1), previous=key(2))
    for field in ("signature", "endorsement"):
        with pytest.raises(VerificationError, match="not signed"):
            card.model_copy(update={field: ""}).check()


def test_nobody_endorses_by_the_signature_of_another_card_or_key():
    stolen = KeyCard.make("grocers", "corner", NODE, key(3))
    for endorsement in (
        KeyCard.make("grocers", "corner", NODE, key(1), previous=key(2)).endorsement,  # for another new key
        KeyCard.make("grocers", "corner", NODE, key(2)).signature,  # the old key's own card
        stolen.signature,
    ):
        update = {"previous": public(2), "endorsement": endorsement}
        with pytest.raises(VerificationError, match="not signed"):
            stolen.model_copy(update=update).check()
        forged = KeyCard.make("grocers", "corner", NODE, key(3), previous=key(4))
        with pytest.raises(VerificationError, match="not signed"):
            forged.model_copy(update=update).check()


def test_an_endorsement_taken_off_leaves_no_good_card():
    card = KeyCard.make("grocers", "corner", NODE, key(1), previous=key(2))
    with pytest.raises(VerificationError, match="not signed"):
        card.model_copy(update={"previous": "", "endorsement": ""}).check()


def test_a_model_card_is_good_for_its_file_and_its_signer_alone():
    card = ModelCard.from_json(model_card().signed(key(9)).to_json(), "x")
    card.check(public(9), b"weights")
    with pytest.raises(VerificationError, match="the file is another than its card names"):
        card.check(public(9), b"weights.")
    with pytest.raises(VerificationError, match="not signed by the league's coordinator"):
        card.check(public(8), b"weights")
    with pytest.raises(VerificationError, match="not signed by the league's coordinator"):
        model_card().check(public(9), b"weights")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("league", "bakers"),
        ("model", "v2"),
        ("run", "s"),
        ("plan", "{ }"),
        ("shops", [["a", "b"], ["a", "b"]]),
        ("shops", [["a"], ["b"], ["a"]]),
        ("sha256", hashlib.sha256(b"others").hexdigest()),
        ("created", "2031-01-01T00:00:00+00:00"),
    ],
)
def test_a_model_card_with_anything_changed_is_forged(field, value):
    card = model_card().signed(key(9)).model_copy(update={field: value})
    with pytest.raises(VerificationError, match="not signed"):
        card.check(public(9), b"others" if field == "sha256" else b"weights")


def test_a_signature_of_one_kind_of_document_is_none_of_another():
    notice = LeaveNotice.make("grocers", "corner", key(1))
    card = KeyCard.make("grocers", "corner", NODE, key(1))
    notice.check(card)
    with pytest.raises(VerificationError, match="not signed"):
        card.model_copy(update={"signature": notice.signature}).check()
    with pytest.raises(VerificationError, match="not signed"):
        notice.model_copy(update={"signature": card.signature}).check(card)
