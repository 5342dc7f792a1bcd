"""Thousands of releases as lines: none is lost, and different ones stay apart."""

from hansa.audit.document import Cap, Member, Party, Release
from hansa.audit.grouping import by_run, equal_caps, equal_members, growth, without_keys


def release(number, name="step", run="spring", multiplier=2.0, **more):
    fields = {
        "time": "2026-01-02T03:04:05+00:00", "round": number, "mechanism": "Gaussian", "bound": 1.0,
        "parts": [(multiplier, 1.0, 1)], "sigma": multiplier, "multiplier": multiplier, "sampling": 1.0,
        "to": "baltic", "shops": None, "epsilon_after": 0.1 * number, "log": None,
    }  # fmt: skip
    return Release(number=number, run=run, release=name, **{**fields, **more})


def test_equal_releases_in_a_row_are_one_line_with_their_range():
    (found,) = by_run([release(1, "counts"), *(release(n) for n in range(2, 5000))])
    assert [(line.first.number, line.last.number, line.releases) for line in found.lines] == [
        (1, 1, 1),
        (2, 4999, 4998),
    ]
    assert not found.mixed
    assert found.releases == 4999


def test_releases_with_other_noise_bound_or_sampling_stay_apart():
    different = [
        release(1), release(2, multiplier=3.0), release(3, bound=2.0), release(4, sampling=0.1),
        release(5, parts=[(2.0, 1.0, 7)]), release(6, to="hanse"), release(7, "other"),
    ]  # fmt: skip
    (found,) = by_run(different)
    assert [line.first.number for line in found.lines] == [1, 2, 3, 4, 5, 6, 7]
    assert [line.sums for line in found.lines] == [1, 1, 1, 1, 7, 1, 1]


def test_releases_that_take_turns_are_still_few_lines():
    (found,) = by_run([release(n, "users" if n % 2 else "items") for n in range(1, 2001)])
    assert found.mixed
    assert [(line.first.release, line.releases) for line in found.lines] == [("users", 1000), ("items", 1000)]


def test_runs_that_take_turns_are_told_apart():
    found = by_run([release(1, run="a"), release(2, run="b"), release(3, run="a")])
    assert [(each.run, each.releases) for each in found] == [("a", 2), ("b", 1)]


def test_shops_are_a_range():
    (found,) = by_run([release(1, shops=9), release(2, shops=7), release(3, shops=8)])
    assert found.lines[0].shops == (7, 9)


def test_growth_adds_up_to_what_was_charged():
    found = growth([release(1, "counts"), release(2), release(3), release(4, run="autumn")])
    assert list(found) == [("spring", "counts"), ("spring", "step"), ("autumn", "step")]
    assert abs(sum(found.values()) - 0.4) < 1e-12
    assert growth([release(1), release(2, epsilon_after=None)]) == {}


def test_caps_that_differ_by_name_alone_are_one_line():
    caps = [
        Cap(run="a", release=name, bound=bound, interactions=5)
        for name, bound in (("x", 1.0), ("y", 1.0), ("z", 2.0))
    ]
    assert [(cap.bound, names) for cap, names in equal_caps(caps)] == [(1.0, ["x", "y"]), (2.0, ["z"])]


def member(number, epsilon=1.0):
    return Member(
        shop=f"shop {number}", ledger=None, key=None, statements=1, answered=1, sequence=3, epsilon=epsilon
    )


def test_few_shops_are_listed_and_many_equal_ones_are_one_line():
    assert len(equal_members([member(n) for n in range(30)])) == 30
    found = equal_members([*(member(n) for n in range(100)), member(100, 2.0)])
    assert [len(group) for group in found] == [100, 1]


def test_parties_without_a_key_are_listed_by_role():
    parties = [
        Party(role="shop", name="a", key=None),
        Party(role="shop", name="b", key="k"),
        Party(role="coordinator", name="c", key=None),
        Party(role="shop", name="d", key=None),
    ]
    assert without_keys(parties) == [("shop", ["a", "d"]), ("coordinator", ["c"])]
