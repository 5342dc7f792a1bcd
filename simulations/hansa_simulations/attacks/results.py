"""What an attack found, as a report carries it (``hansa.audit.document.Attack``)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

Scalar = float | int | str | bool | None


@dataclass(frozen=True)
class AttackResult:
    """Result of an attack on one claim.

    Attributes:
        attack: ``door``, ``canaries``, ``membership`` or ``served``.
        method: The method of learning.
        dp: The DP model.
        claimed: Epsilon as claimed; None: nothing is claimed.
        delta: Of claim and bound.
        bound: Lower bound on epsilon that the trials prove; None: they prove none, or it is infinite, see
            ``broken``.
        confidence: Of the bound, over all bounds of one command together.
        trials: How many there were.
        figures: Further figures by name.
        broken: The claim is refuted.
        words: In one plain sentence.
    """

    attack: str
    method: str
    dp: str
    claimed: float | None
    delta: float | None
    bound: float | None
    confidence: float | None
    trials: int
    figures: dict[str, Scalar] = field(default_factory=dict)
    broken: bool = False
    words: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)
