"""A real SuperLink, TLS, node keys and our executor on loopback: an honest run, then a hostile one."""

import hashlib
import json

import psutil
import pytest

from hansa.dp.ledger.entries import Receipt
from hansa.dp.ledger.file import LedgerFile
from hansa.plan import make_plan
from hansa.rng import seeded_generator
from hansa_client.runtime import processes

ITEMS = 12
REFUSED = "refused by shop policy: "


def plan(run, dp="local", epsilon=1.0, **settings):
    wanted = None if dp == "none" else epsilon
    return make_plan(
        run=run, method="dpsgd", settings={"dimensions": 3, "gradient_rounds": 2, **settings},
        n_items=ITEMS, dp=dp, epsilon=wanted, delta=1e-5, shops=1, customers=50,
    )  # fmt: skip


def message(kind, asked, round_=0, body=None, state=None, **changed):
    body = (asked.model_dump_json() if kind == "query.plan" else "") if body is None else body
    config = {"version": 1, "run": asked.run, "round": round_, "body": body, "head": ""}
    return {"type": kind, "config": config, "state": state or {}, **changed}


def state_of(asked):
    return {name: rows.tolist() for name, rows in asked.learner.initial_state(seeded_generator(0)).items()}


@pytest.fixture(scope="module")
def approved(league):
    """The bundle that the shop's operator has approved."""
    bundle, digest = league.app("approved"), hashlib.sha256(league.app("approved")).hexdigest()
    text = league.home.settings.read_text()
    league.home.settings.write_text(text.replace("bundles = []", f'bundles = ["{digest}"]'))
    return bundle


@pytest.fixture(scope="module")
def honest(league, approved):
    """A run that a shop with nothing against it has answered: the plan and the rounds' reports."""
    asked = plan("honest")
    rounds = league.outcome(league.start(approved, {"plan": asked.model_dump_json()}, None))
    assert isinstance(rounds, list), rounds
    return asked, rounds


def test_an_honest_run_is_answered_charged_and_receipted(league, honest):
    asked, rounds = honest
    assert [each["answered"] for each in rounds] == [1] * len(asked.releases), league.logs()
    ledger = LedgerFile(league.home.ledger)
    charges = [draft.body for draft in ledger.entries() if draft.kind == "charge"]
    assert [body["round"] for body in charges if body["run"] == "honest"] == [1, 2, 3]
    assert len({body["message"] for body in charges}) == len(charges)
    own = ledger.receipt()
    heard = [Receipt.from_json(text) for each in rounds for text in each["receipts"]]
    assert [each.sequence for each in heard][-1] <= own.sequence
    assert {each.ledger for each in heard} == {own.ledger}
    assert not league.trap.exists()


def test_status_shows_an_online_shop_and_its_last_answer(league, honest):
    found = processes.status(league.home)
    assert found["running"]
    assert found["online"]
    assert not found["busy"]
    assert found["answer"]
    assert 0 < found["ledger"]["spent"] < found["ledger"]["ceiling"]


def test_only_loopback_is_listened_on_and_nothing_else_is_connected_to(league, honest):
    for child in (league.supervisor.node, league.supervisor.executor):
        assert child.process is not None
        for connection in psutil.Process(child.process.pid).net_connections("inet"):
            assert connection.laddr.ip == "127.0.0.1", connection
            assert not connection.raddr or connection.raddr.ip == "127.0.0.1", connection


@pytest.fixture(scope="module")
def hostile(league, honest, approved):
    """What a hostile coordinator hears, by the name of what it tries."""
    asked, other = plan("hostile"), plan("hostile", epsilon=0.9)
    fitting, state = {"plan": asked.model_dump_json()}, state_of(asked)
    plain = message("query.plan", asked)
    stages = {"more": {"protocol": {"shared": [], "senders": [], "sealed": []}}}
    messages = {
        "a second configuration": message("query.plan", asked, more={"extra": {"lr": 1.0}}),
        "a record beside the protocol's": message("query.plan", asked, more={"protocol": {"a": 1}}),
        "another record for the state": message("train.release", asked, 1, state=state, named="weights"),
        "a further key": {**plain, "config": {**plain["config"], "secret": 1}},
        "an unknown action": message("query.customers", asked),
        "an evaluation": message("evaluate", asked, 1, state=state),
        "another plan than the run's": message("query.plan", asked, body=other.model_dump_json()),
        "a body where none belongs": message("train.release", asked, 1, "send everything", state),
        "a stage of a masked round": message("train.upload", asked, 1, state=state, **stages),
        "more than the plan needs": message("query.plan", asked, body="x" * 17 * 2**20),
        "a round before the plan": message("train.release", asked, 1, state=state),
    }  # fmt: skip
    runs = {
        "messages": league.start(approved, fitting, list(messages.values())),
        "unapproved bundle": league.start(league.app("unapproved"), fitting, [message("query.plan", asked)]),
        "further settings": league.start(
            league.app("approved2", 'plan = ""\nlocal-epochs = 1\n'), fitting, [message("query.plan", asked)]
        ),
    }
    for name, tried in {
        "no privacy": plan("bare", "none"),
        "too much epsilon": plan("greedy", epsilon=6.0),
        "more than is left": plan("spent", epsilon=4.0),
    }.items():
        config = {"plan": tried.model_dump_json()}
        runs[name] = league.start(approved, config, [message("query.plan", tried)])
    heard = {name: league.outcome(run) for name, run in runs.items()}
    assert all(isinstance(said, list) for said in heard.values()), heard
    return dict(zip(messages, heard.pop("messages"), strict=True)) | {k: v[0] for k, v in heard.items()}


@pytest.mark.parametrize(
    ("tried", "reason"),
    [
        ("a second configuration", "the message holds other records than Hansa's"),
        (
            "a record beside the protocol's",
            "a protocol record where the message has none, or none where it has",
        ),
        ("another record for the state", "the message holds other records than Hansa's"),
        ("a further key", "the message holds other records than Hansa's"),
        ("an unknown action", "unknown type of message"),
        ("an evaluation", "unknown type of message"),
        ("another plan than the run's", "the message's plan is not the configuration's"),
        ("a body where none belongs", "a malformed message"),
        ("more than the plan needs", "a malformed message"),
        ("a stage of a masked round", "the message does not belong to the plan's DP model"),
    ],
)
def test_what_no_protocol_has_is_refused_on_both_sides(league, hostile, tried, reason):
    assert hostile[tried] == {"code": 7, "reason": REFUSED + reason}
    assert REFUSED + reason in (league.home.logs / "hansa.log").read_text()


def test_an_unapproved_bundle_is_refused_and_waits_for_the_operator(league, hostile):
    digest = hashlib.sha256(league.app("unapproved")).hexdigest()
    reason = f"the bundle {digest[:16]} is not approved"
    assert hostile["unapproved bundle"] == {"code": 7, "reason": REFUSED + reason}
    assert f"bundle-{digest[:10]}" in processes.status(league.home)["pending"]


def test_a_bundle_with_further_settings_is_not_the_approved_one(hostile):
    assert hostile["further settings"]["code"] == 7


def test_not_a_line_of_any_bundle_ran_at_the_shop(league, hostile):
    assert not league.trap.exists()
    assert not list((league.home.state / "flwr").glob("apps/*"))


@pytest.mark.parametrize(
    ("tried", "reason"),
    [
        ("a round before the plan", "no such round in an accepted plan"),
        ("no privacy", "outside the shop's ranges: dp"),
        ("too much epsilon", "outside the shop's ranges: epsilon"),
        ("more than is left", "the plan does not fit the shop's budget"),
    ],
)
def test_what_leaves_the_ranges_is_an_ordinary_refusal(league, hostile, tried, reason):
    said = hostile[tried]
    assert (said["records"], said["accepted"], said["reason"]) == (["answer"], False, reason)
    assert reason in (league.home.logs / "hansa.log").read_text()


def test_a_plan_outside_the_ranges_waits_for_the_operator(league, hostile):
    asked = plan("greedy", epsilon=6.0)
    (question,) = [
        json.loads(path.read_text())
        for path in league.home.pending.glob("plan-*")
        if "greedy" in path.read_text()
    ]
    assert (question["kind"], question["digest"]) == ("plan", asked.digest)
    assert question["why"] == "outside the shop's ranges: epsilon"


def test_the_logs_of_node_and_executor_have_no_contents(league, hostile):
    text = league.logs()
    assert "send everything" not in text.split("== superlink")[0]
