"""A league for the tests: shops with their policies, and rounds in which shops drop where they like."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.errors import RefusalError
from hansa.rng import seeded_generator
from hansa.secagg.markers import MarkerMemory, Markers
from hansa.secagg.masks import pack, residue_type
from hansa.secagg.messages import Message
from hansa.secagg.parameters import RoundParameters, default_threshold
from hansa.secagg.roster import Member, Roster
from hansa.secagg.server import Aggregation
from hansa.secagg.shop import Masks, Round, advertise


def resent(message: Any) -> Any:
    """As it arrives: made anew of its fields."""
    assert isinstance(message, Message)
    return type(message).from_fields(message.to_fields())


@dataclass
class Shop:
    """A shop that keeps its state as bytes between any two stages, as a process that ends would."""

    member: Member
    markers: Markers = field(default_factory=MarkerMemory)
    state: bytes = b""
    refused: RefusalError | None = None

    def advertise(self, parameters: RoundParameters) -> Any:
        kept, advert = advertise(self.member, self.markers, parameters)
        self.state = kept.to_bytes()
        return resent(advert)

    def reply(self, stage: str, request: Any) -> Any:
        kept = Round.from_bytes(self.state)
        answer = getattr(kept, stage)(self.member, self.markers, resent(request))
        if stage == "unmask":
            self.state = b""
            return resent(answer)
        kept, reply = answer
        self.state = kept.to_bytes()
        return reply if isinstance(reply, Masks) else resent(reply)


class League:
    """Shops ``s00``, ``s01``, ... that all vouch for each other."""

    def __init__(self, shops: int, *, bits: int = 32, entries: int = 16, **changes: Any) -> None:
        self.names = [f"s{number:02d}" for number in range(shops)]
        signing = {name: Ed25519PrivateKey.generate() for name in self.names}
        self.roster = Roster({name: key.public_key().public_bytes_raw() for name, key in signing.items()})
        threshold, colluders = default_threshold(shops)
        threshold, colluders = changes.pop("threshold", threshold), changes.pop("colluders", colluders)
        self.parameters = RoundParameters(
            run="run",
            round=1,
            plan="0" * 64,
            roster=self.roster.digest,
            release="counts",
            entries=entries,
            bits=bits,
            scale=4096,
            sensitivity=4096**2,
            sigma=1.0,
            threshold=threshold,
            honest=threshold - colluders,
            colluders=colluders,
            state="1" * 64,
        )
        self.parameters = replace(self.parameters, **changes)
        self.shops = {
            name: Shop(
                Member(
                    name=name,
                    key=key,
                    roster=self.roster,
                    vouched=frozenset(self.names),
                    threshold=threshold,
                    honest=threshold - colluders,
                    bits=bits,
                    colluders=colluders,
                )
            )
            for name, key in signing.items()
        }

    def vectors(self, seed: int = 0) -> dict[str, npt.NDArray[np.int64]]:
        """Whole numbers of all shops whose sum does not wrap around."""
        generator = seeded_generator(seed, "vectors")
        most = 2 ** (self.parameters.bits - 1) // len(self.names) - 1
        return {
            name: generator.integers(-most, most, self.parameters.entries, endpoint=True)
            for name in self.names
        }

    def masked(self, masks: Masks, vector: npt.NDArray[np.int64]) -> bytes:
        residues = vector.astype(np.uint64).astype(residue_type(self.parameters.bits))
        masks.apply(residues)
        return pack(residues, self.parameters.bits)

    def begin(self) -> Aggregation:
        return Aggregation(self.parameters, self.roster)

    def run(
        self,
        vectors: Mapping[str, npt.NDArray[np.int64]],
        drops: Mapping[str, Collection[str]] | None = None,
        seen: Callable[[str, str, Any], Any] = lambda stage, shop, reply: reply,
    ) -> tuple[Aggregation, npt.NDArray[np.int64]]:
        """A round; who is in ``drops`` of a stage never replies to it. ``seen`` may change a reply."""
        drops = drops or {}
        server = self.begin()
        alive = list(self.names)

        def left(stage: str) -> Sequence[str]:
            alive[:] = [name for name in alive if name not in drops.get(stage, ())]
            return alive

        for name in left("advertise"):
            server.advert(seen("advertise", name, self.shops[name].advertise(self.parameters)))
        adverts = server.adverts()
        for name in left("share"):
            server.envelopes(seen("share", name, self.shops[name].reply("share", adverts)))
        deliveries = server.deliveries()
        for name in left("upload"):
            masks = self.shops[name].reply("open", deliveries[name])
            server.upload(masks.upload, seen("upload", name, self.masked(masks, vectors[name])))
        survivors = server.survivors()
        for name in left("agree"):
            server.agreement(seen("agree", name, self.shops[name].reply("agree", survivors)))
        agreements = server.agreements()
        for name in left("unmask"):
            server.shares(seen("unmask", name, self.shops[name].reply("unmask", agreements)))
        return server, server.result()


@pytest.fixture
def league() -> Callable[..., League]:
    return League
