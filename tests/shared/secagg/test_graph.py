from __future__ import annotations

from itertools import combinations

import pytest

from hansa.rng import seeded_generator
from hansa.secagg.graph import Graph, fewest_in_two_windows, reach


def connected(left: set[int], places: int, window: int) -> bool:
    found, ahead = set(), [min(left)] if left else []
    while ahead:
        place = ahead.pop()
        if place not in found:
            found.add(place)
            ahead += [
                other for other in left if min((other - place) % places, (place - other) % places) <= window
            ]
    return found == left


@pytest.mark.parametrize(("places", "window"), [(7, 1), (9, 2), (10, 2), (11, 3), (10, 3)])
def test_no_k_can_cut_survivors_that_the_condition_passes(places: int, window: int) -> None:
    """Against the real vertex connectivity by brute force, for every k and many sets of survivors."""
    generator = seeded_generator(places, window)
    tight = 0
    for trial in range(40):
        kept = (
            set(range(places))
            if trial == 0
            else set(generator.permutation(places)[: places - trial % 5].tolist())
        )
        fewest = fewest_in_two_windows([place in kept for place in range(places)], window)
        cuts = [
            size
            for size in range(len(kept))
            for gone in combinations(kept, size)
            if not connected(kept - set(gone), places, window)
        ]
        vertex_connectivity = min(cuts, default=places)
        assert fewest <= vertex_connectivity
        tight += fewest == vertex_connectivity
    assert tight, "the condition is not only safe but as weak as it can be"


@pytest.mark.parametrize("places", [5, 8, 13])
def test_two_windows_by_brute_force(places: int) -> None:
    generator = seeded_generator(places)
    for window in range(1, places // 2 + 1):
        present = (generator.random(places) < 0.6).tolist()
        spans = [{(start + step) % places for step in range(window)} for start in range(places)]
        fewest = min(
            sum(present[place] for place in one | other)
            for one in spans
            for other in spans
            if not one & other
        )
        assert fewest_in_two_windows(present, window) == fewest


@pytest.mark.parametrize("shops", [129, 130, 200, 350, 500])
@pytest.mark.parametrize("share", [0, 10, 4])
def test_ring_withstands_its_colluders_by_number_alone(shops: int, share: int) -> None:
    colluders = max(1, shops // share if share else 1)
    names = [f"s{number:03d}" for number in range(shops)]
    graph = Graph(names, b"tau", 4 * shops // 5, colluders)
    if 3 * colluders >= shops - 1:
        assert graph.reach == 0
        return
    assert 2 * graph.reach >= max(64, 3 * colluders)
    assert graph.survives(names)
    for name in names[:20]:
        holders = graph.holders(name)
        assert len(holders) == 2 * graph.reach + 1
        assert name in holders
        assert all(name in graph.neighbours(other) for other in graph.neighbours(name))
        assert colluders < graph.needed <= len(holders) - colluders
        # Not even where all that may be lost are this shop's neighbours is a wrong share needed.
    assert graph.needed * 2 > len(holders) + colluders


def test_survivors_that_could_be_cut_are_found() -> None:
    """The coordinator drops two windows of a ring but k survivors: these could cut it."""
    names = [f"s{number:03d}" for number in range(300)]
    graph = Graph(names, b"tau", 200, 30)
    window = graph._ring[: graph.reach] + graph._ring[150 : 150 + graph.reach]
    gone = set(window[30:])
    assert not graph.survives([name for name in names if name not in gone])
    assert graph.survives([name for name in names if name not in set(window[31:])])


def test_everybody_up_to_128_shops() -> None:
    assert reach(128, 12) == 0
    assert reach(129, 12) == 32
    names = [f"s{number}" for number in range(128)]
    graph = Graph(names, b"tau", 103, 12)
    assert graph.holders("s5") == sorted(names)
    assert graph.needed == 103


def test_order_around_the_ring_is_the_adverts() -> None:
    names = [f"s{number:03d}" for number in range(200)]
    assert Graph(names, b"1", 160, 20)._ring == Graph(names[::-1], b"1", 160, 20)._ring
    assert Graph(names, b"1", 160, 20)._ring != Graph(names, b"2", 160, 20)._ring
