"""Which plan a simulated run gets: its method, hyperparameters and rounds."""

import pytest

from hansa.errors import UsageError
from hansa.plan import setting_types
from hansa_simulations.experiment import plan_for
from hansa_simulations.federation import DataSettings, load_federation
from hansa_simulations.settings import make_settings
from hansa_simulations.synthetic_parameters import SyntheticParameters


@pytest.fixture(scope="module")
def federation():
    few = SyntheticParameters(customers=150, items=120, shops=3)
    return load_federation("synthetic", settings=DataSettings(synthetic=few))


def plan(federation, *assignments, **options):
    return plan_for(make_settings({"scenario": "synthetic", **options}, list(assignments)), federation, 0)


MANY = "privacy.customers=100000"  # for whom gradients pay
GIVEN = "method.refinement_share=0.3"


@pytest.mark.parametrize(
    ("options", "assignments", "expected"),
    [
        ({}, [], 2),
        ({}, [MANY], 12),
        ({"rounds": 2}, [], 2),
        ({"rounds": 2}, [MANY], 2),
        ({"rounds": 2, "dp": "none", "epsilon": None}, [], 2),
        ({"rounds": 6}, [MANY], 6),
        ({"rounds": 6}, [GIVEN], 6),
        ({"rounds": 6, "dp": "none", "epsilon": None}, [], 6),
        ({"rounds": 6, "protocol": "random20"}, [GIVEN], 6),
    ],
)
def test_hybrid_takes_the_rounds_asked_for(federation, options, assignments, expected):
    made = plan(federation, *assignments, method="hybrid", **options)
    assert len(made.releases) == expected
    assert [release.name for release in made.releases[:3]] == ["counts", "pairs", "refinement"][:expected]


@pytest.mark.parametrize(
    ("options", "assignments", "said"),
    [
        ({"rounds": 6}, [], "--set method.refinement_share=0.05"),
        ({"rounds": 6, "protocol": "random20"}, [MANY], "--set method.refinement_share=0.05"),
        ({"rounds": 6}, [MANY, "method.refinement_share=0"], "--set method.refinement_share=0.05"),
        ({"rounds": 1}, [], "at least 2"),
        ({"rounds": 2}, [GIVEN], "hybrid takes 12; leave one of them out"),
        ({"rounds": 6}, [GIVEN, "method.refinement_rounds=9"], "hybrid takes 11; leave one of them out"),
    ],
)
def test_rounds_that_hybrid_would_not_take_are_refused(federation, options, assignments, said):
    with pytest.raises(UsageError) as error:
        plan(federation, *assignments, method="hybrid", **options)
    assert str(error.value).startswith(f"--rounds {options['rounds']}: ")
    assert said in str(error.value)


@pytest.mark.parametrize("method", ["cooccurrence", "hybrid", "subspace", "dpals", "dpsgd", "popularity"])
def test_random20_has_no_newest_items_and_no_next_ones(federation, method):
    made = plan(federation, MANY, method=method, protocol="random20").learner
    assert getattr(made, "recency", 0.0) == 0.0
    assert getattr(made, "refinement_share", 0.0) == 0.0
    ordered = plan(federation, MANY, method=method).learner
    for name in {"recency", "refinement_share"} & set(setting_types(method)):
        assert getattr(ordered, name) > 0
    if "nearness" in setting_types(method):
        assert made.nearness == ordered.nearness > 0
    chosen = plan(federation, MANY, *_set(method), method=method, protocol="random20").learner
    assert getattr(chosen, "recency", 0.25) == 0.25


def _set(method):
    return ["method.recency=0.25"] if "recency" in setting_types(method) else []
