import numpy as np
import pytest

from hansa.cli import main
from hansa.models.cooccurrence import COUNTS, EMBEDDINGS
from hansa.schema import Histories
from hansa_simulations.dishonest import ATTACKS, Aim, invented
from hansa_simulations.engine import forging, run_in_process
from hansa_simulations.experiment import plan_for, prepare, simulate, simulated_shops
from hansa_simulations.settings import make_settings

LEAGUE = {
    "scenario": "synthetic",
    "shops": 10,
    "dp": "local",
    "epsilon": 20.0,
    "delta": 1e-5,
    "references": "none",
}
SIZE = ["scenario.customers=300", "scenario.items=100", "method.vocabulary=40"]
BY_NAME = {attack.name: attack for attack in ATTACKS}


class League:
    def __init__(self, *assignments, **changed):
        self.settings = make_settings({**LEAGUE, **changed}, [*SIZE, *assignments])
        self.federation = prepare(self.settings, 0).federation
        self.plan = plan_for(self.settings, self.federation, 0)

    def learn(self, forges):
        shops, reports = simulated_shops(self.settings, self.federation, self.plan, 0), []
        state = run_in_process(self.plan, shops, seed=0, app=forging(forges), listeners=[reports.append])
        return state, reports

    def poisoned(self, name, target=50):
        aim = Aim(self.plan, target, 0)
        return self.learn({3: BY_NAME[name].forge(aim, 3)})


def apart(state, other):
    return np.abs(state[COUNTS] - other[COUNTS]).max()


@pytest.mark.parametrize("name", ["huge", "opposite", "loud promotion"])
def test_one_dishonest_shop_ruins_the_plain_counts_and_not_the_trimmed_ones(name):
    plain, trimmed = League(), League("robust.trim=0.1")
    ruined, moved = (apart(league.poisoned(name)[0], league.learn({})[0]) for league in (plain, trimmed))
    assert ruined > 5 * moved
    most = max(np.bincount(shop.train.items).max() for shop in trimmed.federation.shops)
    assert moved < 1.5 * (most + 3 * trimmed.plan.releases[0].noise_multiplier), (
        "about one shop's honest range"
    )


def test_a_shop_that_sends_no_numbers_is_missing():
    _, reports = League().poisoned("not finite")
    assert [(report.answered, report.missing) for report in reports] == [(9, ["malformed release"])] * 2


def test_promotion_raises_the_target_alone():
    league = League(dp="none", epsilon=None)
    (honest, _), (state, _) = league.learn({}), league.poisoned("loud promotion", target=50)
    raised = state[COUNTS] - honest[COUNTS]
    assert raised[50] == pytest.approx(1000, rel=1e-4)
    assert np.delete(raised, 50) == pytest.approx(0, abs=1e-4)
    learner = league.plan.learner
    place = np.flatnonzero(learner.chosen(state) == 50)
    assert len(place) == 1
    strength = (state[EMBEDDINGS] ** 2).sum(axis=1)
    assert strength[place[0]] == strength.max()


def test_hidden_promotion_stays_within_what_noise_may_do():
    league = League()
    aim = Aim(league.plan, 50, 0)
    release, state = league.plan.releases[0], league.plan.learner.initial_state(None)
    honest = np.zeros((100, 1), dtype=np.float32)
    sent = BY_NAME["hidden promotion"].forgery(aim, release, state, honest, None)
    assert sent[50] == pytest.approx(3 * release.noise_multiplier)
    assert not np.delete(sent, 50).any()
    assert not honest.any()


def test_invented_customers_are_as_many_and_all_have_the_target():
    honest = Histories.from_pairs([0, 0, 1, 2, 2], [5, 1, 5, 5, 7], 4, 9)
    fake = invented(honest, 7)
    assert len(fake) == len(honest)
    assert all(row[-1] == 7 and len(row) == 2 for row in map(fake.row, range(4)))
    assert fake.row(0)[0] == 5
    shop = simulated_shops(League().settings, League().federation, League().plan, 0)[0]
    assert BY_NAME["huge"].histories(Aim(League().plan, 7, 0), shop.histories) is shop.histories


def test_the_command_takes_the_setting_and_refuses_it_where_nothing_can_be_cut(capsys):
    said = simulate(make_settings({**LEAGUE, "method": "popularity"}, [*SIZE[:2], "robust.trim=0.1"]))[0]
    assert said["plan"]["trim"] == said["settings"]["robust"]["trim"] == 0.1
    for dp in ("central", "distributed"):
        command = ["simulate", "synthetic", "--shops", "10", "--dp", dp, "--references", "none"]
        assert main([*command, "--set", "robust.trim=0.1", "--set", SIZE[0]]) == 2
        assert "robust.trim 0.1: " in capsys.readouterr().err.splitlines()[-1]
    assert main(["simulate", "synthetic", "--set", "robust.trim=0.5"]) == 2
    assert "--set robust.trim 0.5: " in capsys.readouterr().err
