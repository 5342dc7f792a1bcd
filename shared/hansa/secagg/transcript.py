"""What all shops of a round have agreed on once they have seen the adverts, and the statements they sign.

**Guarantee:** a statement's signature is worth nothing in another round, attempt, stage, for other adverts
or other lists. Since any two sets of t shops share an honest one, which signs one list of survivors a round
at most, at most one (U2, U3) ever finds t signatures.
"""

from __future__ import annotations

from collections.abc import Sequence

from hansa.errors import RefusalError
from hansa.secagg.graph import Graph
from hansa.secagg.keys import derive, digest, frame, names, verify, well_formed
from hansa.secagg.messages import Advert, Adverts
from hansa.secagg.parameters import RoundParameters
from hansa.secagg.roster import Roster

ADVERT, MASKED, AGREED = "advert", "masked", "agreed"


def advert_statement(
    parameters: RoundParameters, shop: str, envelope_key: bytes, mask_key: bytes, committed: bytes
) -> bytes:
    """What a shop signs of its advert."""
    return frame(parameters.digest, shop.encode(), envelope_key, mask_key, committed)


def commitment(secret: bytes, parameters: RoundParameters) -> bytes:
    """The commitment to the secret of a shop's own mask (Hb)."""
    return digest("commitment", secret, parameters.digest)


class Transcript:
    """The adverts of a round (U1), and what follows from them.

    Args:
        parameters: The round.
        adverts: Those of U1.

    Attributes:
        digest: Binds all of it (tau).
        graph: Who masks with whom.
        adverts: Each shop's advert.
        place: Each shop's place, from 1, at which its shares are evaluated.
    """

    def __init__(self, parameters: RoundParameters, adverts: Adverts) -> None:
        self.parameters = parameters
        self.adverts = {advert.shop: advert for advert in adverts.rows()}
        signed = [frame(_statement(parameters, row), row.signature) for row in self.adverts.values()]
        self.digest = digest("transcript", parameters.digest, *signed)
        self.place = {shop: place for place, shop in enumerate(self.adverts, start=1)}
        self.graph = Graph(list(self.adverts), self.digest, parameters.threshold, parameters.colluders)

    def check(self, roster: Roster) -> None:
        """Whether everybody in it is who they say, for this very round.

        Raises:
            RefusalError: Too few, unknown, unsigned or repeated keys, or keys of another round.
        """
        if len(self.adverts) < self.parameters.threshold:
            raise RefusalError(
                f"secure aggregation: {len(self.adverts)} shops advertised, "
                f"{self.parameters.threshold} are needed",
                reason="too few shops",
            )
        seen: set[bytes] = set()
        for advert in self.adverts.values():
            trouble = advert_trouble(self.parameters, roster, advert, seen)
            if trouble:
                raise RefusalError(
                    f"secure aggregation: advert of {advert.shop}: {trouble}", reason="bad advert"
                )

    def masked(self, shared: Sequence[str]) -> bytes:
        """What a shop signs with its vector: with whom it masked."""
        return frame(self.parameters.digest, self.digest, names(list(shared)))

    def agreed(self, shared: Sequence[str], survivors: Sequence[str]) -> bytes:
        """What a shop signs of the survivors."""
        return frame(self.parameters.digest, self.digest, names(list(shared)), names(list(survivors)))

    def self_mask(self, shop: str, secret: bytes) -> bytes:
        """The seed of the mask that a shop shares with nobody."""
        return derive(secret, self.digest, "self mask", shop.encode())

    def pair_mask(self, shop: str, other: str, agreed: bytes) -> tuple[bytes, bool]:
        """The seed of the mask of two shops, and whether the first one adds it."""
        first, second = sorted((shop, other))
        seed = derive(agreed, self.digest, "pairwise mask", first.encode(), second.encode())
        return seed, shop == first


def _statement(parameters: RoundParameters, advert: Advert) -> bytes:
    keys = (advert.envelope_key, advert.mask_key, advert.commitment)
    return advert_statement(parameters, advert.shop, *keys)


def advert_trouble(
    parameters: RoundParameters, roster: Roster, advert: Advert, seen: set[bytes]
) -> str | None:
    """What is wrong with an advert, if anything; its keys join those ``seen``."""
    key = roster.keys.get(advert.shop)
    if key is None:
        return "not on the roster"
    if not verify(key, advert.signature, ADVERT, _statement(parameters, advert)):
        return "no valid signature for this round"
    for public in (advert.envelope_key, advert.mask_key):
        if not well_formed(public):
            return "not a key"
        if public in seen:
            return "a key that another has, or the same for both purposes"
        seen.add(public)
    return None
