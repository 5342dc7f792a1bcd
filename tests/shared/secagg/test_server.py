from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hansa.errors import AbortError, UsageError
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


def lying(*names: str) -> Callable[[str, str, Any], Any]:
    """Replies of an honest round, but that these shops give wrong shares of everybody."""

    def changed(stage: str, name: str, reply: Any) -> Any:
        if stage == "unmask" and name in names:
            return replace(
                reply,
                self_shares=[share[:-1] + bytes([share[-1] ^ 1]) for share in reply.self_shares],
                key_shares=[share[:-1] + bytes([share[-1] ^ 1]) for share in reply.key_shares],
            )
        return reply

    return changed


@pytest.mark.parametrize("liars", [["s00"], ["s00", "s07"], ["s03", "s04", "s08"]])
def test_sum_is_exact_although_some_give_wrong_shares(league: Callable[..., Any], liars: list[str]) -> None:
    some = league(15, threshold=9)
    vectors = some.vectors()
    server, total = some.run(vectors, {"upload": ["s09"]} if len(liars) < 3 else {}, lying(*liars))
    np.testing.assert_array_equal(total, sum(vectors[name] for name in server.summed))
    assert server.rejected == dict.fromkeys(liars, "it gave a wrong share")


def test_round_is_aborted_where_too_many_give_wrong_shares(league: Callable[..., Any]) -> None:
    some = league(5, threshold=4)
    with pytest.raises(AbortError, match="too few, or this shop or several holders lied") as caught:
        some.run(some.vectors(), None, lying("s00", "s01"))
    assert "\n" not in str(caught.value)


def test_shop_that_shared_garbage_is_named(
    league: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No holder is blamed for what the shop itself has shared."""
    some = league(5, threshold=4)
    honest = some.shops["s02"].reply

    def garbage(stage: str, request: Any) -> Any:
        if stage != "share":
            return honest(stage, request)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "hansa.secagg.shop.share",
                lambda secret, places, needed: [bytes([0, place] * 16 + [7]) for place in places],
            )
            return honest(stage, request)

    some.shops["s02"].reply = garbage
    with pytest.raises(AbortError, match="shares of s02's secret do not make it"):
        some.run(some.vectors())


def test_replies_that_are_not_taken(league: Callable[..., Any]) -> None:
    """Each drops the shop it is from, with a reason; the round goes on with the others."""
    some = league(6, threshold=4)
    server, shops, names = some.begin(), some.shops, some.names
    stranger = league(6, threshold=4).shops["s00"]
    adverts = {name: shop.advertise(some.parameters) for name, shop in shops.items()}
    assert not server.advert(replace(adverts["s00"], shop="t00"))
    assert not server.advert(
        stranger.advertise(replace(some.parameters, roster=stranger.member.roster.digest))
    )
    assert all(map(server.advert, adverts.values()))
    assert not server.advert(adverts["s00"])
    listed = server.adverts()
    assert not server.advert(adverts["s00"])

    envelopes = {name: shops[name].reply("share", listed) for name in names}
    assert not server.envelopes(
        replace(
            envelopes["s05"], recipients=envelopes["s05"].recipients[1:], sealed=envelopes["s05"].sealed[1:]
        )
    )
    assert not server.envelopes(replace(envelopes["s05"], shop="t00"))
    assert all(server.envelopes(envelopes[name]) for name in names[:5])
    deliveries = server.deliveries()
    assert list(deliveries) == names[:5]

    vectors = some.vectors()
    masks = {name: shops[name].reply("open", deliveries[name]) for name in names[:5]}
    packed = {name: some.masked(masks[name], vectors[name]) for name in names[:5]}
    before = server._total.copy()
    assert not server.upload(masks["s04"].upload, packed["s04"][:-1])
    assert not server.upload(
        replace(masks["s04"].upload, signature=masks["s03"].upload.signature), packed["s04"]
    )
    assert not server.upload(replace(masks["s04"].upload, shop="s05"), packed["s04"])
    np.testing.assert_array_equal(server._total, before)
    assert all(server.upload(masks[name].upload, packed[name]) for name in names[:4])
    assert not server.upload(masks["s03"].upload, packed["s03"])
    survivors = server.survivors()

    agreements = {name: shops[name].reply("agree", survivors) for name in names[:4]}
    assert not server.agreement(replace(agreements["s03"], signature=agreements["s02"].signature))
    assert not server.agreement(replace(agreements["s03"], shop="s04"))
    assert all(map(server.agreement, agreements.values()))
    request = server.agreements()
    shares = {name: shops[name].reply("unmask", request) for name in names[:4]}
    first = shares["s00"]
    assert not server.shares(replace(first, survivors=first.survivors[1:], self_shares=first.self_shares[1:]))
    assert not server.shares(replace(first, lost=["s05"]))
    assert all(map(server.shares, shares.values()))
    np.testing.assert_array_equal(server.result(), sum(vectors[name] for name in names[:4]))
    with pytest.raises(UsageError, match="each once"):
        server.result()
    for reason in server.rejected.values():
        assert reason


def test_stages_of_the_server_follow_each_other(league: Callable[..., Any]) -> None:
    server = league(4).begin()
    for asked in (server.deliveries, server.survivors, server.agreements, server.result):
        with pytest.raises(UsageError, match="each once"):
            asked()


def test_round_is_aborted_if_too_few_hold_shares_of_a_shop(league: Callable[..., Any]) -> None:
    """On a ring, more than the threshold may be left and yet one shop's neighbours lost."""
    some = league(140, bits=24, entries=1, threshold=100, colluders=2)
    server = some.begin()
    for shop in some.shops.values():
        server.advert(shop.advertise(some.parameters))
    listed = server.adverts()
    lost = server._graph.neighbours("s00")[:33]
    for shop in some.shops.values():
        server.envelopes(shop.reply("share", listed))
    deliveries = server.deliveries()
    for name in some.names:
        if name not in lost:
            masks = some.shops[name].reply("open", deliveries[name])
            server.upload(masks.upload, some.masked(masks, np.zeros(1, np.int64)))
    with pytest.raises(AbortError, match=r"32 shops are left that hold shares of s.*, 34 are needed"):
        server.survivors()
