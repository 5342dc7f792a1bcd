"""Who takes part: a roster of long-term keys, and what one shop demands of a round before it joins.

**Guarantee:** what a member accepts comes from its own file. A coordinator can neither add a shop, swap a
key, nor lower a threshold: the roster's hash is pinned, and shops that this member's operator has not
vouched for (having compared their fingerprints outside the coordinator) all count as the coordinator's own.
With v vouched-for shops of n, of whom c may be curious, K = (n - v) + c shops may side with the coordinator;
a round is joined only if it withstands k >= K of them and at least h = t - k honest vouched-for shops are
in every sum. Assumption: at most c of the vouched-for shops are in fact dishonest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hansa.errors import RefusalError, UsageError
from hansa.secagg.keys import SECRET, digest, is_sound
from hansa.secagg.parameters import LEAST_SHOPS, MOST_SHOPS, NAME_RULE, RoundParameters, is_name


@dataclass(frozen=True)
class Roster:
    """The shops of a federation and their long-term Ed25519 public keys.

    Attributes:
        keys: Public key (32 bytes) of each shop.

    Raises:
        UsageError: A name or a key is not one, two shops have the same key, or too few or many shops.
    """

    keys: Mapping[str, bytes]

    def __post_init__(self) -> None:
        if not LEAST_SHOPS <= len(self.keys) <= MOST_SHOPS:
            raise UsageError(f"roster: {len(self.keys)} shops; it takes {LEAST_SHOPS} to {MOST_SHOPS}")
        for shop, key in self.keys.items():
            if not is_name(shop):
                raise UsageError(f"roster: {shop!r}: {NAME_RULE}")
            if not _is_key(key):
                raise UsageError(f"roster: {shop}: not an Ed25519 public key of {SECRET} bytes")
        if len(set(self.keys.values())) < len(self.keys):
            raise UsageError("roster: two shops have the same key; each needs its own")
        object.__setattr__(self, "keys", dict(sorted(self.keys.items())))

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the roster, in hex: the same for the same shops with the same keys."""
        return digest("roster", self.to_json().encode()).hex()

    def fingerprint(self, shop: str) -> str:
        """A shop's name and key as 40 digits, to be compared by telephone.

        Raises:
            UsageError: The shop is not on the roster.
        """
        if shop not in self.keys:
            raise UsageError(f"roster: no shop {shop!r}")
        number = int.from_bytes(digest("fingerprint", shop.encode(), self.keys[shop]), "big")
        digits = f"{number % 10**40:040d}"
        return " ".join(digits[start : start + 5] for start in range(0, 40, 5))

    def to_json(self) -> str:
        """The one spelling of this roster."""
        keys = {shop: key.hex() for shop, key in self.keys.items()}
        return json.dumps(keys, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Roster:
        """Read a roster; a shop that is listed twice is an error, spacing is not.

        Raises:
            UsageError: Not a roster.
        """
        try:
            found = json.loads(text, object_pairs_hook=_once)
            return cls({shop: bytes.fromhex(key) for shop, key in found.items()})
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise UsageError("roster: not a JSON object of hex keys by shop, each shop once") from None


def _once(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    listed = list(pairs)
    if len(dict(listed)) < len(listed):
        raise ValueError("listed twice")
    return dict(listed)


def _is_key(key: object) -> bool:
    if not isinstance(key, bytes) or len(key) != SECRET or not is_sound(key):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Member:
    """A shop's own side, from its own file and never from a coordinator.

    Attributes:
        name: The shop.
        key: Its long-term signing key.
        roster: The roster that its operator has approved.
        vouched: Shops whose fingerprints the operator has compared; the shop itself always.
        threshold: Least threshold t that it accepts.
        honest: Least number h of honest shops in a sum that it accepts.
        bits: Least bits that it accepts.
        colluders: How many of the vouched-for shops may be curious, at least 1.

    Raises:
        UsageError: It cannot be a member of this roster on these terms.
    """

    name: str
    key: Ed25519PrivateKey = field(repr=False)
    roster: Roster = field(repr=False)
    vouched: frozenset[str] = field(repr=False)
    threshold: int
    honest: int
    bits: int
    colluders: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "vouched", frozenset(self.vouched) | {self.name})
        if self.roster.keys.get(self.name) != self.key.public_key().public_bytes_raw():
            raise UsageError(f"shop {self.name}: the roster lists no such shop with this key")
        if not self.vouched <= self.roster.keys.keys():
            unknown = ", ".join(sorted(self.vouched - self.roster.keys.keys()))
            raise UsageError(f"shop {self.name}: vouched for, but not on the roster: {unknown}")
        if self.colluders < 1 or self.threshold < 1 or self.honest < 1:
            raise UsageError(f"shop {self.name}: colluders, threshold and honest are 1 or more")

    @property
    def suspects(self) -> int:
        """How many shops may side with the coordinator (K): all that are not vouched for, and the curious."""
        return len(self.roster) - len(self.vouched) + self.colluders

    def check(self, parameters: RoundParameters) -> None:
        """Whether this shop may join a round on these terms.

        Raises:
            RefusalError: It may not.
        """
        shops = len(self.roster)
        if parameters.roster != self.roster.digest:
            raise _refusal("roster", "the round is for another roster than the approved one")
        try:
            parameters.check(shops)
        except UsageError as error:
            raise _refusal("threshold", str(error)) from None
        for name in ("threshold", "honest", "bits"):
            asked, least = getattr(parameters, name), getattr(self, name)
            if asked < least:
                raise _refusal(name, f"{name} {asked} is below the {least} that this shop accepts")
        if parameters.colluders < self.suspects:
            raise _refusal(
                "vouching",
                f"{self.suspects} shops may side with the coordinator ({shops - len(self.vouched)} not "
                f"vouched for, {self.colluders} curious), the round withstands {parameters.colluders}",
            )
        if len(self.vouched) - self.colluders < parameters.honest:
            raise _refusal(
                "vouching",
                f"too few vouched-for shops for {parameters.honest} honest ones: {len(self.vouched)}",
            )

    def check_survivors(self, parameters: RoundParameters, survivors: Iterable[str]) -> None:
        """Whether enough honest vouched-for shops are among these for the whole noise.

        Raises:
            RefusalError: Too few.
        """
        counted = len(self.vouched.intersection(survivors)) - self.colluders
        if counted < parameters.honest:
            raise _refusal(
                "vouching",
                f"{max(0, counted)} honest vouched-for shops survive, {parameters.honest} are needed",
            )


def _refusal(reason: str, detail: str) -> RefusalError:
    return RefusalError(f"secure aggregation: {detail}", reason=f"policy: {reason}")
