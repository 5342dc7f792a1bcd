"""Secrets from the shares that shops give, although some of them may be wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hansa.secagg.shamir import combine, decode, weights


class Recovery:
    """Combines shares, checks each secret, and remembers who gave wrong ones.

    Where the first shares at hand do not make a secret that checks, the wrong ones are looked for: by
    decoding, which finds half as many as there are more than needed, then by leaving out each holder in turn,
    which finds a single one even if there is only one share more than needed. Whoever lied
    once is asked last from then on.

    Args:
        needed: How many shares make a secret.

    Attributes:
        liars: Who gave a wrong share.
    """

    def __init__(self, needed: int) -> None:
        self._needed = needed
        self._weights: dict[tuple[int, ...], list[int]] = {}
        self.liars: set[str] = set()

    def secret(
        self, shares: Mapping[str, bytes], place: Mapping[str, int], right: Callable[[bytes], bool]
    ) -> bytes | None:
        """The secret of these shares, by holder; None if it cannot be had.

        Args:
            shares: Share of each holder that gave one.
            place: Place of each holder.
            right: Whether this is the secret.
        """
        holders = sorted(shares, key=lambda holder: (holder in self.liars, place[holder]))
        if len(holders) < self._needed:
            return None
        found = self._combine(holders[: self._needed], shares, place)
        if found is not None and right(found):
            return found
        if decoded := decode({place[holder]: shares[holder] for holder in holders}, self._needed):
            found, wrong = decoded
            if right(found):
                self.liars |= {holder for holder in holders if place[holder] in wrong}
                return found
        for suspect in holders[: self._needed] if len(holders) > self._needed else []:
            others = [holder for holder in holders if holder != suspect][: self._needed]
            found = self._combine(others, shares, place)
            if found is not None and right(found):
                self.liars.add(suspect)
                return found
        return None

    def _combine(
        self, holders: list[str], shares: Mapping[str, bytes], place: Mapping[str, int]
    ) -> bytes | None:
        places = tuple(place[holder] for holder in holders)
        if places not in self._weights:
            self._weights[places] = weights(places)
        return combine(self._weights[places], [shares[holder] for holder in holders])
