from types import SimpleNamespace
from typing import Any, cast

import pytest

from hansa.errors import UsageError
from hansa.figures import default_delta
from hansa_server.planning import plan_run
from hansa_server.settings import Training
from hansa_simulations.experiment import plan_for
from hansa_simulations.federation import Federation
from hansa_simulations.members import simulated_roster
from hansa_simulations.settings import PrivacySection, SecaggSection, SimulationSettings

ITEMS, SHOPS = 500, 12
ROSTER = simulated_roster(SHOPS, 0)


@pytest.mark.parametrize("dp", ["local", "distributed"])
@pytest.mark.parametrize(
    ("method", "rounds", "given"),
    [
        ("popularity", 0, {}),
        ("cooccurrence", 0, {"vocabulary": 120}),
        ("hybrid", 5, {"refinement_share": 0.1}),
        ("dpals", 4, {}),
    ],
)
def test_a_league_plans_as_the_simulation_did(
    dp: str, method: str, rounds: int, given: dict[str, Any]
) -> None:
    """What ``hansa simulate`` has shown is what shops get, from the same public figures."""
    training = Training(
        method=cast(Any, method), dp=cast(Any, dp), epsilon=2.0, rounds=rounds, customers=5000, settings=given
    )
    settings = SimulationSettings(
        method=cast(Any, method),
        dp=cast(Any, dp),
        epsilon=2.0,
        rounds=rounds or None,
        hyperparameters=given,
        secagg=SecaggSection(mode="full"),
        privacy=PrivacySection(customers=5000),
    )
    federation = SimpleNamespace(name="x", shops=[None] * SHOPS, items=ITEMS, customers=0)
    theirs = plan_for(settings, cast(Federation, federation), 0)
    ours, why = plan_run(training, theirs.run, SHOPS, ITEMS, ROSTER if dp == "distributed" else None)
    assert ours == theirs
    assert ours.delta == default_delta(5000)
    assert why == ""


def test_a_large_catalogue_takes_another_method() -> None:
    wanted = Training(customers=10**9, epsilon=8.0, dp="local")
    plan, why = plan_run(wanted, "r", 3, 20_000, None)
    assert plan.method == "subspace"
    assert "subspace in place of cooccurrence" in why


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"customers": 0}, "training.customers: not declared"),
        ({"threshold": 3, "colluders": 2}, "secure aggregation: threshold"),
        ({"trim": 0.1}, "robust.trim"),
        ({"rounds": 7}, "--rounds 7"),
        ({"settings": {"no_such": 1}}, "no_such"),
    ],
)
def test_what_cannot_be_had(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        plan_run(Training(**{"customers": 1000, **settings}), "r", SHOPS, ITEMS, ROSTER)
