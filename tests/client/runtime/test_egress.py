from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord

from hansa.dp.ledger.check import check as findings
from hansa.dp.ledger.check import read_file
from hansa.dp.ledger.entries import public_hex
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import UsageError
from hansa.plan import digest_of, make_plan
from hansa.records import Answer, Request, answer_to_content, exact_answer
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa.secagg.masks import packed_size
from hansa.secagg.messages import Advert, Upload
from hansa.transparency import Head, LogHead, ReleaseReceipt, endorse
from hansa_client.replies import ReplyFolder
from hansa_client.rounds.statement import statement
from hansa_client.rounds.training import consider, contribute
from hansa_client.runtime.egress import BlockedError, check_answer
from hansa_client.shop import LocalShop

PLAN = make_plan(
    run="r", method="dpsgd", settings={"dimensions": 3, "gradient_rounds": 2}, n_items=12, dp="local",
    epsilon=1.0, delta=1e-5, shops=1, customers=50,
)  # fmt: skip
MASKED = make_plan(
    run="m", method="popularity", settings={}, n_items=12, dp="distributed", epsilon=1.0, delta=1e-5, shops=4,
    customers=50, roster="a" * 64,
)  # fmt: skip
KEY, SIGNER = (Ed25519PrivateKey.generate() for _ in range(2))


@pytest.fixture
def shop(shop_home):
    rows = np.arange(40, dtype=np.int32) % 12
    histories = Histories(np.arange(41, dtype=np.int64), rows, 12)
    found = LocalShop(
        "s1", histories, LedgerFile(shop_home.ledger), 50, replies=ReplyFolder(shop_home.replies), key=KEY,
        signer=public_hex(SIGNER), coordinator="grocers",
    )  # fmt: skip
    assert consider(found, Request("r", 0, PLAN.model_dump_json(), {})).accepted
    return found


def request(round_=1, message="m1", head=None):
    head = LogHead.make("grocers", 3, "d" * 64, SIGNER).to_json() if head is None else head
    return Request("r", round_, "", PLAN.learner.initial_state(seeded_generator(0)), {}, message, head)


@pytest.fixture
def released(shop):
    """The shop's honest answer to round 1, what was asked, and the ledger's length before."""
    since = len(shop.ledger.entries())
    return contribute(shop, request()), request(), since


def check(shop, answer, asked, since, kind="train.release", plan=PLAN, sent=None):
    check_answer(kind, answer, asked, plan, shop, since, sent)


def blocked(shop, answer, asked, since, **given):
    with pytest.raises(BlockedError, match=r"^egress blocked: ") as caught:
        check(shop, answer, asked, since, **given)
    return str(caught.value).removeprefix("egress blocked: ")


def test_a_charged_release_leaves(shop, released):
    check(shop, *released)


def test_a_charge_is_used_once(shop, released):
    answer, asked, _ = released
    now = len(shop.ledger.entries())
    other = replace(answer, release=answer.release + 1)
    assert blocked(shop, other, asked, now) == "the ledger has no charge for this release"


def test_what_was_sent_before_is_sent_again_bit_by_bit(shop, released):
    answer, asked, since = released
    now, sent = len(shop.ledger.entries()), answer.release.copy()
    again = replace(asked, message="m2")
    check(shop, contribute(shop, again), again, now, sent=sent)
    assert blocked(shop, answer, asked, since, sent=sent) == "not what was sent for this round before"
    answer.release[0, 0] = np.nextafter(answer.release[0, 0], np.float32(np.inf))
    assert blocked(shop, answer, again, now, sent=sent) == "not what was sent for this round before"


def test_what_lies_in_the_folder_of_replies_by_now_is_no_charge(shop, released):
    answer, asked, _ = released
    about = "r", 1, PLAN.digest, digest_of(asked.state)
    assert np.array_equal(shop.replies.find(*about), answer.release)
    why = blocked(shop, answer, asked, len(shop.ledger.entries()))
    assert why == "the ledger has no charge for this release"


def test_a_release_on_another_messages_charge_does_not_leave(shop, released):
    answer, asked, since = released
    other = replace(asked, message="m2")
    assert blocked(shop, answer, other, since) == "the ledger was charged for another message"
    assert blocked(shop, answer, replace(asked, message=""), since)


def test_a_release_on_another_rounds_charge_does_not_leave(shop, released):
    answer, asked, since = released
    second = PLAN.releases[1]
    shape = np.zeros((second.rows, second.width), np.float32)
    given = replace(answer, release=shape), replace(asked, round=2)
    assert blocked(shop, *given, since) == "the ledger was charged for another release"


def test_a_release_on_another_runs_charge_does_not_leave(shop, released):
    answer, asked, _ = released
    since, first = len(shop.ledger.entries()), PLAN.releases[0]
    shop.ledger.reserve("other", (first.event,), {})
    shop.ledger.charge("other", first.event, {"round": 1, "release": first.name, "message": "m1"})
    given = replace(answer, receipt=""), asked, since
    assert blocked(shop, *given) == "the ledger was charged for another release"


def test_two_charges_for_one_release_do_not_leave(shop, released):
    answer, asked, since = released
    shop.ledger.charge(
        "r", PLAN.releases[1].event, {"round": 1, "release": PLAN.releases[0].name, "message": "m1"}
    )
    given = replace(answer, receipt=""), asked, since
    assert blocked(shop, *given) == "the ledger was charged for another number of steps"


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table[:-1],
        lambda table: table.T,
        lambda table: np.vstack([table, table]),
        lambda table: table.ravel(),
        lambda table: table.astype(np.float64),
    ],
)
def test_another_shape_or_type_does_not_leave(shop, released, change):
    answer, asked, since = released
    wrong = replace(answer, release=change(np.resize(answer.release, (4, 3))))
    assert blocked(shop, wrong, asked, since) == "shape or type of the release"


def test_residues_do_not_pass_for_a_release(shop, released):
    answer, asked, since = released
    assert blocked(shop, replace(answer, residues=b"x" * 12), asked, since)
    assert blocked(shop, replace(answer, release=None, residues=b"x" * 12), asked, since)
    assert blocked(shop, replace(answer, release=None), asked, since)


@pytest.mark.parametrize("kind", ["query.plan", "query.model", "query.advertise", "query.unmask"])
def test_arrays_leave_with_no_other_kind_of_answer(shop, released, kind):
    answer, asked, since = released
    assert blocked(shop, answer, asked, since, kind=kind) == "an array in an answer that has none"


def test_a_refusal_has_no_arrays_and_no_protocol(shop, released):
    answer, asked, since = released
    assert blocked(shop, replace(answer, accepted=False), asked, since)
    assert blocked(shop, Answer(False, "no", fields={"shop": "s1"}), asked, since)
    check(shop, Answer(False, "no"), asked, since)


@pytest.mark.parametrize("reason", ["x" * 201, "two\nlines", "bell\a"])
def test_reasons_are_short_and_printable(shop, reason):
    assert blocked(shop, Answer(False, reason), request(), 0) == "reason"


def test_an_accepting_answer_has_no_reason(shop, released):
    answer, asked, since = released
    assert blocked(shop, replace(answer, reason="alice bought"), asked, since) == "reason"


def test_receipts_are_the_ledgers_own(shop, released):
    answer, asked, since = released
    assert answer.receipt
    older = shop.ledger.receipt().to_json()
    for receipt in (
        "alice",
        "{}",
        answer.receipt.replace('"sequence":3', '"sequence":4'),
        answer.receipt + " ",
    ):
        assert blocked(shop, replace(answer, receipt=receipt), asked, since) == "receipt"
    shop.ledger.charge("r", PLAN.releases[1].event)
    assert blocked(shop, Answer(False, "no", receipt=older), asked, since) == "receipt"


def test_the_statement_names_the_charge_and_is_endorsed(shop, released):
    answer, *_ = released
    told = ReleaseReceipt.from_json(answer.statement)
    told.check()
    assert told.endorsed_by(KEY.public_key().public_bytes_raw())
    rows, problems = read_file(shop.ledger.path)
    assert problems == []
    assert findings(rows) == []  # heads in its entries change nothing
    charge = rows[-1].parse()
    assert (charge.kind, charge.sequence, rows[-1].hash) == ("charge", told.sequence, told.hash)
    assert (told.league, told.shop, told.run, told.round) == ("grocers", "s1", "r", 1)
    assert (told.plan, told.release, told.roster) == (PLAN.digest, PLAN.releases[0].name, "")
    assert [list(part) for part in told.events] == charge.body["event"]
    assert told.head == Head(size=3, hash="d" * 64)
    LogHead(league="grocers", **charge.body["log"]).check(public_hex(SIGNER))


def test_all_charges_of_a_round_of_several_steps_are_in_its_statement(shop):
    plan = make_plan(
        run="steps", method="dpsgd", n_items=12, dp="local", epsilon=1.0, delta=1e-5, shops=1, customers=50,
        settings={"dimensions": 3, "gradient_rounds": 2, "local_steps": 3},
    )  # fmt: skip
    assert consider(shop, Request("steps", 0, plan.model_dump_json(), {})).accepted
    since = len(shop.ledger.entries())
    number = next(n for n, release in enumerate(plan.releases, 1) if release.steps == 3)
    asked = Request("steps", number, "", plan.learner.initial_state(seeded_generator(0)), {}, "m1")
    answer = contribute(shop, asked)
    check(shop, answer, asked, since, plan=plan)
    told = ReleaseReceipt.from_json(answer.statement)
    assert told.sequence == since + 3
    assert len(told.events) == 3
    assert told.head is None
    bodies = [(number, draft.body) for number, draft in enumerate(shop.ledger.entries(), 1)]
    fewer = statement(shop, plan, number, bodies[-2:])
    assert ReleaseReceipt.from_json(fewer).sequence == told.sequence
    assert blocked(shop, replace(answer, statement=fewer), asked, since, plan=plan) == "statement"


def forged(whose, answer, **changed):
    """As if the ledger's key signed whatever it is given: the check has to see the difference."""
    told = ReleaseReceipt.from_json(answer.statement)
    values = {name: getattr(told, name) for name in ReleaseReceipt.model_fields}
    for name in ("version", "key", "signature"):
        del values[name]
    secret = bytes.fromhex(whose.ledger.path.with_suffix(".key").read_text())
    key = Ed25519PrivateKey.from_private_bytes(secret)
    return ReleaseReceipt.make(**{**values, "ledger_key": key, **changed}).to_json()


@pytest.mark.parametrize(
    "changed",
    [
        {"round": 2}, {"run": "other"}, {"plan": "a" * 64}, {"release": "other"}, {"sequence": 1},
        {"hash": "a" * 64}, {"events": [(9.0, 1.0, 1)]}, {"league": "bakers"}, {"shop": "alice"},
        {"ledger": "a" * 32}, {"roster": "a" * 64}, {"head": None}, {"head": Head(size=4, hash="d" * 64)},
        {"endorsement": ""}, {"endorsement": endorse(SIGNER, "grocers", "s1", "a" * 32, "b" * 64)},
        {"ledger_key": SIGNER},
    ],
)  # fmt: skip
def test_a_statement_of_anything_else_does_not_leave(shop, released, changed):
    answer, asked, since = released
    assert forged(shop, answer) == answer.statement
    wrong = replace(answer, statement=forged(shop, answer, **changed))
    assert blocked(shop, wrong, asked, since) == "statement"


def test_a_release_leaves_with_its_statement_only(shop, released):
    answer, asked, since = released
    for text in ("", "{}", "alice", answer.statement + " "):
        assert blocked(shop, replace(answer, statement=text), asked, since) == "statement"
    again, now = replace(asked, message="m2"), len(shop.ledger.entries())
    for text in ("", "{}"):
        wrong = replace(answer, statement=text)
        assert blocked(shop, wrong, again, now, sent=answer.release) == "statement"
    for kind in ("query.plan", "query.model", "query.unmask"):
        only = Answer(True, statement=answer.statement)
        assert blocked(shop, only, asked, since, kind=kind) == "statement"
    assert blocked(shop, Answer(False, "no", statement=answer.statement), asked, since) == "statement"


def test_what_is_sent_again_has_the_same_statement(shop, released):
    answer, asked, _ = released
    later = LogHead.make("grocers", 9, "e" * 64, SIGNER).to_json()
    again = contribute(shop, replace(asked, message="m2", head=later))
    assert again.statement == answer.statement


def heads(shop):
    return [draft.body.get("log") for draft in shop.ledger.entries() if draft.kind == "charge"]


def test_a_log_that_goes_back_or_forks_is_warned_of_and_written_down(shop, released, caplog):
    caplog.clear()
    for round_, size, word in ((2, 2, "has 2 lines and had 3"), (3, 3, "line 3 of the coordinator's log")):
        head = LogHead.make("grocers", size, "e" * 64, SIGNER).to_json()
        assert contribute(shop, request(round_, f"m{round_}", head)).accepted
        assert word in caplog.text
        caplog.clear()
        assert (heads(shop)[-1]["size"], heads(shop)[-1]["hash"]) == (size, "e" * 64)


@pytest.mark.parametrize(
    "head",
    [
        "",
        "{}",
        "[" * 10_000,
        LogHead.make("grocers", 4, "e" * 64, KEY).to_json(),
        LogHead.make("bakers", 4, "e" * 64, SIGNER).to_json(),
    ],
)
def test_a_head_that_the_coordinator_did_not_sign_is_warned_of_and_not_written_down(shop, caplog, head):
    answer = contribute(shop, request(head=head))
    assert answer.accepted
    assert "without a signed head" in caplog.text
    assert heads(shop) == [None]
    assert ReleaseReceipt.from_json(answer.statement).head is None


def advert():
    return Advert("s1", bytes(32), bytes(32), bytes(32), bytes(64)).to_fields()


def test_protocol_records_are_those_of_their_stage(shop):
    asked = Request("m", 1, "", {}, {}, "m1")
    given = {"kind": "query.advertise", "plan": MASKED}
    check(shop, Answer(True, fields=advert()), asked, 0, **given)
    for fields in (
        {},
        advert() | {"more": 1},
        advert() | {"envelope_key": bytes(33)},
        advert() | {"shop": "s1\n"},
        Upload("s1", bytes(64)).to_fields(),
    ):
        assert blocked(shop, Answer(True, fields=fields), asked, 0, **given) == "protocol record"
    why = blocked(shop, Answer(True, fields=advert()), asked, 0, kind="query.plan")
    assert why == "a protocol record in an answer that has none"


def upload(extra=0):
    release = MASKED.releases[0]
    size = packed_size(release.rows * release.width, MASKED.bits(release))
    fields = Upload("s1", bytes(64)).to_fields()
    return Answer(True, residues=bytes(size + extra), fields=fields)


def charge(shop, **about):
    release = MASKED.releases[0]
    if "m" not in shop.ledger.reservations:
        shop.ledger.reserve("m", MASKED.steps, {"plan": MASKED.digest})
    shop.ledger.charge("m", release.event, {"round": 1, "release": release.name, "message": "m1", **about})


def test_a_masked_vector_leaves_with_its_charge_only(shop):
    asked, since = Request("m", 1, "", {}, {}, "m1"), len(shop.ledger.entries())
    given = {"kind": "train.upload", "plan": MASKED}
    assert blocked(shop, upload(), asked, since, **given) == "the ledger has no charge for this release"
    charge(shop)
    own = statement(shop, MASKED, 1)
    assert ReleaseReceipt.from_json(own).roster == "a" * 64
    assert blocked(shop, upload(), asked, since, **given) == "statement"
    check(shop, replace(upload(), statement=own), asked, since, **given)
    for extra in (1, -1):
        assert blocked(shop, upload(extra), asked, since, **given) == "size of the release"
    assert blocked(shop, upload(), asked, len(shop.ledger.entries()), **given)  # never a second time


def content(shop):
    return answer_to_content(contribute(shop, request()))


def test_an_exact_answer_is_packed_as_it_is_read(shop):
    assert exact_answer(content(shop)).accepted


def test_bytes_behind_an_arrays_payload_are_found(shop):
    packed = content(shop)
    array = packed["release"]["release"]
    packed["release"]["release"] = Array(array.dtype, array.shape, array.stype, array.data + b"alice")
    with pytest.raises(UsageError, match="more than an answer"):
        exact_answer(packed)


def test_bytes_in_an_arrays_header_are_found(shop):
    packed = content(shop)
    array = packed["release"]["release"]
    other = array.data.replace(b" " * 8, b"\t" * 8, 1)
    assert other != array.data
    packed["release"]["release"] = Array(array.dtype, array.shape, array.stype, other)
    with pytest.raises(UsageError):
        exact_answer(packed)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("metrics", MetricRecord({"customers": 40})),
        ("more", ConfigRecord({"alice": "bought"})),
        ("arrays", ArrayRecord({})),
        ("answer", ConfigRecord({"accepted": True, "reason": "", "receipt": "", "customers": 40})),
        ("answer", ConfigRecord({"accepted": True, "reason": ""})),
        ("answer", ConfigRecord({"accepted": 1, "reason": "", "receipt": ""})),
    ],
)
def test_other_records_and_keys_are_found(shop, name, record):
    packed = content(shop)
    packed[name] = record
    with pytest.raises(UsageError):
        exact_answer(packed)


def test_further_arrays_are_found(shop):
    packed = content(shop)
    packed["release"]["counts"] = Array.from_numpy_ndarray(np.zeros((1, 1), np.float32))
    with pytest.raises(UsageError):
        exact_answer(packed)


def test_another_type_in_an_arrays_label_is_found(shop):
    packed = content(shop)
    array = packed["release"]["release"]
    packed["release"]["release"] = Array("float64", array.shape, array.stype, array.data)
    with pytest.raises(UsageError):
        exact_answer(packed)
