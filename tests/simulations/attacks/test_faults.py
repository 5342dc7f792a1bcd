from functools import cache

import pytest

from hansa_simulations.attacks.faults import (
    CHARGED_ONCE,
    FAULTS,
    NONE,
    Caught,
    as_expected,
    small_federation,
    try_fault,
)


@cache
def caught(fault, dp):
    found = try_fault(fault, dp, small_federation(), trials=300_000, repeats=150, level=0.001)
    return {name for name, yes in found.by.items() if yes}


@pytest.mark.parametrize("dp", ["local", "distributed"])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_caught(fault, dp):
    assert caught(fault, dp)


def test_the_coordinators_noise_is_attacked_too():
    assert caught("noise halved", "central") == {"door: trials"}


@pytest.mark.parametrize("dp", ["local", "distributed", "central"])
def test_without_faults_nothing_is_broken(dp):
    assert not caught(NONE, dp)


@pytest.mark.parametrize(
    ("fault", "by"),
    [
        ("no noise", "canaries: guesses"),
        ("noise halved", "door: trials"),
        ("clipping off by 4", "canaries: one left out"),
        ("a counter beside the sum", "door: beside the sum"),
        ("a counter inside the sum", "entries"),
        (CHARGED_ONCE, "door: trials"),
        ("state leaking between customers", "door: one left out"),
    ],
)
def test_by_the_attack_that_is_made_for_it(fault, by):
    assert by in caught(fault, "local")


def test_one_run_of_canaries_misses_clipping_that_is_off():
    assert "canaries: guesses" not in caught("clipping off by 4", "local")


def test_faults_are_gone_afterwards():
    for fault in FAULTS.values():
        with pytest.raises(RuntimeError), fault():
            raise RuntimeError
    again = try_fault(NONE, "local", small_federation(), trials=50_000, repeats=20, level=0.001)
    assert not any(again.by.values())


def test_what_is_not_as_expected_is_named():
    good = Caught("noise halved", "local", {"door": True}, [])
    missed = Caught("noise halved", "central", {"door": False}, [])
    wronged = Caught(NONE, "local", {"door": True}, [])
    assert as_expected([good, Caught(NONE, "local", {"door": False}, [])]) == []
    assert as_expected([missed, wronged]) == [
        "noise halved (central): no attack caught it",
        "local: door refutes a claim although no fault was planted",
    ]
