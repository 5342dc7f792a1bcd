import threading
import time
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest

from hansa.dp.ledger import Budget, Ledger
from hansa.errors import RefusalError
from hansa.plan import Plan, make_plan
from hansa.rng import Source, seeded_generator
from hansa.schema import Histories, stack
from hansa_client.shop import LocalShop
from hansa_simulations.engine import InProcessGrid, run_in_process

N_ITEMS, SHOPS = 12, 5


def histories(shop, customers=20):
    rows = [seeded_generator(shop, k).permutation(N_ITEMS)[: k % 6] for k in range(customers)]
    offsets = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    return Histories(offsets, np.concatenate(rows).astype(np.int32), N_ITEMS)


def shop(number, seed=0, ceiling=1e6, kind=LocalShop, **changed):
    return kind(
        f"shop {number}",
        histories(number),
        Ledger(Budget(ceiling, 1e-5)),
        customers=20,
        **{"allowed": ("local", "central", "none"), **changed},
        noise=Source(seed, ("noise", number)),
        coins=Source(seed, ("coins", number)),
    )


def plan(**changed):
    return Plan(
        **{
            "run": "r",
            "method": "dpsgd",
            "settings": {"dimensions": 3, "gradient_rounds": 3},
            "n_items": N_ITEMS,
            "dp": "none",
            "noise_scale": 0.0,
            "delta": 1e-5,
            "shops": SHOPS,
            "customers": 100,
            **changed,
        }
    )


def run(the_plan, shops=None, seed=0, **changed):
    reports = []
    shops = shops or [shop(n, seed) for n in range(SHOPS)]
    state = run_in_process(the_plan, shops, seed=seed, listeners=[reports.append], **changed)
    return state["items" if the_plan.method == "dpsgd" else "counts"], reports


SETTINGS = {"dimensions": 3, "gradient_rounds": 3}
PLANS = {
    "none": plan(),
    "central": plan(dp="central", noise_scale=1.0),
    "local": plan(dp="local", noise_scale=1.0),
    "local steps": plan(dp="local", noise_scale=1.0, settings={**SETTINGS, "local_steps": 2}),
    "sampled": plan(dp="central", noise_scale=1.0, settings={**SETTINGS, "sampling_rate": 0.5}),
    "popularity": plan(dp="central", noise_scale=1.0, method="popularity", settings={}),
}


@pytest.mark.parametrize("the_plan", PLANS.values(), ids=PLANS)
def test_the_same_seed_gives_the_same_model_and_another_seed_another(the_plan):
    first, reports = run(the_plan)
    again, _ = run(the_plan)
    other, _ = run(the_plan, seed=1)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert np.isfinite(first).all()
    assert [report.round for report in reports] == list(range(1, len(the_plan.releases) + 1))
    assert all(report.answered == SHOPS and not report.missing for report in reports)
    np.testing.assert_array_equal(reports[-1].state[next(iter(reports[-1].state))], first)


def test_the_federation_without_noise_is_the_pooled_sum():
    """Five shops or one shop with all their customers: the same model up to rounding."""
    apart, _ = run(plan())
    pooled = shop(0)
    pooled.histories = stack([histories(n) for n in range(SHOPS)])
    together, _ = run(plan(shops=1), [pooled])
    np.testing.assert_allclose(apart, together, atol=2e-3)


def test_every_shop_is_charged_every_step():
    shops = [shop(n) for n in range(SHOPS)]
    run(PLANS["local steps"], shops)
    for each in shops:
        reservation = each.ledger.reservations["r"]
        assert reservation.charged == len(reservation.releases) == 1 + 3 * 2
    shops = [shop(n) for n in range(SHOPS)]
    run(plan(), shops)
    assert all(each.ledger.reservations == {} for each in shops)


def without(positions):
    """All shops, of which some do not take part from the start."""
    return [shop(n, allowed=() if n in positions else ("central", "none")) for n in range(SHOPS)]


@dataclass
class Raising(LocalShop):
    """Breaks as soon as its data is touched for a release."""

    def __getattribute__(self, name):
        if name == "performance":
            raise RuntimeError("disk on fire")
        return super().__getattribute__(name)


@dataclass
class Slow(LocalShop):
    """Sleeps over every release until told to stop."""

    stop: threading.Event = field(default_factory=threading.Event)

    def __getattribute__(self, name):
        if name == "performance":
            self.stop.wait(20)
        return super().__getattribute__(name)


def make(kind, number):
    made = shop(number, kind=LocalShop)
    return kind(**{k: v for k, v in vars(made).items() if k != "stop"})


@pytest.fixture
def awake():
    """Slow shops to wake when the test is over, so that no thread outlives it."""
    shops = []
    yield shops.append
    for each in shops:
        each.stop.set()


@pytest.mark.parametrize("positions", [(0,), (2, 4), (1, 2, 3, 4)])
def test_shops_that_raise_cost_their_contribution_only(positions):
    shops = [make(Raising, n) if n in positions else shop(n) for n in range(SHOPS)]
    broken, reports = run(plan(), shops)
    healthy, _ = run(plan(), without(positions))
    np.testing.assert_array_equal(broken, healthy)
    everybody, _ = run(plan())
    assert (broken != everybody).any()
    for report in reports:
        assert report.answered == SHOPS - len(positions)
        assert len(report.missing) == len(positions)
        assert not any("fire" in reason for reason in report.missing)


@pytest.mark.parametrize("positions", [(0,), (4,), (0, 1, 3)])
@pytest.mark.parametrize("workers", [1, 2])
def test_shops_that_are_late_cost_their_contribution_only(positions, workers, awake, monkeypatch):
    monkeypatch.setattr("hansa_simulations.engine.InProcessGrid", partial(InProcessGrid, workers=workers))
    shops = [make(Slow, n) if n in positions else shop(n) for n in range(SHOPS)]
    for n in positions:
        awake(shops[n])
    started = time.perf_counter()
    late, reports = run(plan(), shops, round_timeout=0.5)
    assert time.perf_counter() - started < 15
    healthy, _ = run(plan(), without(positions))
    np.testing.assert_array_equal(late, healthy)
    assert [report.answered for report in reports] == [SHOPS - len(positions)] * 4


def test_a_late_shop_takes_part_again_when_it_has_finished():
    shops = [shop(n) for n in range(3)] + [make(Slow, 3)]
    slow = shops[3]
    answered = []

    def listener(report):
        answered.append(report.answered)
        if report.round == 1:
            slow.stop.set()
            time.sleep(0.5)

    run_in_process(plan(shops=4), shops, seed=0, round_timeout=1.0, listeners=[listener])
    assert answered == [3, 4, 4, 4]


def test_releases_are_not_kept_once_they_are_delivered(monkeypatch):
    grids = []
    monkeypatch.setattr(InProcessGrid, "__post_init__", keeping(grids, InProcessGrid.__post_init__))
    run(plan())
    assert [grid._busy for grid in grids] == [{}]


def keeping(kept, original):
    def start(grid):
        kept.append(grid)
        original(grid)

    return start


def test_shops_that_refuse_are_left_out():
    shops = [shop(n, ceiling=0.01 if n in (1, 3) else 1e6) for n in range(SHOPS)]
    state, reports = run(PLANS["central"], shops)
    assert all(report.answered == 3 for report in reports)
    assert all(shops[n].ledger.reservations == {} for n in (1, 3))
    others, _ = run(PLANS["central"], without((1, 3)))
    np.testing.assert_array_equal(state, others)


def test_all_refusing_is_a_refusal_and_leaves_nothing_charged():
    shops = [shop(n, ceiling=0.01) for n in range(SHOPS)]
    with pytest.raises(
        RefusalError, match="all 5 shops refused the plan; for example: the plan does not fit"
    ):
        run(PLANS["central"], shops)
    assert all(each.ledger.reservations == {} for each in shops)
    with pytest.raises(RefusalError, match="does not take part in DP model 'central'"):
        run(plan(dp="central", noise_scale=1.0, shops=1), [shop(0, allowed=("local",))])


def test_all_failing_ends_the_run_with_a_refusal():
    with pytest.raises(RefusalError, match="round 1: no shop released anything"):
        run(plan(shops=2), [make(Raising, n) for n in range(2)])


def test_a_ledger_outlives_a_run_and_refuses_a_repeat_that_does_not_fit():
    the_plan = make_plan(
        run="first",
        method="popularity",
        settings={},
        n_items=N_ITEMS,
        dp="local",
        epsilon=1.0,
        delta=1e-5,
        shops=2,
        customers=40,
    )
    shops = [shop(n, ceiling=1.0) for n in range(2)]
    run(the_plan, shops)
    with pytest.raises(RefusalError, match="round 1: no shop released anything"):
        run(the_plan, shops)  # the same run again: its one release is spent
    with pytest.raises(RefusalError, match="all 2 shops refused"):
        run(the_plan.model_copy(update={"run": "second"}), shops)


def test_listeners_hear_of_their_own_run_only():
    first, second = [], []
    run_in_process(plan(shops=1), [shop(0)], seed=0, listeners=[first.append])
    run_in_process(plan(shops=1), [shop(0)], seed=0, listeners=[second.append])
    assert (len(first), len(second)) == (4, 4)


def test_an_interrupt_reaches_the_caller_and_leaves_no_shops_behind():
    def interrupt(report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_process(plan(shops=1), [shop(0)], seed=0, listeners=[interrupt])
    state, _ = run(plan())
    np.testing.assert_array_equal(state, run(plan())[0])
