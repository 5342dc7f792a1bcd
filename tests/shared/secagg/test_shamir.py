from __future__ import annotations

import secrets

import pytest

from hansa.rng import seeded_generator
from hansa.secagg.recovery import Recovery
from hansa.secagg.shamir import PRIME, SHARE, combine, decode, is_share, share, weights


def test_field_is_prime_and_holds_every_secret() -> None:
    """Miller and Rabin with 40 random bases: wrong once in 2^80."""
    odd = PRIME - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos
    for _ in range(40):
        value = pow(secrets.randbelow(PRIME - 3) + 2, odd, PRIME)
        powers = [value]
        for _ in range(twos - 1):
            powers.append(powers[-1] ** 2 % PRIME)
        assert value == 1 or PRIME - 1 in powers
    assert 2**256 < PRIME < 2 ** (8 * SHARE)


@pytest.mark.parametrize(("shops", "needed"), [(3, 3), (4, 3), (10, 8), (151, 101), (500, 400)])
def test_any_set_of_enough_shares_makes_the_secret(shops: int, needed: int) -> None:
    for secret in (bytes(32), b"\xff" * 32, secrets.token_bytes(32)):
        shares = share(secret, range(1, shops + 1), needed)
        chosen = seeded_generator(1).permutation(shops)[:needed].tolist()
        assert (
            combine(weights([1 + place for place in chosen]), [shares[place] for place in chosen]) == secret
        )


def test_fewer_shares_fit_every_secret() -> None:
    """t - 1 shares of one secret and any other secret lie on a polynomial of the right degree."""
    shares = share(b"1" * 32, [1, 2, 3, 4], 4)
    assert combine(weights([1, 2, 3]), shares[:3]) != b"1" * 32
    assert len({share(b"1" * 32, [1], 3)[0] for _ in range(50)}) == 50


@pytest.mark.parametrize("wrong", [0, 1, 5])
def test_wrong_shares_are_found(wrong: int) -> None:
    secret = secrets.token_bytes(32)
    shares = dict(zip(range(1, 21), share(secret, range(1, 21), 10), strict=True))
    liars = set(seeded_generator(wrong).permutation(20)[:wrong].tolist())
    for liar in liars:
        shares[liar + 1] = secrets.token_bytes(32).rjust(SHARE, b"\0")
    assert decode(shares, 10) == (secret, {liar + 1 for liar in liars})
    for liar in range(6):
        shares[liar + 1] = secrets.token_bytes(32).rjust(SHARE, b"\0")
    found = decode(shares, 10)
    assert found is None or found[0] != secret or len(liars) == 0


@pytest.mark.parametrize(("given", "lying"), [(8, 0), (9, 1), (10, 1), (12, 2), (8, 1), (11, 2)])
def test_recovery_names_the_liars_while_it_can(given: int, lying: int) -> None:
    secret = secrets.token_bytes(32)
    place = {f"s{number:02d}": number for number in range(1, given + 1)}
    shares = dict(zip(place, share(secret, range(1, given + 1), 8), strict=True))
    liars = set(list(place)[2 : 2 + lying])
    for liar in liars:
        shares[liar] = bytes(SHARE)
    recovery = Recovery(8)
    found = recovery.secret(shares, place, lambda candidate: candidate == secret)
    possible = given - 8 >= 2 * lying or (lying == 1 and given > 8)
    assert found == (secret if possible else None)
    assert recovery.liars == (liars if possible else set())


def test_share_has_one_spelling() -> None:
    assert is_share((PRIME - 1).to_bytes(SHARE, "big"))
    for other in (PRIME.to_bytes(SHARE, "big"), bytes(32), bytes(34), "0" * SHARE, None):
        assert not is_share(other)
