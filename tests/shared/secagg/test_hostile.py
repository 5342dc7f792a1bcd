"""A coordinator that deviates: each of its attacks meets a shop that refuses, with a reason and one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.errors import RefusalError, UsageError
from hansa.secagg.keys import public_of, sign
from hansa.secagg.messages import Advert, Adverts, Agreements, Delivery, Survivors, Upload
from hansa.secagg.roster import Roster
from hansa.secagg.transcript import ADVERT, advert_statement

League = Callable[..., Any]
SEVEN = {"threshold": 5}
"""Of seven shops: t 5, k 1, h 4."""


@contextmanager
def refused(reason: str, detail: str = ".") -> Iterator[None]:
    with pytest.raises(RefusalError, match=detail) as caught:
        yield
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


class Coordinator:
    """A hostile one: takes shops through the stages and may send each of them what it likes."""

    def __init__(self, league: Any) -> None:
        self.league, self.shops, self.names = league, league.shops, league.names
        self.server = league.begin()

    def adverts(self) -> Adverts:
        for shop in self.shops.values():
            self.server.advert(shop.advertise(self.league.parameters))
        return self.server.adverts()

    def deliveries(self) -> dict[str, Delivery]:
        adverts = self.adverts()
        for shop in self.shops.values():
            self.server.envelopes(shop.reply("share", adverts))
        return self.server.deliveries()

    def survivors(self, but: str = "") -> Survivors:
        for name, delivery in self.deliveries().items():
            masks = self.shops[name].reply("open", delivery)
            if name != but:
                vector = self.league.vectors()[name]
                self.server.upload(masks.upload, self.league.masked(masks, vector))
        return self.server.survivors()

    def agreements(self, but: str = "") -> Agreements:
        survivors = self.survivors(but)
        for name in survivors.survivors:
            self.server.agreement(self.shops[name].reply("agree", survivors))
        return self.server.agreements()


def changed(adverts: Adverts, advert: Advert) -> Adverts:
    """The adverts with one instead of that of the same shop, or in addition."""
    return Adverts.of([row for row in adverts.rows() if row.shop != advert.shop] + [advert])


def signed(league: Any, name: str, key: Any, envelope_key: bytes, mask_key: bytes) -> Advert:
    keys = (envelope_key, mask_key, bytes(32))
    return Advert(name, *keys, sign(key, ADVERT, advert_statement(league.parameters, name, *keys)))


# Policy: what the coordinator asks for.


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"threshold": 4, "honest": 3}, "policy: threshold"),  # 2 t > n + k does not hold
        ({"threshold": 5, "honest": 3, "colluders": 2}, "policy: honest"),
        ({"threshold": 6, "honest": 3, "colluders": 3}, "policy: honest"),
        ({"bits": 24}, "policy: bits"),
        ({"roster": "2" * 64}, "policy: roster"),
    ],
)
def test_lowered_terms(league: League, change: dict[str, Any], reason: str) -> None:
    some = league(7, **SEVEN)
    with refused(reason):
        some.shops["s00"].advertise(replace(some.parameters, **change))


def test_threshold_below_the_shops_own_although_sound(league: League) -> None:
    some = league(7, threshold=6)
    with refused("policy: threshold", "5 is below the 6"):
        some.shops["s00"].advertise(replace(some.parameters, threshold=5, honest=4))


@pytest.mark.parametrize("change", [{"honest": 5}, {"honest": 3}, {"colluders": 0, "honest": 5}])
def test_terms_that_contradict_each_other_cannot_be_stated(league: League, change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(league(7, **SEVEN).parameters, **change)


def test_roster_with_extra_ids(league: League) -> None:
    some = league(7, **SEVEN)
    sybils = {f"sybil{i}": Ed25519PrivateKey.generate().public_key().public_bytes_raw() for i in range(3)}
    larger = Roster({**some.roster.keys, **sybils})
    with refused("policy: roster"):
        some.shops["s00"].advertise(
            replace(some.parameters, roster=larger.digest, threshold=8, honest=7, colluders=1)
        )


def vouching(league: Any, vouched: int, colluders: int = 1) -> Any:
    member = league.shops["s00"].member
    return replace(member, vouched=frozenset(league.names[:vouched]), colluders=colluders, honest=1)


def test_pinned_roster_of_sybils(league: League) -> None:
    """Approved in whole, but only some fingerprints were compared: the others are the coordinator's."""
    some = league(10)  # t 8, k 1
    vouching(some, 10).check(some.parameters)
    with refused("policy: vouching", "2 shops may side"):
        vouching(some, 9).check(some.parameters)
    with refused("policy: vouching", "2 shops may side"):
        vouching(some, 10, colluders=2).check(some.parameters)
    wary = replace(some.parameters, threshold=8, colluders=4, honest=4)
    vouching(some, 7).check(wary)
    with refused("policy: vouching"):
        vouching(some, 6).check(wary)


def test_shop_vouches_for_itself_always_and_for_nobody_unknown(league: League) -> None:
    member = league(4, threshold=3).shops["s00"].member
    assert replace(member, vouched=frozenset()).vouched == {"s00"}
    with pytest.raises(UsageError, match="not on the roster: nobody"):
        replace(member, vouched=frozenset({"nobody"}))
    with pytest.raises(UsageError, match="no such shop with this key"):
        replace(member, key=Ed25519PrivateKey.generate())


def test_repeated_round(league: League) -> None:
    some = league(4, threshold=3)
    shop = some.shops["s00"]
    later = replace(some.parameters, round=2)
    shop.advertise(later)
    for parameters in (later, some.parameters, replace(some.parameters, attempt=9)):
        with refused("repeated or out of order"):
            shop.advertise(parameters)
    shop.advertise(replace(later, attempt=2))
    shop.advertise(replace(some.parameters, run="another"))


# Adverts.


def test_key_of_a_man_in_the_middle(league: League) -> None:
    """The coordinator swaps a shop's keys for its own, signs with its own key, or keeps the old signature."""
    some = league(4, threshold=3)
    adverts = Coordinator(some).adverts()
    own = Ed25519PrivateKey.generate()
    forged = signed(some, "s01", own, public_of(b"1" * 32), public_of(b"2" * 32))
    old = next(row for row in adverts.rows() if row.shop == "s01")
    for advert in (
        forged,
        replace(old, mask_key=public_of(b"3" * 32)),
        replace(old, envelope_key=public_of(b"3" * 32)),
        replace(old, commitment=bytes(32)),
    ):
        with refused("bad advert", "s01: no valid signature"):
            some.shops["s00"].reply("share", changed(adverts, advert))


def test_duplicated_keys_signed_anew(league: League) -> None:
    """A colluding shop advertises another's keys as its own, under its own valid signature."""
    some = league(5, threshold=4)
    adverts = Coordinator(some).adverts()
    victim = next(row for row in adverts.rows() if row.shop == "s01")
    thief = some.shops["s04"].member.key
    fresh = public_of(b"4" * 32)
    for envelope_key, mask_key in (
        (victim.envelope_key, victim.mask_key),
        (victim.envelope_key, fresh),
        (fresh, victim.mask_key),
        (victim.mask_key, fresh),
        (fresh, fresh),
    ):
        copy = signed(some, "s04", thief, envelope_key, mask_key)
        with refused("bad advert", "s04: a key that another has"):
            some.shops["s00"].reply("share", changed(adverts, copy))


@pytest.mark.parametrize("key", [b"\0" * 32, (1).to_bytes(32, "little")])
def test_keys_of_low_order(league: League, key: bytes) -> None:
    some = league(4, threshold=3)
    adverts = Coordinator(some).adverts()
    weak = signed(some, "s03", some.shops["s03"].member.key, key, public_of(b"5" * 32))
    with refused("bad key"):
        some.shops["s00"].reply("share", changed(adverts, weak))


def test_key_in_another_spelling(league: League) -> None:
    some = league(4, threshold=3)
    adverts = Coordinator(some).adverts()
    victim = next(row for row in adverts.rows() if row.shop == "s01").mask_key
    spelled = victim[:-1] + bytes([victim[-1] | 128])
    twin = signed(some, "s03", some.shops["s03"].member.key, spelled, public_of(b"5" * 32))
    with refused("bad advert", "s03: not a key"):
        some.shops["s00"].reply("share", changed(adverts, twin))


def test_unknown_shop(league: League) -> None:
    some = league(4, threshold=3)
    adverts = Coordinator(some).adverts()
    sybil = signed(some, "t00", Ed25519PrivateKey.generate(), public_of(b"1" * 32), public_of(b"2" * 32))
    with refused("bad advert", "t00: not on the roster"):
        some.shops["s00"].reply("share", changed(adverts, sybil))


@pytest.mark.parametrize("change", [{"round": 2}, {"attempt": 2}, {"run": "other"}, {"state": "3" * 64}])
def test_stale_advert(league: League, change: dict[str, Any]) -> None:
    """An advert of another round, whose secrets may be known by now."""
    some = league(4, threshold=3)
    stale = next(row for row in Coordinator(some).adverts().rows() if row.shop == "s01")
    some.parameters = replace(some.parameters, **({"round": 3} | change))
    again = Coordinator(some).adverts()
    with refused("bad advert", "s01: no valid signature for this round"):
        some.shops["s00"].reply("share", changed(again, stale))


def test_too_few_adverts_and_own_one_missing_or_old(league: League) -> None:
    some = league(5, threshold=4)
    adverts = Coordinator(some).adverts()
    rows, shop = adverts.rows(), some.shops["s00"]
    with refused("too few shops"):
        shop.reply("share", Adverts.of(rows[:3]))
    with refused("bad advert", "own advert"):
        shop.reply("share", Adverts.of(rows[1:]))


# Envelopes and views.


def test_split_view_of_the_adverts(league: League) -> None:
    """Half of the shops is told of a shop that the others are not told of."""
    some = league(7, **SEVEN)
    attacker = Coordinator(some)
    rows = attacker.adverts().rows()
    views = {name: Adverts.of(rows if name < "s03" else rows[:-1]) for name in some.names[:-1]}
    envelopes = {name: some.shops[name].reply("share", view) for name, view in views.items()}
    for name in views:
        senders = [other for other in views if other != name]
        sealed = [dict(zip(e.recipients, e.sealed, strict=True))[name] for e in map(envelopes.get, senders)]
        with refused("bad envelopes", "does not open"):
            some.shops[name].reply("open", Delivery(list(views), senders, sealed))


def test_envelopes_missing_swapped_changed_or_of_others(league: League) -> None:
    some = league(5, threshold=4)
    delivery = Coordinator(some).deliveries()["s00"]
    shop, sealed = some.shops["s00"], delivery.sealed
    broken = [
        replace(delivery, sealed=[sealed[1], sealed[0], *sealed[2:]]),
        replace(delivery, sealed=[bytes([sealed[0][0] ^ 1]) + sealed[0][1:], *sealed[1:]]),
        replace(delivery, sealed=[sealed[0][:-1] + bytes([sealed[0][-1] ^ 1]), *sealed[1:]]),
        replace(delivery, senders=delivery.senders[1:], sealed=sealed[1:]),
        replace(delivery, shared=[name for name in delivery.shared if name != "s01"]),
        replace(delivery, senders=["s00", *delivery.senders[1:]]),
    ]
    for request in broken:
        with refused("bad envelopes"):
            shop.reply("open", request)


def test_envelope_sent_back_to_its_sender(league: League) -> None:
    """The key that two shops agree on is the same for both, but not that of the two directions."""
    some = league(4, threshold=3)
    attacker = Coordinator(some)
    adverts = attacker.adverts()
    envelopes = {name: shop.reply("share", adverts) for name, shop in some.shops.items()}
    for each in envelopes.values():
        attacker.server.envelopes(each)
    delivery = attacker.server.deliveries()["s00"]
    assert envelopes["s00"].recipients[0] == delivery.senders[0] == "s01"
    mirrored = [envelopes["s00"].sealed[0], *delivery.sealed[1:]]
    with refused("bad envelopes", "of s01 does not open"):
        some.shops["s00"].reply("open", replace(delivery, sealed=mirrored))


def test_list_of_those_who_shared(league: League) -> None:
    some = league(5, threshold=4)
    delivery = Coordinator(some).deliveries()["s00"]
    shop = some.shops["s00"]

    def listing(*names: str) -> Delivery:
        at = dict(zip(delivery.senders, delivery.sealed, strict=True))
        senders = [name for name in names if name in at]
        return Delivery(list(names), senders, [at[name] for name in senders])

    with refused("too few shops"):
        shop.reply("open", listing("s00", "s01", "s02"))
    with refused("bad list"):
        shop.reply("open", listing("s01", "s02", "s03", "s04"))
    with refused("bad list"):
        shop.reply("open", listing("s00", "s01", "s02", "s99"))
    shop.reply("open", listing("s00", "s01", "s02", "s03"))


def test_split_view_of_those_who_shared(league: League) -> None:
    """A shop that masked with fewer than the others is not let into the sum, so none of it can be cut off."""
    some = league(7, **SEVEN)
    attacker = Coordinator(some)
    deliveries = attacker.deliveries()
    signatures = {}
    for name, delivery in deliveries.items():
        if name == "s06":
            shared = delivery.shared[1:]
            delivery = Delivery(shared, shared[:-1], delivery.sealed[1:])
        signatures[name] = some.shops[name].reply("open", delivery).upload.signature
    listed = Survivors(list(signatures), list(signatures.values()))
    for name in some.names[:6]:
        with refused("split view", "has not signed to have masked"):
            some.shops[name].reply("agree", listed)
    assert not attacker.server.upload(Upload("s06", signatures["s06"]), b"")


# Survivors and signatures.


def without(listed: Any, *gone: str) -> Any:
    names, signatures = listed.to_fields().values()
    rows = [row for row in zip(names, signatures, strict=True) if row[0] not in gone]
    return type(listed)([name for name, _ in rows], [signature for _, signature in rows])


def test_two_lists_of_survivors(league: League) -> None:
    """A second list to the same shop, or two lists to two sets of shops: neither list finds t signers."""
    some = league(7, **SEVEN)
    survivors = Coordinator(some).survivors()
    other = without(survivors, "s06")
    first = {name: some.shops[name].reply("agree", survivors).signature for name in some.names[:4]}
    second = {name: some.shops[name].reply("agree", other).signature for name in some.names[4:6]}
    with refused("repeated or out of order"):
        some.shops["s00"].reply("agree", other)
    both = {**first, **second}
    with refused("too few shops"):
        some.shops["s00"].reply("unmask", Agreements(list(first), list(first.values())))
    for name in both:
        with refused("split view"):
            some.shops[name].reply("unmask", Agreements(list(both), list(both.values())))


def test_survivors_that_are_too_few_or_never_shared(league: League) -> None:
    some = league(7, **SEVEN)
    survivors = Coordinator(some).survivors()
    shop = some.shops["s00"]
    with refused("too few shops"):
        shop.reply("agree", without(survivors, "s04", "s05", "s06"))
    with refused("bad list"):
        shop.reply("agree", without(survivors, "s00"))
    with refused("bad list"):
        shop.reply("agree", Survivors([*survivors.survivors, "s99"], [*survivors.signatures, bytes(64)]))


def test_too_few_vouched_for_among_the_survivors(league: League) -> None:
    """Checked at the survivors' list, too: the shop's own file may have become stricter meanwhile."""
    some = league(7, **SEVEN)
    survivors = Coordinator(some).survivors()
    shop = some.shops["s00"]
    shop.member.check_survivors(some.parameters, survivors.survivors)
    few = replace(shop.member, vouched=frozenset(some.names[:4]))
    with refused("policy: vouching"):
        few.check_survivors(some.parameters, survivors.survivors)
    shop.member = few
    with refused("policy: vouching"):
        shop.reply("agree", survivors)


def test_filtered_signatures(league: League) -> None:
    some = league(7, **SEVEN)
    agreements = Coordinator(some).agreements(but="s06")
    shop = some.shops["s00"]
    with refused("too few shops"):
        shop.reply("unmask", without(agreements, "s04", "s05"))
    forged = replace(agreements, signatures=[*agreements.signatures[:-1], bytes(64)])
    with refused("split view"):
        shop.reply("unmask", forged)
    swapped = replace(agreements, signatures=[*agreements.signatures[1:], agreements.signatures[0]])
    with refused("split view"):
        shop.reply("unmask", swapped)
    lost = replace(agreements, signers=[*agreements.signers[:-1], "s06"])
    with refused("split view", "s06"):
        shop.reply("unmask", lost)
    sybil = replace(agreements, signers=[*agreements.signers[:-1], "s99"])
    with refused("split view", "s99"):
        shop.reply("unmask", sybil)
    shop.reply("unmask", without(agreements, "s05"))


def test_signature_of_one_stage_is_worth_nothing_in_another(league: League) -> None:
    some = league(4, threshold=3)
    attacker = Coordinator(some)
    survivors = attacker.survivors()
    for name in some.names:
        some.shops[name].reply("agree", survivors)
    with refused("split view"):
        some.shops["s00"].reply("unmask", Agreements(survivors.survivors, survivors.signatures))


def test_only_one_secret_of_each_shop_is_given_away(league: League) -> None:
    some = league(7, **SEVEN)
    attacker = Coordinator(some)
    agreements = attacker.agreements(but="s06")
    for name in agreements.signers:
        shares = some.shops[name].reply("unmask", agreements)
        assert (shares.survivors, shares.lost) == (some.names[:6], ["s06"])


# Once only.


@pytest.mark.parametrize("stage", ["share", "open", "agree", "unmask"])
def test_no_stage_is_repeated_even_from_an_old_state(league: League, stage: str) -> None:
    """A shop whose state is set back, as by a crash after its reply, does not reply again."""
    some = league(4, threshold=3)
    attacker, shop = Coordinator(some), some.shops["s00"]
    kept: dict[str, tuple[bytes, Any]] = {}
    honest = shop.reply

    def remembering(stage: str, request: Any) -> Any:
        kept[stage] = (shop.state, request)
        return honest(stage, request)

    shop.reply = remembering
    agreements = attacker.agreements()
    shop.reply("unmask", agreements)
    shop.state, request = kept[stage]
    with refused("repeated or out of order"):
        honest(stage, request)


@pytest.mark.parametrize("stage", ["open", "agree", "unmask"])
def test_stages_follow_each_other(league: League, stage: str) -> None:
    some = league(4, threshold=3)
    agreements = Coordinator(some).agreements()
    requests = {
        "open": Delivery([], [], []),
        "agree": Survivors([], []),
        "unmask": agreements,
    }
    shop = some.shops["s00"]
    shop.advertise(replace(some.parameters, round=2))
    with refused("repeated or out of order"):
        shop.reply(stage, requests[stage])


def test_survivors_that_k_shops_could_cut_apart(league: League) -> None:
    """On a ring, with all but k shops of two windows said to be lost, though the threshold is kept.

    A sum over what lies between the windows could then be unmasked.
    """
    some = league(140, entries=1, threshold=72, colluders=1)
    attacker = Coordinator(some)
    deliveries = attacker.deliveries()
    graph = attacker.server._graph
    windows = graph._ring[: graph.reach] + graph._ring[70 : 70 + graph.reach]
    gone = set(windows[1:])
    names = sorted(some.names)
    left = [name for name in names if name not in gone]
    shop = some.shops[left[0]]
    at = dict(zip(deliveries[left[0]].senders, deliveries[left[0]].sealed, strict=True))
    senders = [name for name in left if name in at]
    with refused("too few shops", "cut off"):
        shop.reply("open", Delivery(left, senders, [at[name] for name in senders]))
    masked = [some.shops[name].reply("open", deliveries[name]).upload.signature for name in names]
    survivors = Survivors(names, masked)
    with refused("too few shops", "cut off"):
        shop.reply("agree", without(survivors, *gone))
    shop.reply("agree", without(survivors, *windows[2:]))
