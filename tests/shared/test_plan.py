import json
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.dp.accounting import epsilon
from hansa.errors import UsageError
from hansa.figures import declared, default_delta
from hansa.plan import DP_MODELS, METHODS, Plan, build_method, make_plan, parse_plan, shops_cut
from hansa.recommended import rounds_setting
from hansa.rng import seeded_generator


def made(**changed):
    return make_plan(
        **{
            "run": "r",
            "method": "dpsgd",
            "settings": {"gradient_rounds": 3},
            "n_items": 20,
            "dp": "central",
            "epsilon": 1.0,
            "delta": 1e-5,
            "shops": 3,
            "customers": 100,
            **changed,
        }
    )


def as_json(**changed):
    document = json.loads(
        Plan(
            run="r",
            method="popularity",
            settings={},
            n_items=20,
            dp="central",
            noise_scale=1.0,
            delta=1e-5,
            shops=3,
            customers=100,
        ).model_dump_json()
    )
    return json.dumps({**document, **changed})


@pytest.mark.parametrize(
    ("method", "dp", "settings_"),
    [
        ("popularity", "central", {}),
        ("popularity", "local", {"cap": 7}),
        ("dpsgd", "central", {"gradient_rounds": 3, "rate": 0.5, "optimizer": "momentum"}),
        ("dpsgd", "local", {"gradient_rounds": 1, "local_steps": 2, "sampling_rate": 0.25}),
        ("dpsgd", "none", {"rate": 1}),
    ],
)
def test_plans_survive_json(method, dp, settings_):
    text = as_json(method=method, dp=dp, settings=settings_, noise_scale=0.1 + 0.2, delta=1e-7 / 3)
    plan = parse_plan(text)
    assert plan.settings == settings_
    assert (plan.noise_scale, plan.delta) == (0.1 + 0.2, 1e-7 / 3)
    back = parse_plan(plan.model_dump_json())
    assert back == plan
    assert back.releases == plan.releases
    assert back.steps == plan.steps
    assert back.learner == plan.learner


@pytest.mark.parametrize(
    ("method", "dp", "target", "settings_"),
    [
        ("popularity", "central", 0.1, {}),
        ("dpsgd", "central", 1.0, {"gradient_rounds": 3}),
        ("dpsgd", "local", 4.0, {"gradient_rounds": 2, "local_steps": 3}),
    ],
)
def test_calibration_meets_epsilon(method, dp, target, settings_):
    plan = made(method=method, dp=dp, epsilon=target, settings=settings_)
    assert 0.998 * target < epsilon(plan.event(), 1e-5) <= target


def test_without_privacy_there_is_no_noise_and_no_epsilon():
    plan = made(dp="none", epsilon=None)
    assert plan.noise_scale == 0.0
    assert epsilon(plan.event(), 1e-5) == float("inf")


def test_noise_of_all_releases_scales_together():
    plan = made()
    relative = plan.learner.releases()
    assert len(plan.releases) == 4
    for release, unit in zip(plan.releases, relative, strict=True):
        assert release.noise_multiplier == pytest.approx(plan.noise_scale * unit.noise_multiplier)
        assert release.noise_multiplier > 0


def test_a_copy_with_other_noise_has_other_releases_if_the_first_were_not_read():
    plan = made()
    assert plan.model_copy(update={"noise_scale": 9.0}).releases != plan.releases


def test_every_local_step_is_an_event():
    plan = made(dp="local", settings={"gradient_rounds": 2, "local_steps": 3})
    assert len(plan.steps) == 1 + 2 * 3
    assert [release.steps for release in plan.releases] == [1, 3, 3]
    costs = [epsilon(plan.event(rounds), 1e-5) for rounds in (1, 2, 3)]
    assert costs == sorted(costs)
    assert costs[2] == epsilon(plan.event(), 1e-5)
    assert len(plan.event(2).events) == 4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"epsilon": 0.0}, "--epsilon 0"),
        ({"epsilon": -1.0}, "--epsilon -1"),
        ({"epsilon": float("nan")}, "--epsilon nan"),
        ({"epsilon": float("inf")}, "--epsilon inf"),
        ({"epsilon": None}, "--dp none for no privacy"),
        ({"epsilon": 1e-9, "delta": 1e-12}, "--epsilon 1e-09: no noise reaches"),
        ({"delta": 0.0}, "--delta 0: use a value between 0 and 1"),
        ({"delta": 1.0}, "--delta 1: use"),
        ({"delta": -0.5}, "--delta -0.5"),
        ({"dp": "laplace"}, "dp: unknown value 'laplace'; use one of: distributed, local, central, none"),
        ({"method": "svd"}, "method: unknown value 'svd'; use one of: popularity, dpsgd"),
        ({"settings": {"speed": 1}}, "method.speed of dpsgd: unknown value 'speed'; use one of: cand"),
        ({"settings": {"n_items": 1}}, "method.n_items of dpsgd"),
        ({"settings": {"name": "x"}}, "method.name of dpsgd"),
        ({"settings": {"rate": "fast"}}, "method.rate='fast': give a value of type float"),
        ({"settings": {"dimensions": 1.5}}, "method.dimensions=1.5: give a value of type int"),
        ({"settings": {"optimizer": 3}}, "method.optimizer=3: give a value of type str"),
        ({"settings": {"dimensions": 0}}, "method settings of dpsgd: dimensions must be at least 1"),
        ({"settings": {"local_steps": 2}}, "method.local_steps: central takes one step a round"),
    ],
)
def test_bad_plans_are_said_in_one_line(changed, said):
    with pytest.raises(UsageError) as error:
        made(**changed)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rounds", [1, 2, 3, 7])
def test_a_method_takes_the_rounds_asked_for_or_says_why_not(method, rounds):
    chosen = {"refinement_share": 0.3} if method == "hybrid" else {}
    fewest, most = {"popularity": (1, 1), "cooccurrence": (2, 2)}.get(method, (2, 7))
    if fewest <= rounds <= most:
        settings_ = chosen | rounds_setting(method, rounds, 0.3)
        assert len(build_method(method, 20, settings_).releases()) == rounds
    else:
        with pytest.raises(UsageError, match=f"--rounds {rounds}: {method} "):
            rounds_setting(method, rounds, 0.3)


def test_rounds_for_gradients_without_a_share_are_refused():
    with pytest.raises(UsageError, match=r"--rounds 5: hybrid .*--set method\.refinement_share=0\.05"):
        rounds_setting("hybrid", 5, 0.0)


def test_booleans_are_no_numbers():
    with pytest.raises(UsageError, match=r"method\.cap=True: give a value of type int"):
        build_method("popularity", 5, {"cap": True})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "null",
        "[" * 10_000,
        as_json(extra=1),
        as_json(version=2),
        as_json(version=0),
        as_json(run=""),
        as_json(run="x" * 129),
        as_json(method="svd"),
        as_json(method=None),
        as_json(settings={"cap": 0}),
        as_json(settings={"cap": "x"}),
        as_json(settings={"cap": [1]}),
        as_json(settings={"other": 1}),
        as_json(n_items=0),
        as_json(n_items=10**9),
        as_json(n_items=2.5),
        as_json(dp="distributed"),
        as_json(noise_scale=-1.0),
        as_json(noise_scale=float("nan")),
        as_json(noise_scale=float("inf")),
        as_json(delta=0.0),
        as_json(delta=1.0),
        as_json(delta=float("nan")),
        as_json(shops=0),
        as_json(customers=-1),
        as_json(method="dpsgd", settings={"gradient_rounds": 10**12}),
        as_json(method="dpsgd", settings={"gradient_rounds": 10**5, "local_steps": 10**5}),
        as_json(method="dpsgd", settings={"sampling_rate": 0.0}),
        as_json(method="dpsgd", settings={"sampling_rate": float("nan")}),
        as_json(method="dpsgd", settings={"local_steps": 2}),
    ],
)
def test_hostile_plans_are_refused(text):
    with pytest.raises(UsageError) as error:
        parse_plan(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scale", [0.0, 5e-324, 1e-200, 1e-9, 1e-3])
@pytest.mark.parametrize("method", METHODS)
def test_plans_with_hardly_any_noise_are_measured_at_once(scale, method):
    started = time.perf_counter()
    plan = parse_plan(as_json(method=method, noise_scale=scale))
    assert epsilon(plan.event(), plan.delta) > 1000
    assert time.perf_counter() - started < 5


def test_dp_models_and_methods_are_the_promised_ones():
    assert set(DP_MODELS) == {"distributed", "central", "local", "none"}
    assert {"popularity", "dpsgd"} <= set(METHODS)


@pytest.mark.parametrize(
    ("customers", "expected"), [(1, 1e-5), (30_000, 1e-5), (100_000, 10**-5.5), (10**9, 10**-9.9)]
)
def test_default_delta(customers, expected):
    assert default_delta(customers) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=300)
@given(customers=st.integers(0, 10**12))
def test_declared_is_a_round_bound_above(customers):
    figure = declared(customers)
    assert customers <= figure <= max(1, 1.67 * customers) or customers <= 1
    assert declared(figure) == figure
    assert str(figure).rstrip("0") in ("1", "2", "3", "5", "7", "15")
    assert declared(customers + 1) >= figure


@pytest.mark.parametrize(
    ("customers", "figure"),
    [(0, 1), (1, 1), (11, 15), (16, 20), (71, 100), (100, 100), (101, 150), (6040, 7000)],
)
def test_declared_by_example(customers, figure):
    assert declared(customers) == figure


@pytest.mark.parametrize("name", ["cooccurrence", "hybrid", "subspace", "dpals"])
def test_the_shares_of_all_releases_are_one_budget(name):
    settings = {"hybrid": {"refinement_share": 0.3, "refinement_rounds": 7}}.get(name, {})
    spent = [release.noise_multiplier**-2 for release in build_method(name, 50, settings).releases()]
    assert sum(spent) == pytest.approx(1)


ROSTER = "5a" * 32


def shared(**changed):
    usual = {"dp": "distributed", "shops": 10, "settings": {}, "method": "popularity", "roster": ROSTER}
    return made(**{**usual, **changed})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [0.5, 4.0])
def test_every_method_has_a_distributed_plan_within_its_epsilon(method, target):
    plan = shared(method=method, epsilon=target, n_items=50)
    assert 0.995 * target < epsilon(plan.event(), 1e-5) <= target
    for release in plan.releases:
        assert release.noise == "skellam"
        assert plan.bits(release) in (16, 24, 32, 40)
        assert release.event == release.shared_mechanism.event
    assert parse_plan(plan.model_dump_json()) == plan
    assert parse_plan(plan.model_dump_json()).steps == plan.steps


@pytest.mark.parametrize(("shops", "expected"), [(3, (3, 1, 2)), (10, (8, 1, 7)), (40, (32, 4, 28))])
def test_thresholds_by_default_and_what_is_left_of_them(shops, expected):
    plan = shared(shops=shops)
    assert (plan.threshold, plan.colluders, plan.honest) == expected


@pytest.mark.parametrize("dp", ["central", "local"])
def test_thresholds_and_rosters_are_of_distributed_plans_only(dp):
    plan = made(dp=dp, threshold=7, colluders=2, masked=False, roster=ROSTER)
    assert (plan.threshold, plan.colluders, plan.masked, plan.roster) == (0, 0, True, "")
    assert {release.noise for release in plan.releases} == {"gaussian"}


THRESHOLDS = (
    r"secure aggregation: threshold t {} and colluders k {} of 10 shops n; needed: 1 <= k < t <= n and 2"
)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"threshold": 5}, THRESHOLDS.format(5, 1)),
        ({"threshold": 11}, THRESHOLDS.format(11, 1)),
        ({"colluders": 0, "threshold": 8}, THRESHOLDS.format(8, 0)),
        ({"threshold": 6, "colluders": 2}, THRESHOLDS.format(6, 2)),
        ({"shops": 2}, "secure aggregation: 2 shops; it takes 3 to 500"),
        ({"shops": 501}, "secure aggregation: 501 shops; it takes 3 to 500"),
        ({"roster": ""}, "plan: roster: a masked league has one, any other has none"),
        ({"masked": False}, "plan: roster: a masked league has one, any other has none"),
        (
            {"method": "dpsgd", "settings": {"sampling_rate": 0.5}},
            "method.sampling_rate: distributed noise has no amplification by sampling; use 1",
        ),
        (
            {"method": "dpsgd", "settings": {"local_steps": 2}},
            "method.local_steps: distributed takes one step a round; use 1, or --dp local",
        ),
        ({"customers": 10**18}, "would need 80 bits; declare fewer customers"),
        ({"customers": 10**400}, "plan: counts:"),
    ],
)
def test_distributed_plans_that_prove_nothing_are_refused(changed, said):
    with pytest.raises(UsageError) as error:
        shared(**changed)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def distributed(**changed):
    usual = {"dp": "distributed", "shops": 10, "threshold": 8, "colluders": 1, "roster": ROSTER}
    return as_json(**{**usual, **changed})


def test_the_control_is_a_plan():
    assert parse_plan(distributed()).honest == 7


@pytest.mark.parametrize(
    "changed",
    [
        {"threshold": 5},
        {"colluders": 0},
        {"colluders": 8},
        {"threshold": -1},
        {"roster": "5A" * 32},
        {"roster": "5a" * 31},
        {"masked": False},
        {"masked": None},
        {"customers": 10**18},
        {"customers": 10**400},
        {"noise_scale": 1e200},
        {"noise_scale": 1e308},
        {"noise_scale": 1e9},
        {"method": "dpsgd", "settings": {"sampling_rate": 0.5}},
        {"method": "dpsgd", "settings": {"local_steps": 2}},
    ],
)
def test_hostile_distributed_plans_are_refused(changed):
    with pytest.raises(UsageError) as error:
        parse_plan(distributed(**changed))
    assert "\n" not in str(error.value)


def test_noise_that_no_shop_can_draw_is_refused_before_anybody_is_asked():
    with pytest.raises(UsageError, match="a shop's share of the noise would have variance"):
        shared(method="cooccurrence", n_items=8000, settings={"vocabulary": 8000}, epsilon=0.03, shops=3)


@pytest.mark.parametrize("scale", [0.0, 5e-324, 1e-200, 1e-9])
def test_distributed_plans_with_hardly_any_noise_are_measured_as_having_none(scale):
    assert epsilon(parse_plan(distributed(noise_scale=scale)).event(), 1e-5) == math.inf


def test_the_sum_s_modulus_holds_all_shops_shares():
    plan = shared(customers=3000, epsilon=0.05)
    (release,) = plan.releases
    mechanism = release.shared_mechanism
    assert plan.bits(release) == mechanism.bits(3000, 10 / 7)
    assert plan.bits(release) == plan.parameters(1, {}).bits


def test_round_parameters_say_what_the_plan_says():
    plan = shared(method="cooccurrence", n_items=30)
    for round_, release in enumerate(plan.releases, start=1):
        said = plan.parameters(round_, plan.learner.initial_state(seeded_generator(0)))
        mechanism = release.shared_mechanism
        assert (said.run, said.round, said.release) == ("r", round_, release.name)
        assert (said.plan, said.roster) == (plan.digest, ROSTER)
        assert (said.entries, said.scale) == (release.rows * release.width, mechanism.scale)
        assert (said.sensitivity, said.sigma) == (mechanism.squared, release.noise_multiplier)
        assert (said.threshold, said.honest, said.colluders) == (8, 7, 1)
        said.check(plan.shops)


@pytest.mark.parametrize("dp", ["local", "none"])
@pytest.mark.parametrize(
    ("shops", "trim", "cut"),
    [(10, 0.1, 1), (30, 0.1, 3), (9, 0.2, 1), (111, 0.1, 11), (3, 0.34, 1), (5, 0.49, 2)],
)
def test_the_share_is_rounded_down_and_not_by_the_last_bit(dp, shops, trim, cut):
    assert shops_cut(dp, shops, trim) == cut


@pytest.mark.parametrize("dp", ["local", "none", "central", "distributed"])
def test_the_plain_sum_is_for_every_model_and_a_single_shop(dp):
    assert shops_cut(dp, 1, 0.0) == 0


@pytest.mark.parametrize(
    ("dp", "shops", "trim", "said"),
    [
        ("central", 10, 0.1, "noise of central is calibrated to the plain sum .* use --dp local"),
        ("distributed", 10, 0.1, "under masks nobody sees what a single shop sends"),
        ("local", 9, 0.1, "cuts 0 of 9 shops .* cuts at least one"),
        ("local", 1, 0.4, "cuts 0 of 1 shops"),
        ("local", 2, 0.4, "cuts 0 of 2 shops"),
        ("none", 10, 0.4999999999999, "leaves at least one"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_one_line(dp, shops, trim, said):
    with pytest.raises(UsageError, match=f"robust.trim .*{said}") as refused:
        shops_cut(dp, shops, trim)
    assert "\n" not in str(refused.value)


def trimmed(**changed):
    return make_plan(
        **{
            "run": "r",
            "method": "popularity",
            "settings": {},
            "n_items": 20,
            "dp": "local",
            "epsilon": 1.0,
            "delta": 1e-5,
            "shops": 20,
            "customers": 100,
            "trim": 0.1,
            **changed,
        }
    )


def test_the_plan_travels_with_what_is_cut_and_its_noise_is_that_of_the_plain_one():
    plan = parse_plan(trimmed().model_dump_json())
    assert (plan.trim, plan.cut) == (0.1, 2)
    assert plan.noise_scale == trimmed(trim=0.0).noise_scale
    assert plan.digest != trimmed(trim=0.0).digest


@pytest.mark.parametrize("dp", ["central", "distributed"])
def test_a_plan_that_cannot_be_cut_is_refused_where_it_is_made_and_where_it_arrives(dp):
    with pytest.raises(UsageError, match=r"robust\.trim"):
        trimmed(dp=dp)
    sent = trimmed(dp=dp, trim=0.0, masked=False).model_copy(update={"trim": 0.1}).model_dump_json()
    with pytest.raises(UsageError, match=r"robust\.trim"):
        parse_plan(sent)


@pytest.mark.parametrize("trim", ["0.5", "-0.1", "1e400"])
def test_a_plan_with_an_impossible_share_is_malformed(trim):
    text = trimmed().model_dump_json().replace('"trim":0.1', f'"trim":{trim}')
    with pytest.raises(UsageError, match="plan: trim"):
        parse_plan(text)
