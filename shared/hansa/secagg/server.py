"""The coordinator's side of a round: it passes messages on, sums what is masked, and takes the masks off.

**Guarantee:** none of its own; what it may learn is limited by the shops (``hansa.secagg.shop``). It keeps
one sum and never a single vector. The sum is exact modulo 2^bits over the survivors if it comes at all: what
is wrong in a message drops the shop that sent it, with a reason, and wrong shares are found out by the shops'
own commitments while enough right ones are left. Assumption: who sent a message is known from the transport;
of the messages only adverts, uploads and agreements are signed.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hansa.errors import AbortError, HansaError, UsageError
from hansa.secagg.keys import agree, public_of, verify
from hansa.secagg.masks import Mask, add_packed, apply_masks, centre, residue_type
from hansa.secagg.messages import (
    Advert,
    Adverts,
    Agreement,
    Agreements,
    Delivery,
    Envelopes,
    Shares,
    Survivors,
    Upload,
)
from hansa.secagg.parameters import RoundParameters
from hansa.secagg.recovery import Recovery
from hansa.secagg.roster import Roster
from hansa.secagg.transcript import AGREED, MASKED, Transcript, advert_trouble, commitment


class Aggregation:
    """One round. Of each stage, replies are taken one by one; asking for the next stage's request ends it.

    Args:
        parameters: The round.
        roster: Who may take part.

    Attributes:
        rejected: Why a reply was not taken, by the shop that it was from; such a shop counts as dropped.

    Raises:
        UsageError: The parameters do not fit the roster.
    """

    def __init__(self, parameters: RoundParameters, roster: Roster) -> None:
        parameters.check(len(roster))
        if parameters.roster != roster.digest:
            raise UsageError("secure aggregation: the round's parameters name another roster")
        self.rejected: dict[str, str] = {}
        self._parameters, self._roster = parameters, roster
        self._stage = 0
        self._keys: set[bytes] = set()
        self._adverts: dict[str, Advert] = {}
        self._envelopes: dict[str, dict[str, bytes]] = {}
        self._uploads: dict[str, bytes] = {}
        self._agreements: dict[str, bytes] = {}
        self._shares: dict[str, Shares] = {}
        self._total = np.zeros(parameters.entries, residue_type(parameters.bits))

    def advert(self, advert: Advert) -> bool:
        """Take a shop's reply to stage 0; False if it is rejected."""
        trouble = self._untimely(0, advert.shop, self._adverts, self._roster.keys)
        trouble = trouble or advert_trouble(self._parameters, self._roster, advert, self._keys)
        if trouble:
            return self._reject(advert.shop, trouble)
        self._adverts[advert.shop] = advert
        return True

    def adverts(self) -> Adverts:
        """The request of stage 1, the same for all that advertised (U1).

        Raises:
            AbortError: Fewer than the threshold.
        """
        self._end(0, len(self._adverts), "advertised")
        listed = Adverts.of(list(self._adverts.values()))
        self._transcript = Transcript(self._parameters, listed)
        self._graph = self._transcript.graph
        return listed

    def envelopes(self, envelopes: Envelopes) -> bool:
        """Take a shop's reply to stage 1; False if it is rejected."""
        trouble = self._untimely(1, envelopes.shop, self._envelopes, self._adverts)
        if not trouble and envelopes.recipients != self._graph.neighbours(envelopes.shop):
            trouble = "envelopes for others than its neighbours"
        if trouble:
            return self._reject(envelopes.shop, trouble)
        self._envelopes[envelopes.shop] = dict(zip(envelopes.recipients, envelopes.sealed, strict=True))
        return True

    def deliveries(self) -> dict[str, Delivery]:
        """The requests of stage 2, one for each shop that shared (U2).

        Raises:
            AbortError: Fewer than the threshold, or they could be cut off from each other.
        """
        self._end(1, len(self._envelopes), "shared")
        self._shared = sorted(self._envelopes)
        self._check_graph(self._shared)
        found = {}
        for shop in self._shared:
            senders = [other for other in self._graph.neighbours(shop) if other in self._envelopes]
            sealed = [self._envelopes[sender][shop] for sender in senders]
            found[shop] = Delivery(list(self._shared), senders, sealed)
        self._envelopes = {}
        return found

    def upload(self, upload: Upload, packed: bytes) -> bool:
        """Take a shop's reply to stage 2, with its packed masked vector; False if it is rejected."""
        trouble = self._untimely(2, upload.shop, self._uploads, self._shared)
        if not trouble and not self._signed(
            upload.shop, upload.signature, MASKED, self._transcript.masked(self._shared)
        ):
            trouble = "it has not signed to have masked with the shops that shared"
        if not trouble:
            try:
                add_packed(self._total, packed, self._parameters.bits)
            except UsageError as error:
                trouble = str(error)
        if trouble:
            return self._reject(upload.shop, trouble)
        self._uploads[upload.shop] = upload.signature
        return True

    def survivors(self) -> Survivors:
        """The request of stage 3, the same for all whose vectors are in the sum (U3).

        Raises:
            AbortError: Fewer than the threshold, or they could be cut off from each other.
        """
        self._end(2, len(self._uploads), "sent a vector")
        self._survivors = sorted(self._uploads)
        self._check_graph(self._survivors)
        self._check_holders(self._survivors)
        return Survivors(list(self._survivors), [self._uploads[shop] for shop in self._survivors])

    def agreement(self, agreement: Agreement) -> bool:
        """Take a shop's reply to stage 3; False if it is rejected."""
        trouble = self._untimely(3, agreement.shop, self._agreements, self._uploads)
        statement = b"" if trouble else self._transcript.agreed(self._shared, self._survivors)
        if not trouble and not self._signed(agreement.shop, agreement.signature, AGREED, statement):
            trouble = "no valid signature of the survivors"
        if trouble:
            return self._reject(agreement.shop, trouble)
        self._agreements[agreement.shop] = agreement.signature
        return True

    def agreements(self) -> Agreements:
        """The request of stage 4, the same for all that agreed.

        Raises:
            AbortError: Fewer than the threshold, or too few that hold shares of some shop.
        """
        self._end(3, len(self._agreements), "agreed on the survivors")
        signers = sorted(self._agreements)
        self._check_holders(signers)
        return Agreements(signers, [self._agreements[shop] for shop in signers])

    def shares(self, shares: Shares) -> bool:
        """Take a shop's reply to stage 4; False if it is rejected."""
        trouble = self._untimely(4, shares.shop, self._shares, self._agreements)
        if not trouble:
            held = set(self._graph.holders(shares.shop))
            kept = [shop for shop in self._survivors if shop in held]
            if (shares.survivors, shares.lost) != (kept, [shop for shop in self._lost() if shop in held]):
                trouble = "shares of others than it holds"
        if trouble:
            return self._reject(shares.shop, trouble)
        self._shares[shares.shop] = shares
        return True

    def result(self) -> npt.NDArray[np.int64]:
        """The sum over the survivors modulo 2^bits, centred, int64 [entries]; once.

        Raises:
            AbortError: Too few right shares of some shop.
        """
        self._end(4, len(self._shares), "gave shares")
        apply_masks(self._total, self._masks())
        return centre(self._total, self._parameters.bits)

    @property
    def summed(self) -> list[str]:
        """Whose vectors are in the sum (U3)."""
        return sorted(self._uploads)

    def _masks(self) -> list[Mask]:
        """All masks that are left in the sum, to take off."""
        transcript, recovery = self._transcript, Recovery(self._graph.needed)
        own: dict[str, dict[str, bytes]] = {shop: {} for shop in self._survivors}
        keys: dict[str, dict[str, bytes]] = {shop: {} for shop in self._lost()}
        for holder, given in self._shares.items():
            for shop, share in zip(given.survivors, given.self_shares, strict=True):
                own[shop][holder] = share
            for shop, share in zip(given.lost, given.key_shares, strict=True):
                keys[shop][holder] = share
        masks: list[Mask] = []
        for shop, shares in own.items():
            secret = self._recover(recovery, shop, shares, self._fits_commitment(shop))
            masks.append((transcript.self_mask(shop, secret), False))
        kept = set(self._survivors)
        for shop, shares in keys.items():
            secret = self._recover(recovery, shop, shares, self._fits_mask_key(shop))
            for other in self._graph.neighbours(shop):
                if other in kept:
                    agreed = agree(secret, transcript.adverts[other].mask_key)
                    # As the lost shop would have: that takes off what the survivor has put on.
                    masks.append(transcript.pair_mask(shop, other, agreed))
        for liar in recovery.liars:
            self._reject(liar, "it gave a wrong share")
        return masks

    def _recover(
        self, recovery: Recovery, shop: str, shares: dict[str, bytes], right: Callable[[bytes], bool]
    ) -> bytes:
        secret = recovery.secret(shares, self._transcript.place, right)
        if secret is None:
            raise self._abort(
                f"{len(shares)} shares of {shop}'s secret do not make it, {self._graph.needed} right ones "
                "are needed: there are too few, or this shop or several holders lied"
            )
        return secret

    def _fits_commitment(self, shop: str) -> Callable[[bytes], bool]:
        committed = self._transcript.adverts[shop].commitment
        return lambda secret: hmac.compare_digest(commitment(secret, self._parameters), committed)

    def _fits_mask_key(self, shop: str) -> Callable[[bytes], bool]:
        public = self._transcript.adverts[shop].mask_key
        return lambda secret: hmac.compare_digest(public_of(secret), public)

    def _lost(self) -> list[str]:
        return [shop for shop in self._shared if shop not in self._uploads]

    def _signed(self, shop: str, signature: bytes, label: str, statement: bytes) -> bool:
        return verify(self._roster.keys[shop], signature, label, statement)

    def _untimely(self, stage: int, shop: str, taken: object, expected: object) -> str | None:
        if self._stage != stage:
            return "its reply is not of this stage"
        if shop in taken:  # type: ignore[operator]
            return "it has replied before"
        return None if shop in expected else "it is not part of this stage"  # type: ignore[operator]

    def _reject(self, shop: str, reason: str) -> bool:
        self.rejected.setdefault(shop, reason)
        return False

    def _end(self, stage: int, count: int, done: str) -> None:
        if self._stage != stage:
            raise UsageError("secure aggregation: the stages of a round follow each other, each once")
        self._stage += 1
        if count < self._parameters.threshold:
            raise self._abort(f"{count} shops {done}, {self._parameters.threshold} are needed")

    def _check_graph(self, shops: list[str]) -> None:
        if not self._graph.survives(shops):
            raise self._abort("the shops that are left could be cut off from each other")

    def _check_holders(self, left: list[str]) -> None:
        there = set(left)
        for shop in self._shared:
            count = len(there.intersection(self._graph.holders(shop)))
            if count < self._graph.needed:
                raise self._abort(
                    f"{count} shops are left that hold shares of {shop}, {self._graph.needed} are needed"
                )

    def _abort(self, why: str) -> HansaError:
        self._stage = -1
        self._total = self._total[:0]
        rejected = "".join(f"; {shop}: {reason}" for shop, reason in sorted(self.rejected.items()))
        where = f"round {self._parameters.round}, attempt {self._parameters.attempt}"
        return AbortError(f"secure aggregation: {where} aborted: {why}{rejected}")
