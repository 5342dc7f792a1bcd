import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.dp.ledger.entries import canonical, public_hex
from hansa.errors import VerificationError
from hansa.transparency import Head, LogHead, LogLine, ReleaseReceipt, endorse, next_line, read_lines

LEDGER_KEY, SHOP_KEY, SIGNER = (Ed25519PrivateKey.generate() for _ in range(3))
LEDGER = "a1" * 16
SKELLAM = ("skellam", 12.5, 2**70, 9, 1)
BODIES = {
    "run": {"run": "spring", "plan": "{}", "digest": "d" * 64, "roster": ""},
    "enrolled": {"run": "spring", "enrolled": ["north"], "refused": {"south": "no"}},
    "round": {
        "run": "spring", "round": 1, "attempt": 1, "release": "items", "answered": ["north"],
        "missing": {}, "receipts": {"north": "e" * 64},
    },
    "model": {"run": "spring", "model": "spring", "sha256": "f" * 64},
    "outcome": {"run": "spring", "state": "done"},
}  # fmt: skip


def receipt(**changed):
    values = {
        "league": "grocers", "shop": "north", "ledger": LEDGER, "ledger_key": LEDGER_KEY, "sequence": 7,
        "hash": "b" * 64, "run": "spring", "plan": "c" * 64, "round": 2, "release": "items",
        "events": [(4.5, 0.1, 3), SKELLAM], "roster": "d" * 64, "head": Head(size=4, hash="e" * 64),
        "endorsement": endorse(SHOP_KEY, "grocers", "north", LEDGER, public_hex(LEDGER_KEY)),
    }  # fmt: skip
    return ReleaseReceipt.make(**{**values, **changed})


def log():
    lines = []
    for kind, body in BODIES.items():
        lines += read_lines(
            [next_line(kind, body, lines[-1] if lines else None)], lines[-1] if lines else None
        )
    return lines


def test_a_receipt_reads_back_and_is_signed_and_endorsed():
    made = receipt()
    read = ReleaseReceipt.from_json(made.to_json())
    assert read == made
    read.check()
    assert read.endorsed_by(SHOP_KEY.public_key().public_bytes_raw())
    assert not read.endorsed_by(SIGNER.public_key().public_bytes_raw())
    assert [list(part) for part in read.events] == [[4.5, 0.1, 3], list(SKELLAM)]


def test_a_simulations_receipt_has_neither_endorsement_nor_head_nor_roster():
    made = receipt(endorsement="", head=None, roster="")
    ReleaseReceipt.from_json(made.to_json()).check()
    assert not made.endorsed_by(SHOP_KEY.public_key().public_bytes_raw())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("league", "bakers"), ("shop", "south"), ("ledger", "a2" * 16), ("key", public_hex(SIGNER)),
        ("sequence", 8), ("hash", "c" * 64), ("run", "autumn"), ("plan", "b" * 64), ("round", 1),
        ("release", "pairs"), ("events", [[4.5, 0.1, 2], list(SKELLAM)]), ("events", [list(SKELLAM)]),
        ("events", [list(SKELLAM), [4.5, 0.1, 3]]), ("roster", ""), ("head", None),
        ("head", {"size": 5, "hash": "e" * 64}), ("endorsement", ""), ("endorsement", "0" * 128),
        ("signature", ""), ("signature", "0" * 128),
    ],
)  # fmt: skip
def test_a_receipt_with_any_field_changed_is_not_signed(field, value):
    text = canonical({**json.loads(receipt().to_json()), field: value}).decode()
    with pytest.raises(VerificationError, match="not signed"):
        ReleaseReceipt.from_json(text).check()


@pytest.mark.parametrize("field", ["league", "shop", "ledger", "key"])
def test_an_endorsement_is_of_one_key_of_one_ledger_of_one_shop(field):
    given = {"league": "grocers", "shop": "north", "ledger": LEDGER, "key": public_hex(LEDGER_KEY)}
    other = {"league": "bakers", "shop": "south", "ledger": "a2" * 16, "key": public_hex(SIGNER)}
    given[field] = other[field]
    stolen = endorse(SHOP_KEY, given["league"], given["shop"], given["ledger"], given["key"])
    assert not receipt(endorsement=stolen).endorsed_by(SHOP_KEY.public_key().public_bytes_raw())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2), ("version", True), ("version", 1.0), ("sequence", 0), ("sequence", "7"),
        ("sequence", True), ("sequence", 7.0), ("sequence", 2**63), ("round", 0), ("hash", "B" * 64),
        ("hash", "b" * 63), ("hash", "b" * 64 + "\n"), ("key", None), ("run", ""), ("run", "a\nb"),
        ("shop", 5), ("shop", "x" * 129), ("events", []), ("events", [[4.5, 0.1]]), ("events", [[4, 1, 1]]),
        ("events", [[-1.0, 0.1, 1]]), ("events", [[1.0, 1.5, 1]]), ("events", [["gauss", 1.0, 1, 1, 1]]),
        ("events", "none"), ("roster", None), ("head", {}), ("head", {"size": 0, "hash": "e" * 64}),
        ("head", {"size": 1, "hash": "e" * 64, "more": 1}), ("endorsement", "00"), ("more", 1),
    ],
)  # fmt: skip
def test_what_is_not_of_a_receipts_form_is_refused(field, value):
    text = canonical({**json.loads(receipt().to_json()), field: value}).decode()
    with pytest.raises(VerificationError, match="ReleaseReceipt"):
        ReleaseReceipt.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: " " + text,
        lambda text: text + "\n",
        lambda text: text.replace(":", ": ", 1),
        lambda text: text.replace("{", '{"shop":"north",', 1),
        lambda text: text.replace('"north"', '"\\u006eorth"'),
        lambda text: text.replace("4.5", "4.50"),
        lambda text: text.replace("4.5", "NaN"),
        lambda text: text.replace("4.5", "1e999"),
        lambda text: text[:-1],
        lambda text: "[" * 100_000,
        lambda text: "null",
        lambda text: text.replace("items", "x" * 2**20),
    ],
)
def test_another_spelling_is_refused(change):
    with pytest.raises(VerificationError):
        ReleaseReceipt.from_json(change(receipt().to_json()))


def test_every_byte_of_a_receipt_counts():
    text = receipt().to_json()
    for place in range(len(text)):
        for other in {chr(ord(text[place]) ^ 1), "0"} - {text[place]}:
            with pytest.raises(VerificationError):
                ReleaseReceipt.from_json(text[:place] + other + text[place + 1 :]).check()


@pytest.mark.parametrize(
    ("field", "value"),
    [("league", "bakers"), ("size", 4), ("hash", "b" * 64), ("signature", "0" * 128)],
)
def test_a_head_with_any_field_changed_is_not_signed(field, value):
    made, signer = LogHead.make("grocers", 3, "a" * 64, SIGNER), public_hex(SIGNER)
    LogHead.from_json(made.to_json()).check(signer)
    with pytest.raises(VerificationError, match="not signed"):
        made.check(public_hex(SHOP_KEY))
    text = canonical({**json.loads(made.to_json()), field: value}).decode()
    with pytest.raises(VerificationError, match="not signed"):
        LogHead.from_json(text).check(signer)


def test_a_log_reads_back_line_by_line():
    lines = log()
    assert read_lines(line.text for line in lines) == lines
    assert read_lines([line.text for line in lines[2:]], lines[1]) == lines[2:]
    assert lines[-1].head == Head(size=len(BODIES), hash=lines[-1].hash)
    assert read_lines([]) == []


@pytest.mark.parametrize("number", range(1, len(BODIES) + 1))
def test_a_line_that_was_changed_breaks_the_chain_there_or_at_the_next(number):
    texts = [line.text for line in log()]
    texts[number - 1] = texts[number - 1].replace('"spring"', '"autumn"')
    read = len(texts) if number == len(texts) else None
    if read:
        assert read_lines(texts)[-1].hash != log()[-1].hash  # only a signed head can tell
        return
    with pytest.raises(VerificationError, match=f"line {number + 1} of the log: it does not follow"):
        read_lines(texts)


def test_a_line_that_is_missing_or_twice_or_elsewhere_is_found():
    texts = [line.text for line in log()]
    for wrong, number in (
        (texts[1:], 1),
        (texts[:2] + texts[3:], 3),
        (texts[:2] + texts[1:], 3),
        ([texts[1], texts[0]], 1),
    ):
        with pytest.raises(VerificationError, match=f"line {number} of the log"):
            read_lines(wrong)


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_has_all_that_its_kind_has_and_no_more(kind):
    body = BODIES[kind]
    for wrong in (
        {**body, "more": ""},
        {name: body[name] for name in list(body)[1:]},
        *({**body, name: None} for name in body),
        *({**body, name: True} for name in body),
        *({**body, name: [1]} for name, value in body.items() if isinstance(value, list)),
        *({**body, name: {"north": 1}} for name, value in body.items() if isinstance(value, dict)),
    ):
        with pytest.raises(ValueError, match="body"):
            next_line(kind, wrong, None)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "other"}, {"kind": 1}, {"sequence": True}, {"sequence": 1.0}, {"sequence": "1"},
        {"time": 1}, {"code": None}, {"more": 1}, {"body": []}, {"previous": "0" * 63}, {"previous": None},
    ],
)  # fmt: skip
def test_what_is_not_of_a_lines_form_is_refused(change):
    line = json.loads(next_line("run", BODIES["run"], None))
    with pytest.raises(VerificationError, match="line 1 of the log"):
        read_lines([canonical({**line, **change}).decode()])
    with pytest.raises(VerificationError, match="canonical"):
        read_lines([json.dumps(line)])
    assert isinstance(read_lines([canonical(line).decode()])[0], LogLine)
