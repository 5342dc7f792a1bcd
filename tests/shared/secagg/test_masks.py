from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy.stats import chisquare

from hansa.errors import UsageError
from hansa.rng import seeded_generator
from hansa.secagg.masks import add_packed, apply_masks, centre, pack, packed_size, residue_type
from hansa.secagg.shop import Round


@pytest.mark.parametrize("bits", [8, 12, 20, 24, 31, 32, 33, 40, 63, 64])
def test_packed_numbers_come_back(bits: int) -> None:
    entries = 200_001
    kind = residue_type(bits)
    numbers = seeded_generator(bits).integers(0, 2 ** (8 * kind.itemsize), entries, dtype=kind)
    packed = pack(numbers, bits)
    assert len(packed) == packed_size(entries, bits) == entries * -(-bits // 8)
    total = np.ones(entries, kind)
    add_packed(total, packed, bits)
    np.testing.assert_array_equal(total - 1, numbers & kind.type(2**bits - 1))


def test_packing_is_little_endian() -> None:
    assert pack(np.array([0x010203, 0xFF000004], np.uint32), 24) == bytes([3, 2, 1, 4, 0, 0])


@pytest.mark.parametrize("packed", [b"", bytes(11), bytes(13), "0" * 12, None, bytes(9) + b"\0\0\x10"])
def test_bytes_of_another_vector_change_nothing(packed: Any) -> None:
    total = np.zeros(4, np.uint32)
    with pytest.raises(UsageError, match="masked vector"):
        add_packed(total, packed, 20)
    assert not total.any()


@pytest.mark.parametrize(("bits", "least", "most"), [(8, -128, 127), (24, -(2**23), 2**23 - 1)])
def test_centre(bits: int, least: int, most: int) -> None:
    numbers = np.array([least, -1, 0, 1, most], np.int64)
    dirty = numbers.astype(np.uint32) + np.uint32(2**bits) * np.arange(5, dtype=np.uint32)
    np.testing.assert_array_equal(centre(dirty, bits), numbers)
    wide = np.array([-(2**63), -1, 2**63 - 1], np.int64)
    np.testing.assert_array_equal(centre(wide.astype(np.uint64), 64), wide)


@pytest.mark.parametrize("kind", [np.uint32, np.uint64])
def test_mask_is_aes_in_counter_mode_over_all_blocks(kind: Any) -> None:
    entries = 3 * 2**16 + 5
    vector = seeded_generator(0).integers(0, 2**32, entries).astype(kind)
    stream = Cipher(algorithms.AES256(b"k" * 32), modes.CTR(bytes(16))).encryptor().update(bytes(8 * entries))
    mask = np.frombuffer(stream, kind)[:entries]
    masked = vector.copy()
    apply_masks(masked, [(b"k" * 32, True)])
    np.testing.assert_array_equal(masked, vector + mask)
    apply_masks(masked, [(b"k" * 32, False), (b"l" * 32, True), (b"l" * 32, False)])
    np.testing.assert_array_equal(masked, vector)


def uniform(octets: npt.NDArray[np.uint8]) -> float:
    """The p-value of a chi-square test that all values of a byte are as likely."""
    return float(chisquare(np.bincount(octets, minlength=256)).pvalue)


def places(packed: bytes, bits: int) -> list[npt.NDArray[np.uint8]]:
    return list(np.frombuffer(packed, np.uint8).reshape(-1, bits // 8).T)


@pytest.mark.parametrize("bits", [24, 32, 40])
def test_masked_vector_is_uniform_and_the_unmasked_is_not(league: Callable[..., Any], bits: int) -> None:
    """At each byte of an entry; wrong once in a million runs."""
    some = league(4, threshold=3, bits=bits, entries=200_000)
    vectors = {name: seeded_generator(1, name).poisson(3.0, 200_000) for name in some.names}
    seen: dict[str, bytes] = {}
    some.run(
        vectors, seen=lambda stage, name, reply: seen.setdefault(name, reply) if stage == "upload" else reply
    )
    for name, packed in seen.items():
        assert min(map(uniform, places(packed, bits))) > 1e-7
        plain = pack(vectors[name].astype(residue_type(bits)), bits)
        assert max(map(uniform, places(plain, bits))) < 1e-7
    # Nor are two shops' vectors alike in any place.
    one, other = (np.frombuffer(seen[name], np.uint8) for name in some.names[:2])
    assert uniform(one - other) > 1e-7


def test_same_sum_of_other_vectors_looks_the_same(
    league: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same secrets, all that the coordinator sees but masked vectors is the same to the byte.

    The masked vectors are uniform either way, and differ only where the vectors do.
    """
    first = league(4, threshold=3, entries=100_000)
    vectors = first.vectors()
    shift = seeded_generator(3).integers(-1000, 1000, 100_000)
    moved = {**vectors, "s00": vectors["s00"] + shift, "s01": vectors["s01"] - shift}
    views, totals = [], []
    for inputs in (vectors, moved):
        generator = seeded_generator(5)
        monkeypatch.setattr("secrets.token_bytes", generator.bytes)
        monkeypatch.setattr(
            "secrets.randbelow", lambda below, g=generator: int.from_bytes(g.bytes(40)) % below
        )
        view: list[tuple[str, str, Any]] = []

        def watching(stage: str, name: str, reply: Any, view: list[Any] = view) -> Any:
            view.append((stage, name, reply))
            return reply

        for shop in first.shops.values():
            shop.markers = type(shop.markers)()
        totals.append(first.run(inputs, {"agree": ["s03"]}, watching)[1])
        views.append(view)
    np.testing.assert_array_equal(totals[0], totals[1])
    quiet = [[entry for entry in view if entry[0] != "upload"] for view in views]
    assert quiet[0] == quiet[1]
    loud = [[reply for stage, _, reply in view if stage == "upload"] for view in views]
    assert loud[0][:2] != loud[1][:2]
    assert loud[0][2:] == loud[1][2:]
    for packed in (*loud[0], *loud[1]):
        assert min(map(uniform, places(packed, 32))) > 1e-7


def test_masks_want_the_right_vector(league: Callable[..., Any]) -> None:
    some = league(3, bits=24, entries=6)
    server = some.begin()
    for shop in some.shops.values():
        server.advert(shop.advertise(some.parameters))
    adverts = server.adverts()
    for shop in some.shops.values():
        server.envelopes(shop.reply("share", adverts))
    delivery = server.deliveries()["s00"]
    state = some.shops["s00"].state
    masks = some.shops["s00"].reply("open", delivery)
    for vector in (
        np.zeros(6, np.uint64), np.zeros(6, np.int32), np.zeros(5, np.uint32),
        np.zeros((6, 1), np.uint32), np.zeros(12, np.uint32)[::2],
    ):  # fmt: skip
        with pytest.raises(UsageError, match="6 contiguous uint32"):
            masks.apply(vector)
    # Secrets are gone from the state, and never printed.
    before = Round.from_bytes(state)
    after = Round.from_bytes(some.shops["s00"].state)
    assert len(before.secrets) == 3
    assert after.secrets == ()
    printed = repr(masks) + repr(before)
    assert not any(secret.hex() in printed or repr(secret) in printed for secret in before.secrets)
    assert "_masks" not in printed
