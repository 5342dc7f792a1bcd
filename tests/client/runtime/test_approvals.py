from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.cli import main
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import RefusalError, UsageError
from hansa.league import ModelCard
from hansa.plan import METHODS, make_plan
from hansa.recommended import epsilon_of_sum, recommended_settings
from hansa.records import Request
from hansa.rng import seeded_generator
from hansa.secagg.messages import Agreement, Survivors
from hansa.secagg.parameters import default_threshold
from hansa.secagg.roster import Roster
from hansa_client.config import Approvals, read_settings
from hansa_client.rounds.payment import dearest
from hansa_client.runtime.approvals import ForbiddenError, Policy, cost, outside_ranges, read_config
from hansa_client.runtime.decisions import MOST, Decisions, Question
from hansa_client.runtime.questions import describe_roster, protection

BUNDLE = "ab" * 32
SHOPS = ("s1", "s2", "s3", "s4")


def keys(names=SHOPS, seed=0):
    private = [
        Ed25519PrivateKey.from_private_bytes(bytes([seed + place]) * 32) for place in range(len(names))
    ]
    return Roster(
        {name: key.public_key().public_bytes_raw() for name, key in zip(names, private, strict=True)}
    )


def plan(run="r", dp="local", epsilon=1.0, method="dpsgd", delta=1e-5, **changed):
    settings = {"dimensions": 3, "gradient_rounds": 2} if method == "dpsgd" else {}
    return make_plan(
        **{"run": run, "method": method, "settings": settings, "n_items": 12, "dp": dp,
           "epsilon": None if dp == "none" else epsilon, "delta": delta, "shops": 4, "customers": 50,
           **changed}
    )  # fmt: skip


def masked(run="r", roster=None, **changed):
    return plan(run, "distributed", roster=(roster or keys()).digest, **changed)


def asking(asked, **changed):
    return replace(Request(asked.run, 0, asked.model_dump_json(), {}), **changed)


def state_of(asked):
    return asked.learner.initial_state(seeded_generator(0))


def config(asked, **more):
    return {"plan": asked.model_dump_json(), **more}


@pytest.fixture
def policy(shop_home):
    return make_policy(shop_home)


def make_policy(home, **approvals):
    settings = read_settings(home.settings)
    return Policy(
        home, settings.model_copy(update={"approvals": settings.approvals.model_copy(update=approvals)})
    )


def admit(policy, asked, kind="query.plan", request=None, configuration=None):
    return policy.admit(kind, configuration or config(asked), request or asking(asked), "s1")


def reason(policy, asked, **given):
    with pytest.raises(RefusalError) as caught:
        admit(policy, asked, **given)
    return caught.value.reason


def forbidden(policy, asked, **given):
    with pytest.raises(ForbiddenError) as caught:
        admit(policy, asked, **given)
    return caught.value.reason.removeprefix("refused by shop policy: ")


def rare(noise_scale):
    """A plan that asks fewer customers than delta, so that their noise hardly counts in its epsilon."""
    settings = {"dimensions": 3, "gradient_rounds": 1, "local_steps": 1, "sampling_rate": 9e-6}
    return plan(settings={**settings, "count_share": 1 - 1.4e-6}).with_noise(noise_scale)


def test_a_plan_without_noise_for_the_few_that_it_samples_is_outside(policy):
    asked = rare(4.0)
    assert min(release.noise_multiplier for release in asked.releases) < 0.05
    assert cost(asked, policy.settings.budget.delta) < policy.settings.approvals.epsilon
    assert outside_ranges(asked, policy.settings) == ["noise"]
    assert reason(policy, asked) == "outside the shop's ranges: noise"


@pytest.mark.parametrize("dp", ["local", "distributed"])
def test_the_least_noise_is_the_shops_own_and_of_the_whole_noise(policy, dp):
    asked = masked() if dp == "distributed" else plan()
    least = min(release.noise_multiplier for release in asked.releases)
    for noise, outside in ((least, []), (least * 1.01, ["noise"])):
        settings = make_policy(policy.home, noise=noise, dp=(dp,)).settings
        assert outside_ranges(asked, settings) == outside


@pytest.mark.parametrize("dp", ["local", "distributed"])
@pytest.mark.parametrize("method", METHODS)
def test_recommended_plans_up_to_epsilon_16_have_noise_enough(policy, dp, method):
    shops = 5
    threshold, colluders = default_threshold(shops, None) if dp == "distributed" else (0, 0)
    spent = epsilon_of_sum(16.0, dp, shops, threshold, colluders)
    chosen = recommended_settings(method, spent, 20_000)
    roster = keys().digest if dp == "distributed" else ""
    asked = plan(dp=dp, epsilon=16.0, method=method, settings=chosen, n_items=300, shops=shops, roster=roster)
    assert "noise" not in outside_ranges(asked, policy.settings)


def test_a_plan_inside_the_ranges_is_admitted(policy):
    assert admit(policy, plan()) == plan()
    assert Decisions(policy.home).waiting() == []


def test_an_unapproved_bundle_is_refused_and_asked_about(shop_home):
    with pytest.raises(ForbiddenError, match="the bundle abababababababab is not approved"):
        make_policy(shop_home).admit_bundle(BUNDLE)
    (question,) = Decisions(shop_home).waiting()
    assert (question.kind, question.digest) == ("bundle", BUNDLE)
    make_policy(shop_home, bundles=(BUNDLE,)).admit_bundle(BUNDLE)


@pytest.mark.parametrize(
    "more",
    [{"hansa-shops": "x"}, {"lr": 0.1}, {"plan": 3}, {"round-timeout": "long"}, {"round-timeout": True}],
)
def test_other_settings_in_a_runs_configuration_are_refused(policy, more):
    assert "other settings" in forbidden(policy, plan(), configuration=config(plan()) | more)


def test_empty_defaults_of_a_bundle_count_as_absent():
    assert read_config({"plan": "x", "hansa-roster": "", "model": "", "round-timeout": 3.0}) == {
        "plan": "x",
        "round-timeout": 3.0,
    }


def test_a_plan_that_cannot_be_read_is_refused(policy):
    assert forbidden(policy, plan(), configuration={"plan": "{}"}) == "the plan cannot be read"
    assert "no plan" in forbidden(policy, plan(), configuration={"round-timeout": 3.0})


@pytest.mark.parametrize("dp", ["central", "none"])
def test_bare_sums_are_refused_whatever_was_approved(shop_home, dp):
    policy, asked = make_policy(shop_home, epsilon=1e9), plan(dp=dp)
    (shop_home.root / "approved-plans").write_text(asked.digest)
    assert reason(policy, asked) == "outside the shop's ranges: dp"
    assert Decisions(shop_home).waiting() == []


@pytest.mark.parametrize(
    ("range_", "asked", "approvals"),
    [
        ("epsilon", plan(epsilon=6.2), {}),
        ("method", plan(method="popularity"), {"methods": ("dpsgd",)}),
        ("releases", plan(), {"releases": 2}),
        ("releases", plan(settings={"gradient_rounds": 2, "local_steps": 6}), {"releases": 12}),
        ("delta", plan(delta=1e-4, epsilon=0.5), {}),
        ("dp", masked(), {"dp": ("local",)}),
        ("shops", masked(), {"dp": ("distributed",), "shops": 5}),
        ("masked", plan(dp="distributed", masked=False), {"dp": ("distributed",)}),
    ],
)
def test_each_range_is_looked_at(shop_home, range_, asked, approvals):
    policy = make_policy(shop_home, **approvals)
    assert reason(policy, asked) == f"outside the shop's ranges: {range_}"
    (question,) = Decisions(shop_home).waiting()
    assert (question.kind, question.digest, question.body) == ("plan", asked.digest, asked.model_dump_json())


@pytest.mark.parametrize("method", sorted(METHODS))
def test_recommended_settings_lie_within_the_default_ranges(method):
    ranges = Approvals()
    for dp in ("local", "distributed"):
        for steps in (1, 5) if (method, dp) == ("dpsgd", "local") else (1,):
            settings = {"local_steps": steps} if method == "dpsgd" else {}
            given = {"settings": settings, "customers": 100_000, "n_items": 1000}
            asked = masked(method=method, **given) if dp == "distributed" else plan(method=method, **given)
            assert len(asked.steps) * 2 <= ranges.releases


def test_too_many_sums_are_not_even_priced(policy, monkeypatch):
    monkeypatch.setattr("hansa_client.runtime.approvals.price", lambda *given: pytest.fail("priced"))
    many = plan(settings={"gradient_rounds": 11, "local_steps": 100}, epsilon=1.0)
    assert outside_ranges(many, policy.settings) == ["releases"]


def test_epsilon_is_that_of_the_whole_plan_at_the_ledgers_delta(shop_home):
    asked = plan(epsilon=1.0, delta=1e-5)
    settings = make_policy(shop_home, epsilon=1.0).settings
    assert outside_ranges(asked, settings) == []
    narrow = settings.model_copy(update={"budget": settings.budget.model_copy(update={"delta": 1e-6})})
    assert outside_ranges(asked, narrow) == ["delta", "epsilon"]


def test_where_every_plan_is_asked_for_an_approved_one_runs(shop_home):
    policy = make_policy(shop_home, plans="ask")
    assert reason(policy, plan()) == "the plan waits for the operator's approval"
    decisions = Decisions(shop_home)
    (question,) = decisions.waiting()
    decisions.approve(question, LedgerFile(shop_home.ledger))
    assert admit(policy, plan()) == plan()
    assert reason(policy, plan(epsilon=1.1)) == "the plan waits for the operator's approval"


def test_a_rejected_plan_is_not_asked_about_again(shop_home):
    policy, decisions = make_policy(shop_home, plans="ask"), Decisions(shop_home)
    assert reason(policy, plan())
    decisions.reject(decisions.waiting()[0])
    assert reason(policy, plan()) == "the operator has rejected the plan"
    assert decisions.waiting() == []


def test_a_rejected_plan_does_not_run_where_it_lies_inside_the_ranges(policy):
    Decisions(policy.home).reject(Question("plan", plan().digest, "", "", plan().model_dump_json()))
    assert reason(policy, plan()) == "the operator has rejected the plan"
    assert reason(policy, plan(), kind="train.release", request=release(plan()))
    assert admit(policy, plan("other")) == plan("other")


@pytest.mark.parametrize("kind", ["train", "train.evaluate", "query.customers", "evaluate", "system"])
def test_unknown_types_of_messages_are_refused(policy, kind):
    assert forbidden(policy, plan(), kind=kind) == "unknown type of message"


def release(asked, **changed):
    return replace(Request(asked.run, 1, "", state_of(asked)), **changed)


@pytest.mark.parametrize(
    ("kind", "request_", "why"),
    [
        ("query.plan", asking(plan(), state=state_of(plan())), "arrays where"),
        ("query.plan", asking(plan(), fields={"shop": "s1"}), "a protocol record where"),
        ("query.plan", asking(plan(), round=1), "contradicts itself"),
        ("query.plan", asking(plan(epsilon=0.9)), "the message's plan is not the configuration's"),
        ("query.plan", asking(plan("other")), "another run"),
        ("query.plan", asking(plan(), body="{}"), "malformed"),
        ("train.release", release(plan(), state={}), "arrays where"),
        ("train.release", release(plan(), body="x"), "malformed"),
        ("train.release", release(plan(), run="other"), "another run"),
        ("train.release", release(plan(), round=0), "no such round"),
        ("train.release", release(plan(), round=9), "no such round"),
        ("train.release", release(plan(), fields={"more": 1}), "a protocol record where"),
        ("query.agree", Request("r", 1, "", {}, Survivors([], []).to_fields()), "does not belong"),
        ("query.agree", Request("r", 1, "", {}, {"survivors": []}), "malformed"),
        ("query.agree", Request("r", 1, "", {}, Agreement("s1", bytes(64)).to_fields()), "malformed"),
        ("query.advertise", Request("r", 1, "{}", {}), "malformed"),
    ],
)
def test_a_message_says_what_its_type_says_and_nothing_more(policy, kind, request_, why):
    assert why in forbidden(policy, plan(), kind=kind, request=request_)


def test_a_release_of_a_masked_plan_is_not_asked_for_bare(shop_home):
    policy, asked = make_policy(shop_home, dp=("distributed",)), masked()
    with_roster = config(asked, **{"hansa-roster": keys().to_json()})
    why = forbidden(policy, asked, kind="train.release", request=release(asked), configuration=with_roster)
    assert "does not belong" in why


def card(run="r"):
    return ModelCard(league="l", model="m", run=run, plan="{}", shops=[["s1"]], sha256="0" * 64, created="")


def test_a_model_comes_with_its_plan_or_by_itself(policy):
    model = Request("r", 1, card().to_json(), {"item": np.zeros((2, 2), np.float32)})
    assert admit(policy, plan(), kind="query.model", request=model) == plan()
    assert policy.admit("query.model", {"model": "m"}, model, "s1") is None
    with pytest.raises(ForbiddenError):
        policy.admit("query.plan", {"model": "m"}, asking(plan()), "s1")
    with pytest.raises(ForbiddenError):
        policy.admit("query.model", {"model": "m"}, replace(model, run="x"), "s1")
    assert "both plan and model" in forbidden(policy, plan(), configuration=config(plan(), model="m"))


# Rosters


def test_a_roster_is_the_plans_lists_the_shop_and_waits(shop_home):
    policy = make_policy(shop_home, dp=("distributed",))
    others = keys(seed=9)
    for text, why in [
        ("", "cannot be read"),
        (others.to_json(), "not the plan's"),
    ]:
        assert why in forbidden(policy, masked(), configuration=config(masked(), **{"hansa-roster": text}))
    absent = keys(("a", "b", "c", "d"))
    given = config(masked(roster=absent), **{"hansa-roster": absent.to_json()})
    assert "does not list this shop" in forbidden(policy, masked(roster=absent), configuration=given)
    given = config(masked(), **{"hansa-roster": keys().to_json()})
    assert reason(policy, masked(), configuration=given) == "the roster waits for the operator's approval"
    (question,) = Decisions(shop_home).waiting()
    assert (question.kind, question.body) == ("roster", keys().to_json())


def test_no_roster_comes_with_a_plan_that_masks_nothing(policy):
    given = config(plan(), **{"hansa-roster": keys().to_json()})
    assert "masks nothing" in forbidden(policy, plan(), configuration=given)


def ask_roster(home, roster):
    Decisions(home).ask("roster", roster.digest, "new", roster.to_json())
    return f"roster-{roster.digest[:10]}"


def run(home, *arguments):
    return main(["client", "approvals", *arguments, "--home", str(home.root)])


def test_approving_a_roster_writes_file_settings_and_ledger(shop_home, capsys):
    name = ask_roster(shop_home, keys())
    assert run(shop_home, "show", name) == 0
    shown = capsys.readouterr().out
    for shop in SHOPS:
        assert f"new     {keys().fingerprint(shop)}  {shop}" in shown
    assert "3 of 4: 2 may side with the coordinator; rounds of at least 4 shops are joined" in shown
    assert "2 of 4: 3 may side with the coordinator; no round is joined" in shown
    assert run(shop_home, "approve", name, "--vouch", "s2,s3") == 0
    assert "vouched for 3 of 4: 2 may side with the coordinator" in capsys.readouterr().out
    ledger = LedgerFile(shop_home.ledger)
    assert (ledger.roster, ledger.vouched) == (keys().digest, ("s2", "s3"))
    assert read_settings(shop_home.settings).masking.vouched == ("s2", "s3")
    assert "# the shop's own file" in shop_home.settings.read_text()
    assert Decisions(shop_home).waiting() == []
    policy = make_policy(shop_home, dp=("distributed",))
    assert admit(policy, masked(), configuration=config(masked(), **{"hansa-roster": keys().to_json()}))


def test_a_changed_roster_shows_what_is_new_changed_and_gone(shop_home, capsys):
    run(shop_home, "approve", ask_roster(shop_home, keys()), "--vouch", "s2,s3")
    swapped = keys(seed=40).keys["s3"]
    changed = Roster(
        {"s1": keys().keys["s1"], "s2": keys().keys["s2"], "s3": swapped, "s9": bytes(range(32))}
    )
    name = ask_roster(shop_home, changed)
    found = describe_roster(changed, Decisions(shop_home))
    assert {each["shop"]: (each["mark"], each["vouched"]) for each in found["shops"]} == {
        "s1": ("known", False),
        "s2": ("known", True),
        "s3": ("changed", False),
        "s9": ("new", False),
    }
    assert found["gone"] == ["s4"]
    capsys.readouterr()
    assert run(shop_home, "approve", name) == 0
    assert LedgerFile(shop_home.ledger).vouched == ("s2",)  # not the one whose key was swapped


def test_only_shops_on_the_roster_are_vouched_for(shop_home, capsys):
    name = ask_roster(shop_home, keys())
    assert run(shop_home, "approve", name, "--vouch", "s2,nobody") == 2
    assert "--vouch nobody: not on the roster" in capsys.readouterr().err
    assert not shop_home.roster.exists()


def test_sybils_do_not_help_a_coordinator():
    terms = read_settings_default()
    assert protection(4, 4, terms) == {"vouched": 4, "suspects": 1, "threshold": 3}
    assert protection(40, 4, terms)["threshold"] == 39
    assert protection(40, 2, terms)["threshold"] is None


def read_settings_default():
    from hansa_client.config import Masking

    return Masking()


# The other kinds


def test_approving_a_bundle_adds_it_to_the_settings(shop_home):
    Decisions(shop_home).ask("bundle", BUNDLE, "new")
    assert run(shop_home, "approve", f"bundle-{BUNDLE[:10]}") == 0
    assert read_settings(shop_home.settings).approvals.bundles == (BUNDLE,)
    assert "# one of each release" in shop_home.settings.read_text()


def test_a_plans_printout_has_its_cost_and_what_it_leaves(shop_home, capsys):
    asked = plan(epsilon=4.2)
    assert reason(make_policy(shop_home), asked)
    assert run(shop_home, "show", f"plan-{asked.digest[:10]}") == 0
    shown = capsys.readouterr().out
    repeated = dearest(asked, read_settings(shop_home.settings).approvals.repeats, 1e-5)
    assert 4.3 < repeated < 9
    assert f"local noise, epsilon 4.2 at delta 1e-05, up to {repeated:.4g} with repeats; 3 private" in shown
    assert "outside   epsilon" in shown
    assert "0 of 4.5 is spent; 0.3" in shown
    assert run(shop_home, "reject", f"plan-{asked.digest[:10]}") == 0
    assert run(shop_home, "list") == 0
    assert "nothing waits" in capsys.readouterr().out


def test_an_unknown_name_is_a_usage_error(shop_home, capsys):
    assert run(shop_home, "approve", "plan-0000000000") == 2
    assert "nothing of that name waits" in capsys.readouterr().err
    decisions = Decisions(shop_home)
    decisions.ask("bundle", BUNDLE, "new")
    (question,) = decisions.waiting()
    with pytest.raises(UsageError, match="is not a roster"):
        decisions.approve(question, LedgerFile(shop_home.ledger), ["s2"])


@pytest.mark.parametrize("kind", sorted(MOST))
def test_questions_neither_fill_the_disk_nor_keep_others_out(shop_home, kind):
    decisions, roster = Decisions(shop_home), keys()
    digests = [f"{number:064x}"[::-1] for number in range(MOST[kind] + 20)]
    for digest in digests:
        assert decisions.ask(kind, digest, "junk")
    left = [question.digest for question in decisions.waiting()]
    assert sorted(left) == sorted(digests[-MOST[kind] :])
    for other in sorted(MOST):
        assert decisions.ask(other, roster.digest, "the real one", roster.to_json())
    ids = {question.id for question in decisions.waiting()}
    assert {f"{other}-{roster.digest[:10]}" for other in MOST} <= ids
    assert len(ids) == MOST[kind] + len(MOST) - 1


def test_a_question_that_could_not_be_put_is_told_of(policy):
    policy.home.pending.write_text("in the way")
    asked = plan(epsilon=6.2)
    assert reason(policy, asked) == "the question could not be put to the shop's operator"
    policy.home.pending.unlink()
    assert reason(policy, asked) == "outside the shop's ranges: epsilon"
