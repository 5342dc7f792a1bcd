import importlib.util
import os
import tempfile
from pathlib import Path

import numpy as np
import psutil
import pytest

from hansa.dp.ledger import Budget, Ledger
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import UsageError
from hansa.plan import make_plan
from hansa.rng import Source, seeded_generator
from hansa.schema import Histories
from hansa_client.shop import LocalShop
from hansa_simulations.engine import run_in_process
from hansa_simulations.members import simulated_members, simulated_roster
from hansa_simulations.ray_engine import run_on_ray

ITEMS, SHOPS = 40, 10
PLAN = make_plan(
    run="r",
    method="dpsgd",
    settings={"gradient_rounds": 3, "dimensions": 8, "sampling_rate": 0.5},
    n_items=ITEMS,
    dp="local",
    epsilon=8.0,
    delta=1e-5,
    shops=SHOPS,
    customers=300,
)


def make_shops():
    """Ten shops with seeded noise and coins; the budget of the last one is too small for the plan."""
    shops = []
    for position in range(SHOPS):
        draw = seeded_generator(position, "histories")
        customers = np.repeat(np.arange(30), 8)
        items = (ITEMS * draw.random(240) ** 2).astype(np.int64)
        shops.append(
            LocalShop(
                f"s{position}",
                Histories.from_pairs(customers, items, 30, ITEMS),
                Ledger(Budget(8.0 if position < SHOPS - 1 else 1.0, 1e-5)),
                30,
                noise=Source(0, ("noise", position)),
                coins=Source(0, ("coins", position)),
            )
        )
    return shops


@pytest.fixture
def _ray():
    if importlib.util.find_spec("ray") is None:
        complain = pytest.fail if os.environ.get("HANSA_REQUIRE") == "1" else pytest.skip
        complain("ray is not installed: pip install 'hansa[demo]'")


@pytest.mark.usefixtures("_ray")
def test_a_masked_league_keeps_its_rounds_between_rays_actors():
    """Every stage may be served by another process: keys, shares and marks go along."""
    masked = make_plan(
        run="m",
        method="popularity",
        settings={},
        n_items=ITEMS,
        dp="distributed",
        epsilon=8.0,
        delta=1e-5,
        shops=4,
        customers=300,
        roster=simulated_roster(4, 0).digest,
    )
    shops = make_shops()[:4]
    for shop, member in zip(shops, simulated_members(masked, 0), strict=True):
        shop.member, shop.allowed = member, ("distributed",)
        shop.ledger.approve(masked.roster, member.vouched)
    here = run_in_process(masked, shops, seed=5, roster=simulated_roster(4, 0))
    for shop in shops:
        shop.ledger = Ledger(Budget(8.0, 1e-5))
        shop.ledger.approve(masked.roster, shop.member.vouched)
        shop.plans.clear()
    there = run_on_ray(masked, shops, seed=5, actors=2, roster=simulated_roster(4, 0))
    assert there["counts"].tobytes() == here["counts"].tobytes()
    assert [shop.ledger.reservations["m"].charged for shop in shops] == [1] * 4


@pytest.mark.usefixtures("_ray")
def test_both_engines_give_the_same_model_from_the_same_seed(monkeypatch, tmp_path):
    here, there = make_shops(), make_shops()
    there[0].ledger = LedgerFile(tmp_path / "s0.sqlite", Budget(8.0, 1e-5))  # shared by the actors, and kept
    reports, far_reports, before = [], [], set(psutil.Process().children(recursive=True))
    state = run_in_process(PLAN, here, seed=5, listeners=[reports.append])
    with tempfile.TemporaryDirectory(prefix="t") as room:
        monkeypatch.setattr(tempfile, "tempdir", room)
        far_state = run_on_ray(PLAN, there, seed=5, listeners=[far_reports.append], actors=2)
        assert list(Path(room).iterdir()) == []
    assert set(psutil.Process().children(recursive=True)) <= before

    assert far_state.keys() == state.keys()
    for name, table in state.items():
        np.testing.assert_allclose(far_state[name], table, rtol=0, atol=1e-5 * np.abs(table).max())
    assert [report.answered for report in far_reports] == [SHOPS - 1] * len(PLAN.releases)
    for far, near in zip(far_reports, reports, strict=True):
        assert (far.round, far.planned, far.release) == (near.round, near.planned, near.release)
        assert (far.answered, far.missing) == (near.answered, near.missing)
    for far_shop, shop in zip(there, here, strict=True):
        assert far_shop.ledger.reservations == shop.ledger.reservations
    for shop in there[:2]:
        assert shop.ledger.reservations["r"].charged == len(PLAN.steps)
    assert LedgerFile(tmp_path / "s0.sqlite").spent() == here[0].ledger.spent() > 0


def test_without_ray_the_engine_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'hansa\[demo\]'"):
        run_on_ray(PLAN, make_shops(), seed=0)
