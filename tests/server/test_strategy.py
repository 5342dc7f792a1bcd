from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from hansa.errors import RefusalError
from hansa.models.base import NoisySum
from hansa.plan import Plan
from hansa.records import (
    Answer,
    answer_to_content,
    content_to_request,
    record_to_state,
    state_to_record,
)
from hansa.rng import seeded_generator
from hansa_server.strategy import PlanStrategy

N_ITEMS = 6
ONES = np.ones((N_ITEMS, 1), dtype=np.float32)


def plan(**changed):
    return Plan(
        **{
            "run": "r",
            "method": "popularity",
            "settings": {},
            "n_items": N_ITEMS,
            "dp": "none",
            "noise_scale": 0.0,
            "delta": 1e-5,
            "shops": 4,
            "customers": 100,
            **changed,
        }
    )


class Nodes:
    """A grid of nodes that answer as told: node -> function of the request."""

    def __init__(self, behaviours):
        self.behaviours = behaviours
        self.asked = []

    def get_node_ids(self):
        return list(self.behaviours)

    def send_and_receive(self, messages, *, timeout=None):
        for message in messages:
            node = message.metadata.dst_node_id
            self.asked.append((node, message.metadata.message_type, content_to_request(message.content)))
            said = self.behaviours[node]
            yield Message(said, reply_to=message)


def accepts(table=None):
    return answer_to_content(Answer(True, release=table))


def refuses(reason="no"):
    return answer_to_content(Answer(False, reason))


@pytest.fixture(autouse=True)
def _task():
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


def strategy(the_plan=None, **changed):
    return PlanStrategy(the_plan or plan(), seeded_generator(0, "central noise"), **changed)


def run_round(the_strategy, behaviours, round_=1):
    grid = Nodes(behaviours)
    the_strategy.nodes = list(behaviours)
    learner = the_strategy.plan.learner
    arrays = state_to_record(learner.initial_state(seeded_generator(0)))
    messages = the_strategy.configure_train(round_, arrays, ConfigRecord(), grid)
    record, metrics = the_strategy.aggregate_train(round_, grid.send_and_receive(messages))
    assert metrics is None
    return record_to_state(record), grid


def test_enrolment_asks_everybody_and_keeps_those_that_accept():
    the_strategy, grid = strategy(), Nodes({7: accepts(), 3: refuses(), 5: Error(2, "x"), 1: accepts()})
    the_strategy.enrol(grid, 10.0)
    assert the_strategy.nodes == [1, 7]
    assert [node for node, _, _ in grid.asked] == [1, 3, 5, 7]
    assert {kind for _, kind, _ in grid.asked} == {"query.plan"}
    assert all(Plan.model_validate_json(request.body) == plan() for _, _, request in grid.asked)


@pytest.mark.parametrize(
    ("behaviours", "said"),
    [
        ({1: refuses("too dear"), 2: refuses("too dear")}, "all 2 shops refused the plan; .* too dear"),
        ({1: Error(2, "x")}, "all 1 shops refused the plan; .* no answer"),
        ({1: RecordDict()}, "malformed answer"),
        ({}, "all 0 shops refused the plan; .* no shop answered"),
    ],
)
def test_a_run_that_nobody_joins_is_refused(behaviours, said):
    with pytest.raises(RefusalError, match=said):
        strategy().enrol(Nodes(behaviours), 0.1)


def test_enrolment_waits_until_all_invited_shops_are_connected():
    looks = []

    class Gathering(Nodes):
        def get_node_ids(self):
            looks.append(len(looks) + 1)
            return list(self.behaviours)[: len(looks)]

    the_strategy = strategy()
    the_strategy.enrol(Gathering({node: accepts() for node in (1, 2, 3, 4)}), 60.0)
    assert the_strategy.nodes == [1, 2, 3, 4]
    assert looks == [1, 2, 3, 4]


def test_the_order_of_replies_does_not_matter():
    tables = {
        node: (10.0**node * seeded_generator(node).standard_normal((N_ITEMS, 1))).astype(np.float32)
        for node in range(-4, 5)
    }
    straight, _ = run_round(strategy(), {node: accepts(table) for node, table in tables.items()})
    backwards, _ = run_round(strategy(), {node: accepts(tables[node]) for node in reversed(tables)})
    np.testing.assert_array_equal(straight["counts"], backwards["counts"])


def test_a_node_that_does_not_reply_is_missing():
    reports = []
    the_strategy = strategy(nodes=[1, 2, 3], listeners=[reports.append])
    arrays = state_to_record(the_strategy.plan.learner.initial_state(seeded_generator(0)))
    (message, *_) = the_strategy.configure_train(1, arrays, ConfigRecord(), None)
    the_strategy.aggregate_train(1, [Message(accepts(ONES), reply_to=message)])
    assert (reports[0].answered, reports[0].missing) == (1, ["no answer in time"] * 2)


def test_only_enrolled_nodes_are_asked_with_state_and_round_and_nothing_else():
    state, grid = run_round(strategy(), {2: accepts(ONES), 4: accepts(2 * ONES)})
    np.testing.assert_array_equal(state["counts"], 3 * ONES)
    assert [(node, kind) for node, kind, _ in grid.asked] == [(2, "train.release"), (4, "train.release")]
    for _, _, request in grid.asked:
        assert (request.run, request.round, request.body) == ("r", 1, "")
        assert not request.state["counts"].any()


def with_array(array):
    content = accepts()
    content["release"] = ArrayRecord({"release": Array.from_numpy_ndarray(array)})
    return content


BAD = {
    "refusal": refuses("spent"),
    "error": Error(2, "x"),
    "nothing": accepts(),
    "empty message": RecordDict(),
    "shape": accepts(np.ones((N_ITEMS + 1, 1), dtype=np.float32)),
    "broadcastable": accepts(np.ones((1, 1), dtype=np.float32)),
    "nan": accepts(np.full((N_ITEMS, 1), np.nan, dtype=np.float32)),
    "inf": accepts(np.full((N_ITEMS, 1), np.inf, dtype=np.float32)),
    "float64": with_array(np.ones((N_ITEMS, 1))),
    "complex": with_array(np.ones((N_ITEMS, 1), dtype=complex)),
    "text": with_array(np.array([["a"]] * N_ITEMS)),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_answer_costs_its_contribution_only(bad):
    reports = []
    the_strategy = strategy(listeners=[reports.append])
    state, _ = run_round(the_strategy, {1: accepts(ONES), 2: bad, 3: accepts(2 * ONES)})
    np.testing.assert_array_equal(state["counts"], 3 * ONES)
    (report,) = reports
    assert (report.round, report.planned, report.answered) == (1, 1, 2)
    assert len(report.missing) == 1
    assert report.missing[0]
    assert report.seconds >= 0
    np.testing.assert_array_equal(report.state["counts"], state["counts"])


def test_a_round_without_any_release_is_refused():
    with pytest.raises(RefusalError, match="round 1: no shop released anything"):
        run_round(strategy(), {1: refuses("spent"), 2: Error(2, "x")})


class Spy:
    """Records what the method gets to see of a round."""

    def __init__(self, monkeypatch, the_plan):
        self.seen = []
        learner = type(the_plan.learner)
        update = learner.update

        def spy(method, round_, release, state, sum_, memory):
            self.seen.append(sum_)
            return update(method, round_, release, state, sum_, memory)

        monkeypatch.setattr(learner, "update", spy)


def test_central_noise_is_added_once_and_stated(monkeypatch):
    the_plan = plan(dp="central", noise_scale=3.0, n_items=4000)
    spy = Spy(monkeypatch, the_plan)
    ones = np.ones((4000, 1), dtype=np.float32)
    state, _ = run_round(strategy(the_plan), {n: accepts(ones) for n in range(1, 10)})
    noise = state["counts"] - 9.0
    assert abs(noise.std() - 3.0) < 5 * 3 / (2 * noise.size) ** 0.5
    assert spy.seen[0].noise_deviation == 3.0
    again, _ = run_round(strategy(the_plan), {n: accepts(ones) for n in range(1, 10)})
    np.testing.assert_array_equal(state["counts"], again["counts"])


@pytest.mark.parametrize(("dp", "deviation"), [("local", 3.0 * 2**0.5), ("none", 0.0)])
def test_local_noise_adds_up_and_nothing_is_added_here(monkeypatch, dp, deviation):
    the_plan = plan(dp=dp, noise_scale=3.0 if dp == "local" else 0.0)
    spy = Spy(monkeypatch, the_plan)
    state, _ = run_round(strategy(the_plan), {1: accepts(ONES), 2: accepts(ONES), 3: refuses()})
    np.testing.assert_array_equal(state["counts"], 2 * ONES)
    assert spy.seen[0].noise_deviation == pytest.approx(deviation)


def test_denominators_are_declared_figures(monkeypatch):
    """100 declared customers of 4 invited shops, 2 of which answered, sampled at rate 0.2: 10."""
    settings = {"dimensions": 2, "gradient_rounds": 1, "sampling_rate": 0.2}
    the_plan = plan(method="dpsgd", settings=settings)
    spy = Spy(monkeypatch, the_plan)
    gradient = np.ones((N_ITEMS, 3), dtype=np.float32)
    run_round(strategy(the_plan), {1: accepts(gradient), 2: accepts(gradient), 3: refuses()}, round_=2)
    assert spy.seen[0].customers == pytest.approx(10.0)
    np.testing.assert_allclose(spy.seen[0].mean, 0.2)
    np.testing.assert_allclose(replace(spy.seen[0], customers=0.0).mean, 2.0)
    assert isinstance(spy.seen[0], NoisySum)


def test_no_evaluation_is_asked_of_shops():
    the_strategy = strategy()
    assert (
        list(the_strategy.configure_evaluate(1, ArrayRecord({}), ConfigRecord(), Nodes({1: accepts()}))) == []
    )
    assert the_strategy.aggregate_evaluate(1, []) is None
    assert the_strategy.summary() is None
