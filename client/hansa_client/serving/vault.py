"""Versions of the league's model at a shop: received and checked, listed, pinned, rolled back.

A version is a folder of ``ShopHome.models`` that appears whole or not at all and never changes.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import tomlkit
from tomlkit.exceptions import ParseError

from hansa.durable import write_whole
from hansa.errors import UsageError, VerificationError
from hansa.league import ModelCard
from hansa.modelfile import check_state, model_bytes, read_model
from hansa.models.base import Method, State
from hansa.plan import Plan
from hansa_client.config import read_settings
from hansa_client.home import ShopHome
from hansa_client.invited import read_invitation

__all__ = ["NEWEST", "Version", "in_use", "model_bytes", "receive_model", "roll_back", "use", "versions"]

NEWEST = "newest"
"""Value of ``serving.model``: whichever version is newest, by the date that the coordinator has signed."""
AHEAD = timedelta(days=1)
"""Most that a version's date may be ahead of the shop's clock."""
_MODEL, _CARD = "model.safetensors", "card.json"


@dataclass(frozen=True)
class Version:
    """A version of the league's model that is kept here.

    Attributes:
        card: What is public of it, signed.
        folder: Where it lies.
    """

    card: ModelCard
    folder: Path

    @property
    def name(self) -> str:
        """The version's name."""
        return self.card.model

    @cached_property
    def plan(self) -> Plan:
        """The plan of the run that trained it."""
        return Plan.model_validate_json(self.card.plan)

    @property
    def method(self) -> Method:
        """How it was learnt, and how it scores."""
        return self.plan.learner

    @property
    def created(self) -> datetime:
        """When, by the coordinator's clock."""
        return _created(self.card)

    def load(self) -> State:
        """The public state.

        Raises:
            VerificationError: The file is no longer the one that was received.
        """
        try:
            content = (self.folder / _MODEL).read_bytes()
        except OSError as error:
            raise VerificationError(f"{self.folder}: {error.strerror}; ask for the model again") from error
        if hashlib.sha256(content).hexdigest() != self.card.sha256:
            raise VerificationError(
                f"{self.folder / _MODEL}: another file than was received; remove the folder, ask for it again"
            )
        return read_model(content, str(self.folder / _MODEL), self.method.state_shapes())


def receive_model(home: ShopHome, card: ModelCard, state: State) -> None:
    """Check a version of the league's model and keep it; the same one again changes nothing.

    The newest ``serving.keep`` versions are kept, the pinned one and this one; older ones are removed.

    Args:
        home: The shop's folder.
        card: What the coordinator says of it.
        state: The public state.

    Raises:
        VerificationError: It is not signed by the league's coordinator, not what its card or its plan says,
            dated ahead of the shop's clock, not of the league's catalogue, or another one than the version of
            this name that is here.
        UsageError: The invitation or the settings cannot be read.
    """
    invitation = read_invitation(home)
    serving = read_settings(home.settings).serving
    what = f"model {card.model}"
    check_state(state, what)
    content = model_bytes(state)
    card.check(invitation.signer, content)
    if _created(card) > datetime.now(UTC) + AHEAD:
        raise VerificationError(
            f"{what}: created {card.created}, more than a day ahead of this shop's clock, so it would stay "
            "the newest; check the clock with 'hansa client doctor', or ask the coordinator for a new version"
        )
    if card.model == NEWEST:
        raise VerificationError(f"{what}: a version cannot have this name; ask the coordinator for another")
    unknown = f"{what}: its card holds no plan that this version of hansa knows; upgrade hansa"
    try:
        plan = Plan.model_validate_json(card.plan)
    except ValueError as error:
        raise VerificationError(unknown) from error
    if card.league != invitation.league or plan.n_items != invitation.items:
        raise VerificationError(
            f"{what}: of league {card.league} with {plan.n_items} items, this shop is in {invitation.league} "
            f"with {invitation.items}; ask the coordinator for an invitation to it"
        )
    try:
        shapes = plan.learner.state_shapes()
    except UsageError as error:
        raise VerificationError(unknown) from error
    check_state(state, what, shapes)
    _keep(home, card, content)
    found = versions(home)
    wanted = {version.name for version in found[: serving.keep]} | {serving.model, card.model}
    for version in found:
        if version.name not in wanted:
            shutil.rmtree(version.folder, ignore_errors=True)


def _keep(home: ShopHome, card: ModelCard, content: bytes) -> None:
    folder = home.models / card.model
    if folder.exists():
        try:
            known = Version(ModelCard.from_json((folder / _CARD).read_bytes(), str(folder)), folder)
        except OSError as error:
            raise VerificationError(f"{folder}: it has no card; remove the folder") from error
        if known.card != card:
            raise VerificationError(
                f"model {card.model}: another version of this name is here already and stays; "
                "ask the coordinator for a new name"
            )
        write_whole(folder / _MODEL, content)
        return
    home.models.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=home.models))
    try:
        write_whole(draft / _MODEL, content)
        write_whole(draft / _CARD, card.to_json().encode())
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def versions(home: ShopHome) -> list[Version]:
    """What is kept, newest first.

    Raises:
        UsageError: A card cannot be read.
    """
    cards = sorted(home.models.glob(f"[!.]*/{_CARD}"))
    found = [Version(ModelCard.from_json(path.read_bytes(), str(path)), path.parent) for path in cards]
    return sorted(found, key=lambda version: (version.created, version.name), reverse=True)


def in_use(home: ShopHome, model: str = NEWEST) -> Version | None:
    """The version that serves; None before the first.

    Args:
        home: The shop's folder.
        model: ``serving.model`` of the settings.

    Raises:
        UsageError: The pinned version is not here.
    """
    found = versions(home)
    if model == NEWEST:
        return found[0] if found else None
    return _named(found, model)


def _named(found: list[Version], name: str) -> Version:
    for version in found:
        if version.name == name:
            return version
    kept = ", ".join(version.name for version in found) or "none"
    raise UsageError(
        f"serving.model: version {name!r} is not here (kept: {kept}); "
        "'hansa client models use newest' serves the newest"
    )


def use(home: ShopHome, name: str) -> Version | None:
    """Pin a version in ``shop.toml``, or with ``newest`` none; returns what serves now.

    Raises:
        UsageError: It is not here, or ``shop.toml`` cannot be changed.
    """
    chosen = in_use(home, name)
    read_settings(home.settings)
    try:
        document = tomlkit.parse(home.settings.read_text(encoding="utf-8"))
    except (OSError, ParseError) as error:
        raise UsageError(f"{home.settings}: {error}") from error
    document.setdefault("serving", tomlkit.table())["model"] = name
    write_whole(home.settings, tomlkit.dumps(document).encode())
    return chosen


def roll_back(home: ShopHome) -> Version:
    """Pin the version before the one that serves.

    Raises:
        UsageError: There is none.
    """
    found = versions(home)
    current = in_use(home, read_settings(home.settings).serving.model)
    older = found[found.index(current) + 1 :] if current is not None else []
    if not older:
        raise UsageError(
            f"rollback: no version before {'the first' if current is None else current.name} is kept; "
            "'hansa client models list' shows them"
        )
    use(home, older[0].name)
    return older[0]


def _created(card: ModelCard) -> datetime:
    try:
        moment = datetime.fromisoformat(card.created)
    except ValueError as error:
        raise VerificationError(
            f"model {card.model}: created {card.created!r} is no ISO 8601 time; ask for the model again"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
