import numpy as np
import pytest

from hansa.dp.ledger import Budget, Ledger
from hansa.dp.ledger.check import check, read_file
from hansa.dp.ledger.entries import Receipt
from hansa.dp.ledger.file import LedgerFile
from hansa.plan import Plan, digest_of
from hansa.records import Request
from hansa.rng import Source, seeded_generator
from hansa.schema import Histories
from hansa_client.replies import ReplyFolder
from hansa_client.rounds.payment import dearest, price
from hansa_client.rounds.training import consider, contribute
from hansa_client.shop import LocalShop

N_ITEMS = 7


def histories():
    rows = [seeded_generator(k, "row").permutation(N_ITEMS)[:3] for k in range(12)]
    offsets = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    return Histories(offsets, np.concatenate(rows).astype(np.int32), N_ITEMS)


def shop(ceiling=1e6, **changed):
    return LocalShop(
        "s", histories(), **{"ledger": Ledger(Budget(ceiling, 1e-5)), "customers": 12, **changed}
    )


def plan(rounds=3, **changed):
    about = {
        "run": "r",
        "method": "dpsgd",
        "settings": {"dimensions": 2, "gradient_rounds": rounds - 1},
        "n_items": N_ITEMS,
        "dp": "local",
        "noise_scale": 1.0,
        "delta": 1e-5,
        "shops": 1,
        "customers": 50,
    }
    return Plan(**{**about, **changed})


def state_of(the_plan, seed=0):
    return the_plan.learner.initial_state(seeded_generator(seed))


def ask(the_shop, the_plan, round_, seed=0, message=""):
    return contribute(the_shop, Request(the_plan.run, round_, "", state_of(the_plan, seed), message=message))


def accepted(the_shop, the_plan):
    assert consider(the_shop, Request(the_plan.run, 0, the_plan.model_dump_json(), {})).accepted
    return the_shop, the_plan


def charges(the_shop):
    return [draft.body for draft in the_shop.ledger.entries() if draft.kind == "charge"]


def test_what_was_sent_is_sent_again_byte_for_byte_and_costs_nothing(tmp_path):
    the_shop, the_plan = accepted(shop(replies=ReplyFolder(tmp_path), repeats=5), plan())
    first = ask(the_shop, the_plan, 1)
    again = ask(
        shop(replies=ReplyFolder(tmp_path), ledger=the_shop.ledger, plans=the_shop.plans), the_plan, 1
    )
    assert again.release.tobytes() == first.release.tobytes()
    assert len(charges(the_shop)) == 1
    assert not list(tmp_path.glob("*.draft"))


def test_another_state_for_an_answered_round_is_refused(tmp_path):
    the_shop, the_plan = accepted(shop(replies=ReplyFolder(tmp_path), repeats=5), plan())
    assert ask(the_shop, the_plan, 2).accepted
    answer = ask(the_shop, the_plan, 2, seed=1)
    assert (answer.accepted, answer.release) == (False, None)
    assert answer.reason == "the round was answered for another plan or state"
    assert len(charges(the_shop)) == 1


def test_a_lost_round_is_a_plan_of_its_own_with_fresh_noise_and_shows_in_the_ledger():
    the_shop, the_plan = accepted(shop(repeats=1), plan())
    before = the_shop.ledger.spent()
    first, again = ask(the_shop, the_plan, 1), ask(the_shop, the_plan, 1)
    assert again.accepted
    assert not np.array_equal(first.release, again.release)
    assert the_shop.ledger.spent() > before
    known = the_shop.ledger.reservations
    assert {run: reserved.charged for run, reserved in known.items()} == {"r": 1, "r again 1: round 1": 1}
    reserved = [draft.body for draft in the_shop.ledger.entries() if draft.kind == "reserve"][1]
    assert (reserved["again"], reserved["round"], reserved["plan"]) == ("r", 1, the_plan.digest)
    assert ask(the_shop, the_plan, 2).accepted  # and the plan goes on
    assert the_shop.ledger.reservations["r"].charged == 2


def test_lost_rounds_are_paid_as_often_as_the_shop_allows_and_no_more():
    the_shop, the_plan = accepted(shop(repeats=2), plan())
    assert [ask(the_shop, the_plan, 1).accepted for _ in range(4)] == [True, True, True, False]
    assert ask(the_shop, the_plan, 1).reason == "round 1 was paid for and is not paid again"
    assert len(charges(the_shop)) == 3


def test_a_lost_round_that_does_not_fit_the_ceiling_is_refused():
    the_plan = plan()
    needed = LocalShop("s", histories(), Ledger(Budget(1e6, 1e-5)), 12)
    accepted(needed, the_plan)
    the_shop, _ = accepted(shop(ceiling=needed.ledger.spent() * 1.0001, repeats=3), the_plan)
    assert ask(the_shop, the_plan, 1).accepted
    answer = ask(the_shop, the_plan, 1)
    assert not answer.accepted
    assert answer.reason == "round 1 is lost and does not fit the shop's budget again"
    assert ask(the_shop, the_plan, 2).accepted


def test_a_plan_with_its_repeats_stays_within_what_one_plan_may_cost():
    the_plan, delta = plan(), 1e-5
    once, twice = dearest(the_plan, 1, delta), dearest(the_plan, 2, delta)
    assert price(the_plan.steps, delta) < once < twice
    for most, answers in (
        (once - 0.01, [True, False, False]),
        (once, [True, True, False]),
        (twice, [True] * 3),
    ):
        the_shop, _ = accepted(shop(repeats=5, most=most), the_plan)
        assert [ask(the_shop, the_plan, 2).accepted for _ in range(3)] == answers
        reserved = list(the_shop.ledger.reservations.values())
        paid = price(tuple(event for each in reserved for event in each.releases), delta)
        assert paid <= most + 1e-6
        assert paid == pytest.approx(price(the_plan.steps, delta) if most < once else min(most, twice))
    the_shop, _ = accepted(shop(repeats=5, most=once - 0.01), the_plan)
    assert ask(the_shop, the_plan, 2).accepted
    answer = ask(the_shop, the_plan, 2)
    assert answer.reason == "round 2 is lost and would cost more than the shop allows one plan"
    assert ask(the_shop, the_plan, 3).accepted  # and the plan goes on


def test_a_reservation_that_was_cut_short_before_its_charge_is_used_up_first():
    the_shop, the_plan = accepted(shop(repeats=1), plan())
    ask(the_shop, the_plan, 1)
    the_shop.ledger.reserve("r again 1: round 1", (the_plan.releases[0].event,), {"plan": the_plan.digest})
    assert ask(the_shop, the_plan, 1).accepted
    assert the_shop.ledger.reservations["r again 1: round 1"].charged == 1
    assert len(the_shop.ledger.reservations) == 2


def test_the_charge_names_the_message_and_the_answer_has_the_ledgers_word(tmp_path):
    ledger = LedgerFile(tmp_path / "s.sqlite", Budget(1e6, 1e-5), name="s")
    the_shop, the_plan = accepted(shop(ledger=ledger, repeats=1), plan())
    for round_, message in ((1, "m1"), (1, "m2"), (2, "m3")):
        answer = ask(the_shop, the_plan, round_, message=message)
        held = Receipt.from_json(answer.receipt)
        rows, problems = read_file(tmp_path / "s.sqlite")
        assert problems == []
        assert (held.sequence, held.hash) == (len(rows), rows[-1].hash)
        assert check(rows, receipt=held) == []
    assert [body["message"] for body in charges(the_shop)] == ["m1", "m2", "m3"]


@pytest.mark.parametrize("damage", [b"", b"no reply", b"\xff" * 64])
def test_a_reply_that_a_crash_cut_short_never_left_and_is_not_sent(tmp_path, damage):
    the_plan = plan()
    replies = ReplyFolder(tmp_path)
    about = "r", 1, the_plan.digest, digest_of(state_of(the_plan))
    replies.keep(*about, np.ones((2, 2), dtype=np.float32))
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o077 == 0
    file.write_bytes(damage)
    assert replies.find(*about) is None


def test_only_the_newest_round_of_the_newest_runs_is_kept(tmp_path):
    replies, table = ReplyFolder(tmp_path), np.ones((2, 2), dtype=np.float32)
    for run in "abcd":
        for round_ in (1, 2):
            replies.keep(run, round_, "p", "s", table)
    assert [replies.find(run, 2, "p", "s") is not None for run in "abcd"] == [False, True, True, True]
    assert replies.find("d", 1, "p", "s") is None


def test_a_reply_that_the_disk_does_not_take_does_not_leave(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    the_shop, the_plan = accepted(shop(replies=ReplyFolder(blocked)), plan())
    answer = ask(the_shop, the_plan, 1)
    assert (answer.accepted, answer.release, answer.reason) == (False, None, "the shop's disk failed")


def test_under_distributed_noise_nothing_is_kept_and_a_repetition_is_paid(tmp_path):
    settings = {"vocabulary": 5, "regularisation": 1.0}
    shared = {
        "method": "cooccurrence",
        "settings": settings,
        "dp": "distributed",
        "masked": False,
        "shops": 4,
        "threshold": 3,
        "colluders": 1,
        "noise_scale": 5.0,
    }
    the_shop = shop(
        allowed=("distributed",), unmasked=True, replies=ReplyFolder(tmp_path / "replies"), repeats=1
    )
    the_plan = plan(**shared)
    accepted(the_shop, the_plan)
    first, again = ask(the_shop, the_plan, 1), ask(the_shop, the_plan, 1)
    assert first.accepted
    assert again.accepted
    assert first.residues != again.residues
    assert len(charges(the_shop)) == 2
    assert not (tmp_path / "replies").exists()


def test_noise_of_a_repetition_is_the_systems_own():
    assert shop().noise == Source()
