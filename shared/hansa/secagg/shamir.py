"""Shamir's secret sharing (1979) of 32-byte secrets, in the prime field just above 2^256.

**Guarantee:** fewer than ``threshold`` shares of a secret say nothing about it, whatever the computing power;
the coefficients come from the operating system. Shares are not verifiable by themselves: whoever combines
them checks the result against a commitment, and can then tell the wrong shares (``decode``).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence

PRIME = 2**256 + 297
SHARE = 33
"""Bytes of a share."""


def share(secret: bytes, places: Sequence[int], threshold: int) -> list[bytes]:
    """Shares of a secret for the holders at these places (distinct, 1 or more), in their order."""
    coefficients = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    coefficients.append(int.from_bytes(secret, "big"))
    return [_evaluate(coefficients, place).to_bytes(SHARE, "big") for place in places]


def _evaluate(coefficients: Sequence[int], place: int) -> int:
    """Horner's rule, highest coefficient first."""
    value = 0
    for coefficient in coefficients:
        value = (value * place + coefficient) % PRIME
    return value


def is_share(value: object) -> bool:
    """Whether this is a number of the field in its one spelling."""
    return isinstance(value, bytes) and len(value) == SHARE and int.from_bytes(value, "big") < PRIME


def weights(places: Sequence[int]) -> list[int]:
    """Lagrange's weights at 0: the secret is the sum of weight times share. Once for each set of places."""
    below = [
        place * math.prod(other - place for other in places if other != place) % PRIME for place in places
    ]
    whole = math.prod(places) % PRIME
    return [whole * inverse % PRIME for inverse in _inverses(below)]


def combine(weights: Sequence[int], shares: Sequence[bytes]) -> bytes | None:
    """The secret of these shares under the weights of their places; None if it is none of 32 bytes."""
    total = sum(weight * int.from_bytes(given, "big") for weight, given in zip(weights, shares, strict=True))
    return _secret(total % PRIME)


def decode(shares: Mapping[int, bytes], threshold: int) -> tuple[bytes, set[int]] | None:
    """The secret although some shares are wrong, and the places of these.

    Gao's decoder of Reed-Solomon codes (2003): finds up to (shares - threshold) / 2 wrong ones.

    Returns:
        None if there are more.
    """
    places, values = list(shares), [int.from_bytes(given, "big") for given in shares.values()]
    whole = [1]
    for place in places:
        whole = _multiply(whole, [-place % PRIME, 1])
    interpolated = _interpolate(places, values)
    # The extended Euclidean algorithm, stopped half way: remainder = locator * interpolated modulo whole.
    previous, remainder = whole, interpolated
    before, locator = [0], [1]
    while 2 * (len(remainder) - 1) >= len(places) + threshold:
        quotient, rest = _divide(previous, remainder)
        previous, remainder = remainder, rest
        before, locator = locator, _subtract(before, _multiply(quotient, locator))
    polynomial, rest = _divide(remainder, locator)
    if any(rest) or len(polynomial) > threshold:
        return None
    backwards = polynomial[::-1]
    wrong = {
        place for place, value in zip(places, values, strict=True) if _evaluate(backwards, place) != value
    }
    secret = _secret(polynomial[0])
    return None if secret is None else (secret, wrong)


def _secret(number: int) -> bytes | None:
    return number.to_bytes(32, "big") if number < 2**256 else None


def _inverses(numbers: Sequence[int]) -> list[int]:
    """All inverses for the price of one (Montgomery's trick)."""
    products = [1]
    for number in numbers:
        products.append(products[-1] * number % PRIME)
    inverse = pow(products[-1], -1, PRIME)
    found = []
    for number, before in zip(reversed(numbers), reversed(products[:-1]), strict=True):
        found.append(inverse * before % PRIME)
        inverse = inverse * number % PRIME
    return found[::-1]


# Polynomials: coefficients from the lowest on, without zeros at the end but for [0].


def _trim(polynomial: list[int]) -> list[int]:
    while len(polynomial) > 1 and polynomial[-1] == 0:
        polynomial.pop()
    return polynomial


def _multiply(left: Sequence[int], right: Sequence[int]) -> list[int]:
    product = [0] * (len(left) + len(right) - 1)
    for shift, factor in enumerate(left):
        for place, other in enumerate(right):
            product[shift + place] += factor * other
    return _trim([value % PRIME for value in product])


def _subtract(left: Sequence[int], right: Sequence[int]) -> list[int]:
    length = max(len(left), len(right))
    padded = zip([*left, *[0] * (length - len(left))], [*right, *[0] * (length - len(right))], strict=True)
    return _trim([(one - other) % PRIME for one, other in padded])


def _divide(dividend: Sequence[int], divisor: Sequence[int]) -> tuple[list[int], list[int]]:
    rest, quotient = list(dividend), [0]
    lead = pow(divisor[-1], -1, PRIME)
    if len(dividend) >= len(divisor):
        quotient = [0] * (len(dividend) - len(divisor) + 1)
    for shift in reversed(range(len(dividend) - len(divisor) + 1)):
        factor = rest[shift + len(divisor) - 1] * lead % PRIME
        quotient[shift] = factor
        for place, other in enumerate(divisor):
            rest[shift + place] = (rest[shift + place] - factor * other) % PRIME
    return _trim(quotient), _trim(rest[: max(1, len(divisor) - 1)])


def _interpolate(places: Sequence[int], values: Sequence[int]) -> list[int]:
    """Newton's divided differences, then multiplied out."""
    table = list(values)
    for order in range(1, len(places)):
        below = _inverses([places[i] - places[i - order] for i in range(order, len(places))])
        for i in reversed(range(order, len(places))):
            table[i] = (table[i] - table[i - 1]) * below[i - order] % PRIME
    polynomial = [table[-1]]
    for place, value in zip(reversed(places[:-1]), reversed(table[:-1]), strict=True):
        polynomial = _subtract(_multiply(polynomial, [-place % PRIME, 1]), [-value % PRIME])
    return _trim(polynomial)
