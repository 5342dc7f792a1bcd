"""Versions of the league's model: what is there, and whether it is what was signed."""

from __future__ import annotations

from dataclasses import dataclass

from hansa.errors import UsageError, VerificationError
from hansa.league import ModelCard
from hansa.plan import Plan, parse_plan
from hansa_server.home import ServerHome, plain_name
from hansa_server.publishing import signer


@dataclass(frozen=True)
class Version:
    """A version of the model.

    Attributes:
        card: Its card.
        plan: The plan of its run.
        problem: Why it cannot be trusted; else empty.
    """

    card: ModelCard
    plan: Plan
    problem: str

    @property
    def shops(self) -> list[str]:
        """Shops that were in the sum of any round."""
        return sorted({shop for round_ in self.card.shops for shop in round_})


def versions(home: ServerHome) -> list[Version]:
    """All versions, the oldest first."""
    found = [version(home, path.parent.name) for path in home.models.glob("*/card.json")]
    return sorted(found, key=lambda one: (one.card.created, one.card.model))


def version(home: ServerHome, model: str) -> Version:
    """One version, with its signature and its file checked.

    Raises:
        UsageError: There is none of that name, or its card is damaged.
    """
    folder = home.models / plain_name("model", model)
    try:
        card = ModelCard.from_json(
            (folder / "card.json").read_text(encoding="utf-8"), str(folder / "card.json")
        )
    except OSError as error:
        raise UsageError(f"model {model}: no such version; see 'hansa server models list'") from error
    problem = "" if card.model == model else f"model {model}: the card is of {card.model}"
    try:
        card.check(
            signer(home).public_key().public_bytes_raw().hex(),
            (folder / "model.safetensors").read_bytes(),
        )
    except VerificationError as error:
        problem = str(error)
    except OSError as error:
        problem = f"model {model}: its file is gone ({error.strerror}); restore it from a backup"
    return Version(card, parse_plan(card.plan), problem)
