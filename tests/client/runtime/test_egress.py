from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord

from hansa.dp.ledger.file import LedgerFile
from hansa.errors import UsageError
from hansa.plan import digest_of, make_plan
from hansa.records import Answer, Request, answer_to_content, exact_answer
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa.secagg.masks import packed_size
from hansa.secagg.messages import Advert, Upload
from hansa_client.replies import ReplyFolder
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


@pytest.fixture
def shop(shop_home):
    rows = np.arange(40, dtype=np.int32) % 12
    histories = Histories(np.arange(41, dtype=np.int64), rows, 12)
    found = LocalShop(
        "s1", histories, LedgerFile(shop_home.ledger), 50, replies=ReplyFolder(shop_home.replies)
    )
    assert consider(found, Request("r", 0, PLAN.model_dump_json(), {})).accepted
    return found


def request(round_=1, message="m1"):
    return Request("r", round_, "", PLAN.learner.initial_state(seeded_generator(0)), {}, message)


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
    check(shop, upload(), asked, since, **given)
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
