"""Versions of the league's model at the coordinator: made once, signed, and never changed."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hansa.durable import write_whole
from hansa.errors import UsageError
from hansa.league import ModelCard
from hansa.modelfile import model_bytes, read_model
from hansa.models.base import State
from hansa.plan import Plan
from hansa_server.home import ServerHome

_MODEL, _CARD = "model.safetensors", "card.json"


def publish(home: ServerHome, league: str, plan: Plan, state: State, shops: list[list[str]]) -> ModelCard:
    """Write what a run has come to as a version of its name; one that is there is kept.

    Args:
        home: The coordinator's folder.
        league: The league's name.
        plan: The run's plan.
        state: The final public state.
        shops: For every round, the shops in its sum.
    """
    folder, content = home.models / plan.run, model_bytes(state)
    if not (folder / _CARD).exists():
        card = ModelCard(
            league=league,
            model=plan.run,
            run=plan.run,
            plan=plan.model_dump_json(),
            shops=shops,
            sha256=hashlib.sha256(content).hexdigest(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        ).signed(signer(home))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(folder / _MODEL, content)
        write_whole(folder / _CARD, card.to_json().encode())  # the last: now there is a version
    return published(home, plan.run)[0]


def published(home: ServerHome, model: str) -> tuple[ModelCard, State]:
    """A version of the model.

    Raises:
        UsageError: There is none of that name, or its file is damaged.
        VerificationError: The file is another than was signed.
    """
    folder = home.models / model
    try:
        text, content = (folder / _CARD).read_text(encoding="utf-8"), (folder / _MODEL).read_bytes()
    except OSError as error:
        raise UsageError(f"{folder}: no model of that name; see 'hansa server models'") from error
    card = ModelCard.from_json(text, str(folder / _CARD))
    card.check(signer(home).public_key().public_bytes_raw().hex(), content)
    return card, read_model(content, str(folder / _MODEL))


def signer(home: ServerHome) -> Ed25519PrivateKey:
    """The coordinator's key that signs models.

    Raises:
        UsageError: It cannot be read.
    """
    path = home.signer
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: no signing key ({error}); restore it from a backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: not an Ed25519 key; restore it from a backup")
    return key
