"""A league of three tastes on one machine, and a shop's folder in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.dp.clipping import clipped_sum
from hansa.league import Invitation, ModelCard
from hansa.modelfile import model_bytes
from hansa.models.base import NoisySum, State
from hansa.plan import Plan
from hansa.rng import seeded_generator
from hansa.schema import Catalogue, Histories
from hansa_client.home import ShopHome

N_ITEMS = 60


@dataclass(frozen=True)
class MadeData:
    """A shop's data, made by hand."""

    customers: list[str]
    histories: Histories
    newest: float | None = 1.7e9


@pytest.fixture(scope="session")
def tastes() -> Callable[..., Histories]:
    """Customers who buy mostly from one of three groups of items."""

    def draw(customers: int, seed: int = 0, n_items: int = N_ITEMS) -> Histories:
        rng = seeded_generator(seed, "tastes")
        group = rng.integers(0, 3, (customers, 1))
        chance = np.where(np.arange(n_items)[None] % 3 == group, 0.35, 0.04)
        users, items = np.nonzero(rng.random((customers, n_items)) < chance)
        order = rng.permutation(len(users))
        return Histories.from_pairs(users[order], items[order], customers, n_items)

    return draw


@pytest.fixture(scope="session")
def made_data() -> Callable[[Histories], MadeData]:
    """A shop's data of histories; customers are called c00, c01 and so on."""
    return lambda histories: MadeData([f"c{row:02}" for row in range(len(histories))], histories)


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """Sixty items of three categories."""
    return Catalogue(
        tuple(f"i{item:02}" for item in range(N_ITEMS)),
        pl.DataFrame(
            {
                "title": [f"Title {item}" for item in range(N_ITEMS)],
                "category": [("Food|Bread", "Food|Milk", "Tools")[item % 3] for item in range(N_ITEMS)],
            }
        ),
    )


@pytest.fixture(scope="session")
def league_plan() -> Callable[..., Plan]:
    """The plan of a run without noise."""

    def make(method: str = "cooccurrence", run: str = "autumn", **settings: Any) -> Plan:
        chosen = settings or ({"vocabulary": 45} if method in ("cooccurrence", "hybrid", "dpals") else {})
        return Plan(
            run=run,
            method=method,
            settings=chosen,
            n_items=N_ITEMS,
            dp="none",
            noise_scale=0,
            delta=1e-5,
            shops=4,
            customers=1000,
        )

    return make


@pytest.fixture(scope="session")
def learn_plan() -> Callable[[Plan, Histories], State]:
    """Takes a plan through all of its releases on everybody's histories."""

    def run(plan: Plan, rows: Histories) -> State:
        method = plan.learner
        state = method.initial_state(seeded_generator(0))
        memory: dict[str, Any] = {}
        for round_, release in enumerate(method.releases(), start=1):
            total = np.zeros((release.rows, release.width), dtype=np.float32)
            clipped_sum([method.contribution(round_, release, state, rows)], 1.0, torch.from_numpy(total))
            state = method.update(round_, release, state, NoisySum(total, 0.0, len(rows)), memory)
        return state

    return run


@pytest.fixture(scope="session")
def signer() -> Ed25519PrivateKey:
    """The coordinator's key."""
    return Ed25519PrivateKey.generate()


@pytest.fixture
def serving_home(tmp_path: Path, catalogue: Catalogue, signer: Ed25519PrivateKey) -> ShopHome:
    """A shop's folder with an invitation, a catalogue and settings."""
    home = ShopHome(tmp_path / "shop")
    home.root.mkdir()
    frame = catalogue.details.select(pl.Series("item_id", catalogue.item_ids), pl.all())
    frame.write_csv(home.catalogue)
    invitation = Invitation(
        league="hansa",
        shop="corner",
        address="localhost:443",
        authority="pem",
        signer=signer.public_key().public_bytes_raw().hex(),
        bundle="0" * 64,
        catalogue=hashlib.sha256(home.catalogue.read_bytes()).hexdigest(),
        items=len(catalogue),
    )
    home.invitation.write_text(invitation.to_json())
    home.settings.write_text("# our shop\nversion = 1\n\n[serving]\nkeep = 2 # not more\n")
    return home


@pytest.fixture(scope="session")
def make_card(signer: Ed25519PrivateKey) -> Callable[..., ModelCard]:
    """A card for a model, signed by the coordinator."""

    def make(state: State, of: Plan, model: str = "v1", day: int = 1, **changed: Any) -> ModelCard:
        card = ModelCard(
            league="hansa",
            model=model,
            run=of.run,
            plan=of.model_dump_json(),
            shops=[["corner", "harbour"]],
            sha256=hashlib.sha256(model_bytes(state)).hexdigest(),
            created=f"2025-11-{day:02}T12:00:00+00:00",
        )
        return card.model_copy(update=changed).signed(signer)

    return make
