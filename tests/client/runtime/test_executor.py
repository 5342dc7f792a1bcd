import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message
from flwr.supercore.task_identity import TaskIdentity
from polars.exceptions import PanicException

from hansa.dp.ledger.file import LedgerFile
from hansa.plan import digest_of, make_plan
from hansa.records import Answer, Request, answer_to_content, request_to_content
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa_client.replies import ReplyFolder
from hansa_client.runtime import processes
from hansa_client.runtime.executor import Executor
from hansa_client.runtime.flower import CLIENT_APP, Task
from hansa_client.shop import LocalShop, find_shop

BUNDLE = "ab" * 32
PLAN = make_plan(
    run="r", method="dpsgd", settings={"dimensions": 3, "gradient_rounds": 2}, n_items=12, dp="local",
    epsilon=1.0, delta=1e-5, shops=1, customers=50,
)  # fmt: skip

MODULE = "hansa_client.runtime.executor"


class Node:
    """Hands out tasks and takes replies, on a clock that only this test moves."""

    def __init__(self, tasks):
        self.tasks, self.replies, self.now = list(tasks), [], 100.0

    @contextmanager
    def next(self):
        yield self if self.tasks else None

    def pull(self, most):
        return self.tasks.pop(0)

    def reply(self, task, content):
        self.replies.append((self.now, content))

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def executor(shop_home):
    shop_home.settings.write_text(shop_home.settings.read_text().replace("= []", f'= ["{BUNDLE}"]'))
    shop_home.state.mkdir()
    histories = Histories(np.arange(41, dtype=np.int64), np.arange(40, dtype=np.int32) % 12, 12)
    shop = LocalShop(
        "s1", histories, LedgerFile(shop_home.ledger), 50, replies=ReplyFolder(shop_home.replies)
    )
    return Executor(shop_home, lambda config: shop)


def task(request=None, asks="query.plan", **changed):
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    request = request or Request("r", 0, PLAN.model_dump_json(), {})
    message = Message(request_to_content(request), 1, asks)
    message.metadata.__dict__["_message_id"] = f"{asks} {request.round}"
    config = {"plan": PLAN.model_dump_json(), "model": ""}
    return Task(**{"kind": CLIENT_APP, "bundle": BUNDLE, "run": 1, "run_config": config, "message": message,
                   "whole": True, **changed})  # fmt: skip


def release(round_=1):
    return task(Request("r", round_, "", PLAN.learner.initial_state(seeded_generator(0))), "train.release")


def test_an_approved_run_is_answered(executor):
    assert executor.answer(task()).accepted
    answer = executor.answer(release())
    assert answer.release.shape == (PLAN.releases[0].rows, PLAN.releases[0].width)
    (charge,) = [draft.body for draft in executor.shops({}).ledger.entries() if draft.kind == "charge"]
    assert charge["message"] == "train.release 1"


@pytest.mark.parametrize("kind", ["flwr-serverapp", "flwr-agentapp", "flwr-model", "flwr-connector", "other"])
def test_other_types_of_tasks_are_refused_and_not_left_hanging(executor, kind):
    node = Node([task(kind=kind)])
    assert executor.once(node)
    ((_, content),) = node.replies
    assert (content.code, content.reason) == (7, "refused by shop policy: unknown type of task")


def test_a_message_that_cannot_be_read_is_refused(executor):
    assert executor.answer(task(whole=False)).reason == "refused by shop policy: a malformed message"


@pytest.mark.parametrize(
    ("key", "value"), [("version", True), ("round", False), ("round", 0.0), ("body", b"")]
)
def test_values_of_other_types_are_refused(executor, key, value):
    given = task()
    given.message.content["config"][key] = value
    assert (
        executor.answer(given).reason
        == "refused by shop policy: the message holds other records than Hansa's"
    )


def test_an_unapproved_bundle_is_refused_before_anything_is_looked_at(executor, monkeypatch):
    monkeypatch.setattr(
        "hansa_client.runtime.executor.exact_request", lambda content: pytest.fail("it was read")
    )
    executor.shops = lambda config: pytest.fail("the shop was opened")
    assert "is not approved" in executor.answer(task(bundle="cd" * 32)).reason


def test_exceptions_leave_as_one_fixed_line(executor):
    def broken(config):
        raise KeyError("customer alice@example.org")

    executor.shops = broken
    answer = executor.answer(task())
    assert (answer.accepted, answer.reason) == (False, "the shop could not answer")


def test_a_panic_of_polars_is_an_exception_like_any_other(executor, caplog):
    def panics(config):
        raise PanicException("called on customer alice@example.org")

    executor.shops = panics
    answer = executor.answer(task())
    assert (answer.accepted, answer.reason) == (False, "the shop could not answer")
    assert "alice" not in caplog.text
    executor.shops = lambda config: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        executor.answer(task())


@pytest.mark.parametrize("value", [b"x", 1.5, [1], ["x"], [b"x"]])
def test_no_value_of_a_message_ends_the_executor(executor, value):
    given = task()
    given.message.content["config"]["round"] = given.message.content["config"]["run"] = value
    node = Node([given])
    assert executor.once(node)
    ((_, content),) = node.replies
    assert content.reason == "refused by shop policy: the message holds other records than Hansa's"
    found = json.loads((executor.home.state / "activity.json").read_text())
    assert (found["run"], found["round"]) == ("", None)


def test_arrays_beyond_what_the_plan_needs_are_not_unpacked(executor, monkeypatch):
    monkeypatch.setattr(
        "hansa_client.runtime.executor.exact_request", lambda content: pytest.fail("it was unpacked")
    )
    given, big = release(), Array.from_numpy_ndarray(np.zeros((1024, 1024), np.float32))
    given.message.content["state"] = ArrayRecord({str(number): big for number in range(5)})
    assert (
        executor.answer(given).reason == "refused by shop policy: the message is larger than its plan needs"
    )


def test_a_message_may_have_what_its_plan_needs(executor):
    def most(plan, bundle=BUNDLE, **config):
        return executor._largest(bundle, {"plan": plan.model_dump_json() if plan else "", **config})

    room, whole = most(None), 1024 * 2**20
    assert most(PLAN) == room + 12 * 4 * 4
    assert most(PLAN, bundle="cd" * 32) == room
    assert most(PLAN.model_copy(update={"n_items": 10_000_000})) == room
    assert most(None, model="m") == whole
    text = executor.home.settings.read_text()
    executor.home.settings.write_text(text.replace("[network]", "[network]\nmegabytes = 16"))
    assert most(PLAN) == most(None, model="m") == 16 * 2**20


def test_nothing_but_the_loss_of_the_node_escapes(executor, monkeypatch):
    def failing(error):
        def pull(most):
            raise error

        node = Node([task()])
        node.pull = pull
        return node

    for error in (TypeError("x"), PanicException("x"), Exception("the node did not store an object")):
        assert not executor.once(failing(error))
    for error in (httpx.ConnectError("gone"), KeyboardInterrupt(), SystemExit()):
        with pytest.raises(type(error)):
            executor.once(failing(error))


def test_the_logs_have_no_exceptions_text(executor, caplog):
    test_exceptions_leave_as_one_fixed_line(executor)
    assert "alice" not in caplog.text
    assert "KeyError" in caplog.text


def test_a_client_app_that_says_too_much_is_blocked(executor, monkeypatch):
    def chatty(message, context):
        content = answer_to_content(Answer(True))
        content["more"] = ConfigRecord({"customers": 40})
        return Message(content, reply_to=message)

    monkeypatch.setattr("hansa_client.runtime.executor.app", chatty)
    blocked = executor.answer(task())
    assert isinstance(blocked, Error)
    assert (blocked.code, blocked.reason) == (6, "egress blocked: the answer holds more than an answer")


def test_a_release_without_a_charge_is_blocked(executor, monkeypatch):
    table = np.zeros((PLAN.releases[0].rows, PLAN.releases[0].width), np.float32)
    forged = answer_to_content(Answer(True, release=table))
    monkeypatch.setattr("hansa_client.runtime.executor.app", lambda m, c: Message(forged, reply_to=m))
    assert executor.answer(release()).reason == "egress blocked: the ledger has no charge for this release"


def test_a_release_that_the_ledger_does_not_know_is_blocked_and_not_kept(executor, monkeypatch):
    assert executor.answer(task()).accepted
    monkeypatch.setattr(executor.shops({}).ledger, "charge", lambda *given: None)
    for _ in range(2):
        blocked = executor.answer(release())
        assert isinstance(blocked, Error)
        assert blocked.reason == "egress blocked: the ledger has no charge for this release"
    assert not executor.home.replies.exists()


def test_a_blocked_release_never_leaves_however_often_it_is_asked_for(executor, monkeypatch):
    assert executor.answer(task()).accepted
    ledger = executor.shops({}).ledger
    charge = ledger.charge
    with monkeypatch.context() as wrong:
        wrong.setattr(
            ledger, "charge", lambda run, event, about: charge(run, event, {**about, "message": "other"})
        )
        assert (
            executor.answer(release()).reason == "egress blocked: the ledger was charged for another message"
        )
    again = executor.answer(release())
    assert (again.accepted, again.release) == (False, None)
    assert again.reason == "round 1 was paid for and is not paid again"


def test_what_a_crash_kept_from_leaving_leaves_as_it_was(executor):
    assert executor.answer(task()).accepted

    def crash(task, content):
        raise SystemExit

    node = Node([release()])
    node.reply = crash
    with pytest.raises(SystemExit):
        executor.once(node)
    about = "r", 1, PLAN.digest, digest_of(PLAN.learner.initial_state(seeded_generator(0)))
    kept, spent = executor.shops({}).replies.find(*about), len(executor.shops({}).ledger.entries())
    assert executor.answer(release()).release.tobytes() == kept.tobytes()
    assert len(executor.shops({}).ledger.entries()) == spent


CHEAP = make_plan(
    run="r", method="dpsgd", settings={"dimensions": 3, "gradient_rounds": 2}, n_items=12, dp="local",
    epsilon=0.1, delta=1e-5, shops=1, customers=50,
)  # fmt: skip


def test_the_plan_that_runs_is_the_one_that_is_priced(executor):
    assert executor.answer(task()).accepted
    text = executor.home.settings.read_text()
    executor.home.settings.write_text(text.replace("epsilon = 4.0", "epsilon = 0.2"))
    assert executor.answer(release()).reason == "outside the shop's ranges: epsilon"
    for round_ in (1, 2):
        other = replace(release(round_), run_config={"plan": CHEAP.model_dump_json()})
        answer = executor.answer(other)
        assert (answer.accepted, answer.release) == (False, None)
        assert answer.reason == "the plan differs from the one accepted under this name"
    assert not [draft for draft in executor.shops({}).ledger.entries() if draft.kind == "charge"]


def test_plans_are_accepted_at_most_so_many_a_day(executor, monkeypatch):
    def asks(run):
        asked = make_plan(
            run=run, method="popularity", settings={}, n_items=12, dp="local", epsilon=0.001, delta=1e-5,
            shops=1, customers=50,
        )  # fmt: skip
        text = asked.model_dump_json()
        return asked, executor.answer(task(Request(run, 0, text, {}), run_config={"plan": text}))

    text = executor.home.settings.read_text()
    executor.home.settings.write_text(text.replace("[approvals]", "[approvals]\nplans_a_day = 2"))
    assert [asks(run)[1].accepted for run in ("a", "b", "a", "c")] == [True, True, True, False]
    asked, answer = asks("c")
    assert answer.reason == "the shop accepts no more plans today"
    (executor.home.root / "approved-plans").write_text(asked.digest)
    assert asks("c")[1].accepted
    fresh = LedgerFile(executor.home.ledger)  # read anew from the disk
    for hours, plans in ((25, 3), (-1, 0)):
        moment = datetime.now(UTC) - timedelta(hours=hours)
        assert fresh.plans_since(moment) == executor.shops({}).ledger.plans_since(moment) == plans


def test_lost_rounds_are_paid_again_within_the_ranges_or_for_an_approved_plan(executor):
    def lose():
        for file in executor.home.replies.glob("*"):
            file.unlink()

    shop = executor.shops({})
    shop.repeats = 3
    text = executor.home.settings.read_text()
    executor.home.settings.write_text(text.replace("epsilon = 4.0", "epsilon = 1.01"))
    assert executor.answer(task()).accepted
    assert executor.answer(release()).accepted
    lose()
    refused = executor.answer(release())
    assert refused.reason == "round 1 is lost and would cost more than the shop allows one plan"
    (executor.home.root / "approved-plans").write_text(PLAN.digest)
    assert executor.answer(release()).accepted
    assert shop.ledger.spent() > 1.01


def test_what_a_round_keeps_is_found_under_its_own_plan_alone(executor, monkeypatch):
    seen = []

    def remembers(message, context):
        seen.append(set(context.state))
        context.state["kept"] = ConfigRecord({"secret": b"x"})
        return Message(answer_to_content(Answer(False, "no")), reply_to=message)

    monkeypatch.setattr("hansa_client.runtime.executor.app", remembers)
    executor.answer(task())
    executor.answer(
        task(Request("r", 0, CHEAP.model_dump_json(), {}), run_config={"plan": CHEAP.model_dump_json()})
    )
    executor.answer(task())
    assert seen == [set(), set(), {"kept"}]


def test_a_paused_shop_says_so_to_everything(executor):
    processes.pause(executor.home, True)
    for each in (task(), release(), task(bundle="cd" * 32)):
        answer = executor.answer(each)
        assert (answer.accepted, answer.reason) == (False, "the shop has paused")
    processes.pause(executor.home, False)
    assert executor.answer(task()).accepted


@pytest.mark.parametrize(("taken", "left"), [(0.0, 0.0), (0.01, 0.2), (0.2, 0.2), (0.21, 0.4), (3.33, 3.4)])
def test_replies_leave_at_whole_multiples_of_the_pace(executor, monkeypatch, taken, left):
    node = Node([task()])
    executor.clock, executor.sleep = lambda: node.now, node.sleep
    answer = executor.answer

    def slow(given):
        node.now += taken
        return answer(given)

    monkeypatch.setattr(executor, "answer", slow)
    executor.once(node)
    assert node.replies[0][0] - 100 == pytest.approx(left)


def test_without_tasks_nothing_happens(executor):
    assert not executor.once(Node([]))


def test_activity_is_written_down_for_the_status(executor):
    executor.once(Node([task()]))
    found = json.loads((executor.home.state / "activity.json").read_text())
    assert (found["run"], found["round"], found["busy"], found["answer"]) == ("r", 0, False, "answered")


def test_what_a_run_keeps_stays_in_memory_and_in_its_run(executor, monkeypatch):
    seen = []

    def remembers(message, context):
        seen.append(dict(context.state))
        context.state["kept"] = ConfigRecord({"secret": b"x"})
        return Message(answer_to_content(Answer(False, "no")), reply_to=message)

    monkeypatch.setattr("hansa_client.runtime.executor.app", remembers)
    for run in (1, 1, 2):
        executor.answer(task(run=run))
    assert [set(each) for each in seen] == [set(), {"kept"}, set()]
    assert not [
        path for path in executor.home.root.rglob("*") if path.is_file() and b"secret" in path.read_bytes()
    ]


def test_the_shop_is_found_during_an_answer_only(executor):
    executor.answer(task())
    with pytest.raises(Exception, match="no shop is configured"):
        find_shop({})
