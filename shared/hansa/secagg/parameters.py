"""What is public of a round of secure aggregation, and agreed on by everybody before it begins."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, fields

from hansa.errors import UsageError
from hansa.secagg.keys import digest

LEAST_SHOPS, MOST_SHOPS = 3, 500
_HEX = re.compile(r"[0-9a-f]{64}")
_MOST_ENTRIES = 2**32
_TYPES = {"str": str, "int": int, "float": float}


def default_threshold(shops: int, colluders: int | None = None) -> tuple[int, int]:
    """Threshold t and colluders k for n shops: k = n / 10 but at least 1, t = 0.8 n or what k needs."""
    k = max(1, shops // 10) if colluders is None else colluders
    return max(-(-4 * shops // 5), (shops + k) // 2 + 1), k


def check_thresholds(shops: int, threshold: int, colluders: int) -> None:
    """Whether threshold t and colluders k protect n shops.

    Two sets of t shops share more than k, so at least one honest shop: a coordinator with k shops on
    its side cannot have two lists of survivors signed. And k shops alone hold too few shares.

    Raises:
        UsageError: They do not.
    """
    if not LEAST_SHOPS <= shops <= MOST_SHOPS:
        raise UsageError(f"secure aggregation: {shops} shops; it takes {LEAST_SHOPS} to {MOST_SHOPS}")
    if not (1 <= colluders < threshold <= shops and 2 * threshold > shops + colluders):
        fitting, few = default_threshold(shops)
        raise UsageError(
            f"secure aggregation: threshold t {threshold} and colluders k {colluders} of {shops} shops n; "
            f"needed: 1 <= k < t <= n and 2 t > n + k, e.g. t {fitting} and k {few}"
        )


@dataclass(frozen=True)
class RoundParameters:
    """One round, in public (P in the protocol); every signature and every key of the round is bound to it.

    Attributes:
        run: The run's name.
        round: The absolute round, from 1.
        attempt: Which try of this round, from 1; an aborted round is tried again under the next number.
        plan: SHA-256 of the plan, in hex.
        roster: ``Roster.digest``, in hex.
        release: What is summed.
        entries: Numbers d in a vector.
        bits: The sum is modulo 2^bits.
        scale: A customer's bound in whole numbers.
        sensitivity: Largest squared L2 norm of a customer's whole numbers.
        sigma: Noise multiplier of the whole noise.
        threshold: Fewest shops t that a sum is over.
        honest: Fewest honest shops h in the sum: their shares make up the whole noise. h = t - k.
        colluders: Most shops k that may side with the coordinator.
        state: SHA-256 of the public state that contributions are computed from, in hex.

    Raises:
        UsageError: A field is of the wrong kind or out of range, whatever the number of shops.
    """

    run: str
    round: int
    plan: str
    roster: str
    release: str
    entries: int
    bits: int
    scale: int
    sensitivity: int
    sigma: float
    threshold: int
    honest: int
    colluders: int
    state: str
    attempt: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not _TYPES[str(field.type)]:
                raise UsageError(f"round parameters: {field.name}: not of type {field.type}: {value!r}")
        for name in ("plan", "roster", "state"):
            if not _HEX.fullmatch(getattr(self, name)):
                raise UsageError(f"round parameters: {name}: not a SHA-256 in hex")
        for name in ("run", "release"):
            if not is_name(getattr(self, name)):
                raise UsageError(f"round parameters: {name}: {NAME_RULE}")
        ranges = {"bits": (8, 64), "entries": (1, _MOST_ENTRIES), "colluders": (1, MOST_SHOPS)}
        for name in ("round", "attempt", "scale", "sensitivity", "threshold", "honest"):
            ranges[name] = (1, 2**62)
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise UsageError(f"round parameters: {name}: {getattr(self, name)} is not {least} to {most}")
        if not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise UsageError("round parameters: sigma: not a finite number from 0 on")
        if self.honest != self.threshold - self.colluders:
            raise UsageError("round parameters: honest: not threshold - colluders")

    def check(self, shops: int) -> None:
        """See ``check_thresholds``."""
        check_thresholds(shops, self.threshold, self.colluders)

    def to_json(self) -> str:
        """The one spelling of these parameters."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> RoundParameters:
        """Read what ``to_json`` wrote.

        Raises:
            UsageError: Anything else, be it only spelled differently.
        """
        try:
            found = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            raise UsageError("round parameters: not JSON") from None
        wanted = {field.name for field in fields(cls)}
        if not isinstance(found, dict) or set(found) != wanted:
            given = set(found) if isinstance(found, dict) else set()
            differing = ", ".join(sorted(map(repr, given ^ wanted)))
            raise UsageError(f"round parameters: unknown or missing: {differing}")
        parameters = cls(**found)
        if parameters.to_json() != text:
            raise UsageError(
                "round parameters: not in canonical spelling: sorted keys, no spaces, no repeats"
            )
        return parameters

    @property
    def digest(self) -> bytes:
        """The SHA-256 that everything in the round is bound to (hp)."""
        return digest("parameters", self.to_json().encode())


NAME_RULE = "not a name: 1 to 128 bytes of printable characters"


def is_name(value: object) -> bool:
    """Whether this may be the name of a shop, a run or a release."""
    return isinstance(value, str) and value.isprintable() and 1 <= len(value.encode()) <= 128
