from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hansa.errors import AbortError
from hansa.rng import seeded_generator

STAGES = ("advertise", "share", "upload", "agree", "unmask")


@pytest.mark.parametrize("bits", [8, 20, 24, 32, 33, 40, 64])
def test_sum_is_exact_without_drops(league: Callable[..., Any], bits: int) -> None:
    some = league(5, bits=bits, threshold=4)
    vectors = some.vectors()
    _, total = some.run(vectors)
    np.testing.assert_array_equal(total, sum(vectors.values()))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("bits", [24, 32, 40])
def test_sum_is_exact_with_a_drop_at_each_stage(league: Callable[..., Any], stage: str, bits: int) -> None:
    some = league(4, bits=bits, threshold=3)
    vectors = some.vectors()
    server, total = some.run(vectors, {stage: ["s02"]})
    lost = {"s02"} if STAGES.index(stage) <= 2 else set()
    assert server.summed == sorted(set(some.names) - lost)
    np.testing.assert_array_equal(total, sum(vectors[name] for name in server.summed))


@pytest.mark.parametrize("shops", [10, 40])
@pytest.mark.parametrize("seed", range(4))
def test_sum_is_exact_with_random_drops_at_all_stages_at_once(
    league: Callable[..., Any], shops: int, seed: int
) -> None:
    some = league(shops, bits=(24, 32, 40, 20)[seed])
    vectors = some.vectors(seed)
    generator = seeded_generator(seed, "drops")
    gone = generator.permutation(some.names)[: shops - some.parameters.threshold].tolist()
    drops: dict[str, list[str]] = {stage: [] for stage in STAGES}
    for number, name in enumerate(gone):
        drops[STAGES[(number + seed) % 5]].append(name)
    server, total = some.run(vectors, drops)
    lost = {name for stage in STAGES[:3] for name in drops[stage]}
    assert server.summed == sorted(set(some.names) - lost)
    np.testing.assert_array_equal(total, sum(vectors[name] for name in server.summed))


def test_sum_wraps_around_at_the_modulus(league: Callable[..., Any]) -> None:
    some = league(3, bits=24)
    vectors = {name: np.full(16, 2**23 - 1) for name in some.names}
    _, total = some.run(vectors)
    np.testing.assert_array_equal(total, np.full(16, 3 * (2**23 - 1) - 2**24))


def test_sum_is_exact_on_a_sparse_graph(league: Callable[..., Any]) -> None:
    some = league(140, bits=24, entries=5)
    vectors = some.vectors()
    gone = seeded_generator(0, "drops").permutation(some.names)[:15].tolist()
    drops = {stage: gone[3 * number : 3 * number + 3] for number, stage in enumerate(STAGES)}
    server, total = some.run(vectors, drops)
    assert server._graph.reach == 32
    assert len(server.summed) == 131
    np.testing.assert_array_equal(total, sum(vectors[name] for name in server.summed))


@pytest.mark.parametrize("stage", STAGES)
def test_round_is_aborted_below_the_threshold(league: Callable[..., Any], stage: str) -> None:
    some = league(10, threshold=8)
    with pytest.raises(AbortError, match=r"7 shops .*, 8 are needed"):
        some.run(some.vectors(), {stage: ["s01", "s05", "s09"]})
