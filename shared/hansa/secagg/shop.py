"""A shop's side of a round: five stages, each done once, and what it keeps between them.

**Guarantee** (one shop's vector, unit: the whole vector; computational): a coordinator that follows the
protocol learns of the vectors only the sum, modulo 2^bits, over at least t shops. So does a coordinator that
deviates in any way and knows all that up to k shops know, these deviating too: the sum that it can unmask is
then over at least h = t - k honest shops, all of those in the one list of survivors that t shops have signed,
or nothing. Assumptions: this shop runs this code; at most k of the roster's shops side with the coordinator,
which ``Member`` counts from its own file; markers last; X25519, HKDF-SHA256, Ed25519, ChaCha20-Poly1305 and
AES-256 are as strong as believed. Not protected: that a shop takes part and when; what the sum says, which
is for the noise in it; the sum's correctness. Nobody can check another shop's vector: one dishonest shop can
set the sum to anything, or make a round fail.

The protocol is that of Bonawitz et al. 2017 (CCS, figure 4) with its consistency check, and two additions:
a shop signs with its vector whom it masked with (U2), and signs survivors (U3) only if all of them masked
with the same; in a graph that is not complete, shops that never sign could else cut it in two.
"""

from __future__ import annotations

import base64
import json
import secrets as entropy
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hansa.errors import HansaError, RefusalError, UsageError
from hansa.secagg.keys import SECRET, Channel, agree, public_of, sign, verify
from hansa.secagg.markers import STAGES, Markers
from hansa.secagg.masks import Mask, Residues, apply_masks, residue_type
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
from hansa.secagg.roster import Member
from hansa.secagg.shamir import SHARE, is_share, share
from hansa.secagg.transcript import ADVERT, AGREED, MASKED, Transcript, advert_statement, commitment

_ADVERTISE, _SHARE, _UPLOAD, _AGREE, _UNMASK = STAGES


@dataclass(frozen=True)
class Masks:
    """What hides one shop's vector; to be used once, and never kept.

    Attributes:
        upload: The message that goes with the masked vector.
    """

    upload: Upload
    _entries: int = field(repr=False)
    _bits: int = field(repr=False)
    _masks: tuple[Mask, ...] = field(repr=False)

    def apply(self, vector: Residues) -> None:
        """Add all masks to a vector, in place.

        Args:
            vector: [entries], contiguous; uint32 up to 32 bits, uint64 above.

        Raises:
            UsageError: It is not of this type and length.
        """
        if (
            vector.dtype != residue_type(self._bits)
            or vector.shape != (self._entries,)
            or not vector.flags.c_contiguous
        ):
            raise UsageError(f"vector to mask: not {self._entries} contiguous {residue_type(self._bits)}")
        apply_masks(vector, self._masks)


@dataclass(frozen=True, repr=False)
class Round:
    """What a shop keeps between two stages; never its vector, and secrets no longer than needed.

    Whoever gets hold of it before the upload can unmask this shop's vector with the coordinator's help. After
    a refusal, or once ``unmask`` has answered, it is to be thrown away.

    Attributes:
        parameters: The round.
        stage: The last stage done.
        advert: What this shop advertised.
        secrets: Private keys c and s, and b, 32 bytes each; empty from the upload on.
        adverts: All adverts; None before stage 1.
        held: Shares of b and s together that this shop holds, by whose they are.
        shared: Who shared (U2); empty before the upload.
        survivors: Whose vectors are in the sum (U3); empty before agreeing.
    """

    parameters: RoundParameters
    stage: str
    advert: Advert
    secrets: tuple[bytes, ...]
    adverts: Adverts | None = None
    held: dict[str, bytes] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    survivors: tuple[str, ...] = ()

    def share(self, member: Member, markers: Markers, adverts: Adverts) -> tuple[Round, Envelopes]:
        """Stage 1: check all adverts (U1), and seal shares of this shop's secrets for its neighbours.

        Raises:
            RefusalError: Too few shops; unknown, unsigned, stale or repeated keys; done before.
        """
        self._follows(member, _ADVERTISE)
        transcript = Transcript(self.parameters, adverts)
        transcript.check(member.roster)
        if transcript.adverts.get(member.name) != self.advert:
            raise _refusal("bad advert", "this shop's own advert is missing or changed")
        self._claim(markers, _SHARE, transcript.digest)
        envelope_secret, mask_secret, self_secret = self.secrets
        holders = transcript.graph.holders(member.name)
        places = [transcript.place[holder] for holder in holders]
        needed = transcript.graph.needed
        both = zip(share(self_secret, places, needed), share(mask_secret, places, needed), strict=True)
        pairs = {holder: one + other for holder, (one, other) in zip(holders, both, strict=True)}
        own = pairs.pop(member.name)
        sealed = [
            Channel(
                agree(envelope_secret, transcript.adverts[holder].envelope_key),
                transcript.digest,
                member.name,
                holder,
            ).seal(pair)
            for holder, pair in pairs.items()
        ]
        after = replace(self, stage=_SHARE, adverts=adverts, held={member.name: own})
        return after, Envelopes(member.name, list(pairs), sealed)

    def open(self, member: Member, markers: Markers, delivery: Delivery) -> tuple[Round, Masks]:
        """Stage 2: open all envelopes of those who shared (U2), and derive this shop's masks.

        The caller charges the ledger next, then forms the vector, applies the masks and sends it.

        Raises:
            RefusalError: Too few shops or this one left out; an envelope missing or for other adverts; a
                graph that k shops could cut; done before.
        """
        self._follows(member, _SHARE)
        transcript, shared = self._transcript(), delivery.shared
        self._check_list("shared", shared, member.name, transcript.adverts)
        graph = transcript.graph
        if not graph.survives(shared):
            raise _refusal("too few shops", "the shops that shared could be cut off from each other")
        wanted = [other for other in graph.neighbours(member.name) if other in set(shared)]
        if delivery.senders != wanted:
            raise _refusal("bad envelopes", "the envelopes are not those of the neighbours that shared")
        envelope_secret, mask_secret, self_secret = self.secrets
        held, masks = dict(self.held), [(transcript.self_mask(member.name, self_secret), True)]
        for sender, sealed in zip(delivery.senders, delivery.sealed, strict=True):
            advert = transcript.adverts[sender]
            channel = Channel(
                agree(envelope_secret, advert.envelope_key), transcript.digest, sender, member.name
            )
            pair = channel.open(sealed)
            if pair is None or not (is_share(pair[:SHARE]) and is_share(pair[SHARE:])):
                raise _refusal(
                    "bad envelopes",
                    f"the envelope of {sender} does not open: changed, or made for other adverts",
                )
            held[sender] = pair
            masks.append(transcript.pair_mask(member.name, sender, agree(mask_secret, advert.mask_key)))
        statement = transcript.masked(shared)
        self._claim(markers, _UPLOAD, statement)
        upload = Upload(member.name, sign(member.key, MASKED, statement))
        after = replace(self, stage=_UPLOAD, secrets=(), held=held, shared=tuple(shared))
        return after, Masks(upload, self.parameters.entries, self.parameters.bits, tuple(masks))

    def agree(self, member: Member, markers: Markers, listed: Survivors) -> tuple[Round, Agreement]:
        """Stage 3: sign the list of survivors (U3), the only one that this shop ever signs for this round.

        Raises:
            RefusalError: Too few survivors, or too few vouched-for ones; some that never shared, or masked
                with others than this shop did; this one left out; a graph that k shops could cut; done
                before.
        """
        self._follows(member, _UPLOAD)
        transcript, survivors = self._transcript(), listed.survivors
        self._check_list("survivors", survivors, member.name, self.shared)
        # Follows from the policy and the threshold today; the noise rests on it, so it is looked at itself.
        member.check_survivors(self.parameters, survivors)
        if not transcript.graph.survives(survivors):
            raise _refusal("too few shops", "the survivors could be cut off from each other")
        masked = transcript.masked(self.shared)
        for shop, signature in zip(survivors, listed.signatures, strict=True):
            if not verify(member.roster.keys[shop], signature, MASKED, masked):
                raise _refusal("split view", f"{shop} has not signed to have masked with the same shops")
        statement = transcript.agreed(self.shared, survivors)
        self._claim(markers, _AGREE, statement)
        agreement = Agreement(member.name, sign(member.key, AGREED, statement))
        return replace(self, stage=_AGREE, survivors=tuple(survivors)), agreement

    def unmask(self, member: Member, markers: Markers, agreed: Agreements) -> Shares:
        """Stage 4: give shares of b of survivors and of s of the others, if t survivors signed the same list.

        Raises:
            RefusalError: Too few signatures, or one that is not a survivor's of the list that this shop
                signed; done before.
        """
        self._follows(member, _AGREE)
        transcript = self._transcript()
        if len(agreed.signers) < self.parameters.threshold:
            raise _refusal(
                "too few shops",
                f"{len(agreed.signers)} shops agreed on the survivors, "
                f"{self.parameters.threshold} are needed",
            )
        statement = transcript.agreed(self.shared, self.survivors)
        survivors = set(self.survivors)
        for signer, signature in zip(agreed.signers, agreed.signatures, strict=True):
            if signer not in survivors or not verify(
                member.roster.keys[signer], signature, AGREED, statement
            ):
                raise _refusal("split view", f"{signer} has not signed the survivors that this shop signed")
        self._claim(markers, _UNMASK, statement)
        kept = [shop for shop in self.survivors if shop in self.held]
        lost = [shop for shop in self.shared if shop in self.held and shop not in survivors]
        return Shares(
            member.name,
            kept,
            [self.held[shop][:SHARE] for shop in kept],
            lost,
            [self.held[shop][SHARE:] for shop in lost],
        )

    def _follows(self, member: Member, stage: str) -> None:
        if self.stage != stage or self.advert.shop != member.name:
            raise _refusal("repeated or out of order", f"the last stage done is {self.stage}, not {stage}")
        # What was acceptable when the round began must still be: the shop's own file may have changed.
        member.check(self.parameters)

    def _check_list(self, what: str, listed: Sequence[str], own: str, among: Collection[str]) -> None:
        if len(listed) < self.parameters.threshold:
            raise _refusal(
                "too few shops", f"{what}: {len(listed)} shops, {self.parameters.threshold} are needed"
            )
        if own not in listed or not set(listed) <= set(among):
            raise _refusal(
                "bad list", f"{what}: this shop is missing, or there is one that was not there before"
            )

    def _claim(self, markers: Markers, stage: str, digest: bytes) -> None:
        _claim(markers, self.parameters, stage, digest)

    def _transcript(self) -> Transcript:
        assert self.adverts is not None, "read and replaced together with the stage"
        return Transcript(self.parameters, self.adverts)

    def to_bytes(self) -> bytes:
        """All of it, secrets included."""
        adverts = None if self.adverts is None else self.adverts.to_fields()
        content = {
            "parameters": self.parameters.to_json(),
            "stage": self.stage,
            "advert": self.advert.to_fields(),
            "secrets": list(self.secrets),
            "adverts": adverts,
            "holds": list(self.held),
            "held": list(self.held.values()),
            "shared": list(self.shared),
            "survivors": list(self.survivors),
        }
        return json.dumps(content, default=_encode).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Round:
        """Read what ``to_bytes`` wrote.

        Raises:
            RefusalError: Anything else; the shop then counts as dropped.
        """
        try:
            found = json.loads(content, object_hook=_decode)
            adverts = found["adverts"]
            kept = cls(
                RoundParameters.from_json(found["parameters"]),
                found["stage"],
                Advert.from_fields(found["advert"]),
                tuple(found["secrets"]),
                None if adverts is None else Adverts.from_fields(adverts),
                dict(zip(found["holds"], found["held"], strict=True)),
                tuple(found["shared"]),
                tuple(found["survivors"]),
            )
            right = kept._is_sound()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, HansaError):
            right = False
        if not right:
            raise _refusal("state lost", "what this shop has kept of the round is damaged")
        return kept

    def _is_sound(self) -> bool:
        number = STAGES.index(self.stage)
        known = set() if self.adverts is None else set(self.adverts.shops)
        secrets_right = [len(bytes(secret)) for secret in self.secrets] == [SECRET] * (3 if number < 2 else 0)
        held_right = all(is_share(pair[:SHARE]) and is_share(pair[SHARE:]) for pair in self.held.values())
        return (
            secrets_right
            and held_right
            and set(self.survivors) <= set(self.shared) <= known >= set(self.held)
            and (self.adverts is None) == (number == 0)
            and bool(self.shared) == (number >= 2)
            and bool(self.survivors) == (number >= 3)
        )


def advertise(member: Member, markers: Markers, parameters: RoundParameters) -> tuple[Round, Advert]:
    """Stage 0: check the round against this shop's own policy, and make keys for it.

    Raises:
        RefusalError: The policy forbids it, or the round is not later than the last one of this run.
    """
    member.check(parameters)
    _claim(markers, parameters, _ADVERTISE, parameters.digest)
    kept = tuple(entropy.token_bytes(SECRET) for _ in range(3))
    envelope_secret, mask_secret, self_secret = kept
    keys = (public_of(envelope_secret), public_of(mask_secret), commitment(self_secret, parameters))
    unsigned = advert_statement(parameters, member.name, *keys)
    advert = Advert(member.name, *keys, sign(member.key, ADVERT, unsigned))
    return Round(parameters, _ADVERTISE, advert, kept), advert


def _claim(markers: Markers, parameters: RoundParameters, stage: str, statement: bytes) -> None:
    markers.claim(parameters.run, parameters.round, parameters.attempt, stage, statement)


def _refusal(reason: str, detail: str) -> RefusalError:
    return RefusalError(f"secure aggregation: {detail}", reason=reason)


def _encode(value: object) -> dict[str, str]:
    assert isinstance(value, bytes)
    return {"base64": base64.b64encode(value).decode()}


def _decode(found: dict[str, Any]) -> Any:
    return base64.b64decode(found["base64"], validate=True) if found.keys() == {"base64"} else found
