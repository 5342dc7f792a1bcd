import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from hansa.dp.accounting import epsilon
from hansa.dp.clipping import ROUNDING_SLACK
from hansa.dp.ledger import Budget, Ledger
from hansa.dp.ledger.file import LedgerFile
from hansa.plan import Plan
from hansa.records import Request, message_to_answer, request_to_content
from hansa.rng import Source, seeded_generator
from hansa.schema import Histories
from hansa_client.app import app
from hansa_client.replies import ReplyFolder
from hansa_client.rounds.training import consider, contribute
from hansa_client.runtime.egress import check_answer
from hansa_client.shop import LocalShop, provide_shops

N_ITEMS = 15
ALL = ("local", "central", "none")
SAID = {"accepted": True, "reason": "", "receipt": "", "statement": ""}


def histories(customers=40):
    rows = [seeded_generator(k, "row").permutation(N_ITEMS)[: k % 6] for k in range(customers)]
    offsets = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    return Histories(offsets, np.concatenate(rows).astype(np.int32), N_ITEMS)


def shop(allowed=("local",), ceiling=1e6, seed=0, delta=1e-5, **changed):
    return LocalShop(
        "s",
        **{"histories": histories(), "ledger": Ledger(Budget(ceiling, delta)), **changed},
        customers=50,
        allowed=allowed,
        noise=Source(seed, ("noise",)),
        coins=Source(seed, ("coins",)),
    )


def plan(**changed):
    return Plan(
        **{
            "run": "r",
            "method": "dpsgd",
            "settings": {"dimensions": 3, "gradient_rounds": 2},
            "n_items": N_ITEMS,
            "dp": "local",
            "noise_scale": 1.0,
            "delta": 1e-5,
            "shops": 1,
            "customers": 50,
            **changed,
        }
    )


def ask(the_shop, the_plan):
    return consider(the_shop, Request(the_plan.run, 0, the_plan.model_dump_json(), {}))


def state_of(the_plan):
    return the_plan.learner.initial_state(seeded_generator(0))


def release(the_shop, the_plan, round_):
    return contribute(the_shop, Request(the_plan.run, round_, "", state_of(the_plan)))


def charged(the_shop):
    return the_shop.ledger.reservations["r"].charged


def test_an_accepted_plan_is_reserved_in_full_and_released_round_by_round():
    the_shop, the_plan = shop(), plan()
    assert ask(the_shop, the_plan).accepted
    assert the_shop.ledger.spent() == epsilon(the_plan.event(), 1e-5)
    for round_, expected in enumerate(the_plan.releases, start=1):
        answer = release(the_shop, the_plan, round_)
        assert answer.accepted
        assert answer.reason == ""
        assert answer.release.shape == (expected.rows, expected.width)
        assert answer.release.dtype == np.float32
        assert charged(the_shop) == round_


@pytest.mark.parametrize("dp", ["central", "none"])
def test_shops_refuse_bare_sums_unless_told_otherwise(dp):
    the_plan = plan(dp=dp)
    the_shop = shop(LocalShop("s", histories(), Ledger(Budget(1, 1e-5)), 1).allowed)
    answer = ask(the_shop, the_plan)
    assert not answer.accepted
    assert answer.reason == f"the shop does not take part in DP model {dp!r}"
    assert not release(the_shop, the_plan, 1).accepted
    assert the_shop.ledger.reservations == {}
    assert ask(shop(ALL), the_plan).accepted


@pytest.mark.parametrize("noise_scale", [0.0, 1e-300, 1e-9, 0.01])
def test_a_plan_above_the_ceiling_is_refused(noise_scale):
    the_shop, the_plan = shop(ceiling=4.0), plan(noise_scale=noise_scale)
    answer = ask(the_shop, the_plan)
    assert not answer.accepted
    assert answer.reason == "the plan does not fit the shop's budget"
    assert "the ceiling is 4 at delta 1e-05" in the_shop.ledger.why_not("r", the_plan.steps)
    assert release(the_shop, the_plan, 1).release is None


@pytest.mark.parametrize("body", ["", "{}", "not json", plan().model_dump_json().replace("dpsgd", "svd")])
def test_malformed_plans_are_typed_refusals(body):
    answer = consider(shop(), Request("r", 0, body, {}))
    assert not answer.accepted
    assert answer.reason


def test_several_bare_steps_in_a_round_are_refused():
    answer = ask(shop(ALL), plan(dp="central", settings={"local_steps": 2}))
    assert not answer.accepted
    assert "central takes one step a round" in answer.reason


def test_a_plan_under_another_name_than_the_requests_is_refused():
    answer = consider(shop(), Request("other", 0, plan().model_dump_json(), {}))
    assert not answer.accepted
    assert "name differs" in answer.reason


def test_a_second_plan_under_the_same_name_is_refused_and_the_first_goes_on():
    the_shop, the_plan = shop(), plan()
    assert ask(the_shop, the_plan).accepted
    answer = ask(the_shop, plan(noise_scale=0.9))
    assert not answer.accepted
    assert "the plan differs" in answer.reason
    assert the_shop.plans["r"] == the_plan
    assert release(the_shop, the_plan, 1).accepted


@pytest.mark.parametrize("round_", [0, -1, 4, 10**9])
def test_rounds_outside_the_plan_are_refused_and_not_charged(round_):
    the_shop, the_plan = shop(), plan()
    ask(the_shop, the_plan)
    answer = release(the_shop, the_plan, round_)
    assert not answer.accepted
    assert answer.release is None
    assert charged(the_shop) == 0


def test_an_unknown_run_is_refused():
    assert (
        contribute(shop(), Request("r", 1, "", state_of(plan()))).reason
        == "no such round in an accepted plan"
    )


def test_no_round_is_released_twice_or_out_of_order():
    the_shop, the_plan = shop(), plan()
    ask(the_shop, the_plan)
    assert release(the_shop, the_plan, 1).accepted
    assert not release(the_shop, the_plan, 1).accepted
    assert release(the_shop, the_plan, 2).accepted
    assert release(the_shop, the_plan, 3).accepted
    for round_ in (1, 2, 3):
        assert not release(the_shop, the_plan, round_).accepted
    assert charged(the_shop) == 3


def test_a_release_that_is_sent_again_comes_with_the_ledgers_word_and_may_leave(tmp_path):
    ledger = LedgerFile(tmp_path / "ledger.sqlite", Budget(1e6, 1e-5))
    the_shop, the_plan = shop(ledger=ledger, replies=ReplyFolder(tmp_path / "replies")), plan()
    assert ask(the_shop, the_plan).accepted
    asked = Request(the_plan.run, 1, "", state_of(the_plan))
    first, entries = contribute(the_shop, asked), len(ledger.entries())
    ledger.approve("0" * 64, ["north"])  # the ledger has gone on meanwhile
    again = contribute(the_shop, asked)
    assert again.release.tobytes() == first.release.tobytes()
    assert again.receipt == ledger.receipt().to_json() != first.receipt
    check_answer("train.release", again, asked, the_plan, the_shop, entries + 1, first.release)


def test_missed_rounds_stay_paid_for():
    the_shop, the_plan = shop(), plan()
    ask(the_shop, the_plan)
    assert release(the_shop, the_plan, 2).accepted
    assert charged(the_shop) == 2
    assert not release(the_shop, the_plan, 1).accepted
    assert the_shop.ledger.spent() == epsilon(the_plan.event(), 1e-5)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"items": np.zeros((N_ITEMS, 3), dtype=np.float32)},
        {"items": np.zeros((N_ITEMS + 1, 4), dtype=np.float32)},
        {"other": np.zeros((N_ITEMS, 4), dtype=np.float32)},
        {"items": np.zeros((N_ITEMS, 4), dtype=np.float32), "more": np.zeros((1, 1), dtype=np.float32)},
    ],
)
def test_states_of_another_shape_are_refused_and_not_charged(state):
    the_shop, the_plan = shop(), plan()
    ask(the_shop, the_plan)
    answer = contribute(the_shop, Request("r", 1, "", state))
    assert answer.reason == "the public state does not have the plan's shape"
    assert charged(the_shop) == 0


def test_local_releases_are_noisy_and_central_ones_are_not():
    bare, noisy = [], []
    for dp, sums in (("central", bare), ("local", noisy)):
        the_shop, the_plan = shop(ALL), plan(dp=dp)
        ask(the_shop, the_plan)
        sums += [release(the_shop, the_plan, round_).release for round_ in (1, 2, 3)]
    for exact, other, stated in zip(bare, noisy, plan().releases, strict=True):
        deviation = float((other - exact).std())
        assert deviation == pytest.approx(stated.noise_multiplier * stated.bound, rel=0.5)
    assert (np.delete(noisy[1] - bare[1], 0) != np.delete(noisy[2] - bare[2], 0)).all()


def test_without_a_seed_noise_is_fresh_every_time():
    the_plan, sums = plan(), set()
    for _ in range(5):
        the_shop = shop(seed=None)
        ask(the_shop, the_plan)
        sums.add(release(the_shop, the_plan, 1).release.tobytes())
    assert len(sums) == 5


LOCAL = {"dimensions": 3, "gradient_rounds": 1, "local_steps": 4, "local_rate": 0.5}


def test_several_local_steps_are_charged_one_by_one():
    the_shop, the_plan = shop(), plan(settings=LOCAL)
    ask(the_shop, the_plan)
    assert len(the_shop.ledger.reservations["r"].releases) == 5
    release(the_shop, the_plan, 1)
    assert charged(the_shop) == 1
    assert release(the_shop, the_plan, 2).accepted
    assert charged(the_shop) == 5
    assert not release(the_shop, the_plan, 2).accepted


def test_local_steps_walk_down_the_declared_mean_and_answer_with_the_whole_way():
    """Without noise the way is the sum of the steps' sums, each at the table the last one led to."""
    the_shop, the_plan = shop(ALL), plan(dp="none", settings=LOCAL)
    ask(the_shop, the_plan)
    way = release(the_shop, the_plan, 2).release
    single = plan(run="one", dp="none", settings={**LOCAL, "local_steps": 1})
    ask(the_shop, single)
    state, total = state_of(single), 0.0
    for _ in range(4):
        answer = contribute(the_shop, Request("one", 2, "", state))
        total = total + 0.5 * answer.release
        state = {"items": state["items"] - np.float32(0.5 / 50) * answer.release}
    np.testing.assert_allclose(way, total, atol=1e-3)
    first = release(the_shop, single, 2).release
    assert np.abs(way - 4 * 0.5 * first).max() > 0.01  # a control: not four steps at the start


def test_sampling_is_charged_with_its_amplification_and_an_empty_batch_is_charged():
    sampled = {"dimensions": 3, "gradient_rounds": 2, "sampling_rate": 1e-9}
    the_shop, the_plan = shop(ALL), plan(dp="local", settings=sampled, noise_scale=1e9)
    assert ask(the_shop, the_plan).accepted
    events = the_shop.ledger.reservations["r"].releases
    assert [event.event.sampling_probability for event in events[1:]] == [1e-9, 1e-9]
    release(the_shop, the_plan, 1)
    answer = release(the_shop, the_plan, 2)
    assert charged(the_shop) == 2
    assert (answer.release != 0).all()  # nobody was sampled: all of it is noise


def test_amplification_lets_more_fit_under_a_ceiling():
    once = {"dimensions": 3, "gradient_rounds": 1, "sampling_rate": 0.1}
    sampled = plan(settings=once, noise_scale=12.0)
    cost = epsilon(sampled.event(), 1e-5)
    assert ask(shop(ceiling=cost), sampled).accepted
    # The same noise without sampling would not fit: the rate is part of what was charged.
    whole = plan(settings={**once, "sampling_rate": 1.0}, noise_scale=1.2)
    assert whole.releases[1].noise_multiplier == pytest.approx(sampled.releases[1].noise_multiplier)
    assert not ask(shop(ceiling=cost), whole).accepted


def test_poisson_batches_change_and_clip_to_the_bound():
    settings = {"dimensions": 3, "gradient_rounds": 2, "sampling_rate": 0.5}
    the_shop, the_plan = shop(ALL), plan(dp="central", settings=settings)
    ask(the_shop, the_plan)
    _, first, second = (release(the_shop, the_plan, round_).release for round_ in (1, 2, 3))
    assert np.abs(first - second).max() > 0
    one = shop(ALL, histories=histories().select(np.array([5])))
    ask(one, plan(dp="central"))
    release(one, plan(dp="central"), 1)
    norm = np.linalg.norm(release(one, plan(dp="central"), 2).release.astype(np.float64))
    assert norm == pytest.approx(1 - ROUNDING_SLACK, abs=1e-6)


# The app: what travels.


@pytest.fixture
def send():
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    the_shop = shop(ALL)
    provide_shops(lambda config: the_shop)
    context = Context(1, 1, {}, RecordDict(), {})
    yield lambda content, kind: app(Message(content, 1, kind), context)
    provide_shops(None)


def test_replies_contain_the_answer_and_the_release_and_nothing_else(send):
    the_plan = plan(dp="none")
    reply = send(request_to_content(Request("r", 0, the_plan.model_dump_json(), {})), "query.plan")
    assert set(reply.content) == {"answer"}
    assert dict(reply.content["answer"]) == SAID
    reply = send(request_to_content(Request("r", 1, "", state_of(the_plan))), "train.release")
    assert set(reply.content) == {"answer", "release"}
    assert dict(reply.content["answer"]) == SAID
    assert set(reply.content["release"]) == {"release"}
    table = reply.content["release"]["release"].numpy()
    assert (table.shape, table.dtype) == ((N_ITEMS, 1), np.float32)
    refusal = send(request_to_content(Request("r", 99, "", state_of(the_plan))), "train.release")
    assert set(refusal.content) == {"answer"}
    assert message_to_answer(refusal).reason == "no such round in an accepted plan"


def bad_state(table):
    content = request_to_content(Request("r", 1, "", {}))
    content["state"] = ArrayRecord({"items": Array.from_numpy_ndarray(table)})
    return content


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"config": ConfigRecord({"version": 9}), "state": ArrayRecord({})}),
        bad_state(np.zeros((N_ITEMS, 4))),
        bad_state(np.full((N_ITEMS, 4), np.nan, dtype=np.float32)),
    ],
)
@pytest.mark.parametrize("kind", ["query.plan", "train.release"])
def test_malformed_requests_get_typed_answers(send, content, kind):
    answer = message_to_answer(send(content, kind))
    assert not answer.accepted
    assert answer.reason.startswith(("request:", "state "))


def test_what_goes_wrong_at_a_shop_leaves_as_one_fixed_line(monkeypatch):
    """Flower would send an exception's text, which may name what a customer has bought."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    the_shop, the_plan = shop(), plan()
    assert ask(the_shop, the_plan).accepted

    def fails(*_):
        raise IndexError("index 250 is out of bounds")

    monkeypatch.setattr("hansa_client.rounds.training._release", fails)
    provide_shops(lambda config: the_shop)
    try:
        content = request_to_content(Request("r", 1, "", state_of(the_plan)))
        reply = app(Message(content, 1, "train.release"), Context(1, 1, {}, RecordDict(), {}))
    finally:
        provide_shops(None)
    answer = message_to_answer(reply)
    assert (answer.accepted, answer.reason) == (False, "the shop could not answer")


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("dpsgd", {"cap": 3001}, "cap must be at most 3,000"),
        ("dpsgd", {"dimensions": 513}, "dimensions must be at most 512"),
        ("popularity", {"cap": 3001}, "cap must be at most 3,000"),
        ("subspace", {"dimensions": 1025}, "dimensions must lie between 1 and 1,024"),
    ],
)
def test_no_plan_may_ask_for_more_than_a_shops_memory_holds(method, settings, said):
    answer = ask(shop(), plan(method=method, settings=settings))
    assert not answer.accepted
    assert said in answer.reason
