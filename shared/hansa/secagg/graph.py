"""Who masks with whom and holds whose shares: everybody, or beyond 128 shops the nearest around a ring.

**Guarantee** (against a coordinator and k shops of its choice, and survivors of its choice): as long as
``survives`` holds, the survivors that are left without any k of them are connected, so that nothing less
than the sum over all honest survivors can be unmasked; and k shops hold fewer shares of any secret than
``needed``.
The order around the ring is a hash of all adverts, but nothing rests on it: the conditions hold for the worst
placement, so that choosing it is of no use. The graph is that of Bell et al. 2020 (CCS, section 3.1, a Harary
graph) with worst-case conditions instead of its probabilistic ones.

**Proof for the ring.** Each shop is joined to the ``reach`` places on either side. Let R be the survivors
without k of them. Two neighbours in R's cyclic order are joined unless ``reach`` or more consecutive places
between them are empty of R. With at most one such gap R is a path, so connected. Two such gaps contain two
disjoint windows of ``reach`` consecutive places, all of whose survivors are among the k: impossible if every
two disjoint windows have more than k survivors. **Shares**: a shop's holders are its neighbours and itself,
2 reach + 1 >= 3 k + 1 in number, and more than half of them and k together, so more than k, are needed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hansa.secagg.keys import digest

COMPLETE = 128
"""Up to so many shops everybody masks with everybody."""
_LEAST_DEGREE = 64


class Graph:
    """The graph of a round.

    Args:
        shops: Who advertised.
        transcript: Digest of all adverts (tau), from which the order around the ring comes.
        threshold: Threshold t of the round.
        colluders: Colluders k of the round.
    """

    def __init__(self, shops: Collection[str], transcript: bytes, threshold: int, colluders: int) -> None:
        self._ring = sorted(shops, key=lambda shop: digest("place", transcript, shop.encode()))
        self._place = {shop: place for place, shop in enumerate(self._ring)}
        self._threshold, self._colluders = threshold, colluders
        self.reach = reach(len(self._ring), colluders)
        """Places on either side that a shop is joined to; 0 if to all."""

    @property
    def needed(self) -> int:
        """How many shares of a secret are needed for it."""
        return (2 * self.reach + 1 + self._colluders) // 2 + 1 if self.reach else self._threshold

    def neighbours(self, shop: str) -> list[str]:
        """Who masks with a shop, in order of their names."""
        return [other for other in self.holders(shop) if other != shop]

    def holders(self, shop: str) -> list[str]:
        """Who holds shares of a shop's secrets, in order of their names: its neighbours and itself."""
        if not self.reach:
            return sorted(self._ring)
        place = self._place[shop]
        places = range(place - self.reach, place + self.reach + 1)
        return sorted(self._ring[other % len(self._ring)] for other in places)

    def survives(self, survivors: Collection[str]) -> bool:
        """Whether the survivors stay connected whichever k of them side with the coordinator."""
        if not self.reach:
            return len(survivors) > self._colluders
        kept = set(survivors)
        return fewest_in_two_windows([shop in kept for shop in self._ring], self.reach) > self._colluders


def reach(shops: int, colluders: int) -> int:
    """Places on either side that each shop is joined to in a ring of so many; 0 if to all."""
    half = max(_LEAST_DEGREE // 2, -(-3 * colluders // 2))
    return 0 if shops <= COMPLETE or 2 * half >= shops - 1 else half


def fewest_in_two_windows(present: Sequence[bool], window: int) -> int:
    """Fewest that are present in two disjoint windows of consecutive places around a ring."""
    places = len(present)
    around = [0]
    for place in range(2 * places):
        around.append(around[-1] + present[place % places])
    sums = [around[start + window] - around[start] for start in range(places)]
    # For a first window at a start, the second is anywhere in the rest: a sliding minimum, from both ends.
    fewest = 2 * window
    for first in range(places):
        apart = range(first + window, first + places - window + 1)
        second = min((sums[start % places] for start in apart), default=window)
        fewest = min(fewest, sums[first] + second)
    return fewest
