"""A deployed shop is made of its folder's files."""

from dataclasses import dataclass

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.dp.ledger.entries import public_hex
from hansa.errors import UsageError
from hansa.plan import make_plan
from hansa.records import Request
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa.transparency import LogHead, ReleaseReceipt
from hansa_client.deployed import DeployedShop
from hansa_client.invited import read_invitation
from hansa_client.keys import load_key, make_key
from hansa_client.rounds.training import consider, contribute

SIGNER = Ed25519PrivateKey.generate()
PLAN = make_plan(
    run="r", method="popularity", settings={}, n_items=12, dp="local", epsilon=1.0, delta=1e-5, shops=1,
    customers=50,
)  # fmt: skip


@dataclass
class Data:
    histories: Histories


@pytest.fixture
def deployed(shop_home, monkeypatch):
    told = read_invitation(shop_home).model_copy(update={"signer": public_hex(SIGNER)})
    shop_home.invitation.write_text(told.to_json())
    shop_home.key.parent.mkdir()
    make_key(shop_home.key)
    histories = Histories(np.arange(13, dtype=np.int64), np.arange(12, dtype=np.int32), 12)
    monkeypatch.setattr(DeployedShop, "data", lambda self, settings: Data(histories))
    return DeployedShop(shop_home)


def test_it_endorses_its_releases_and_keeps_the_coordinators_head(deployed):
    shop = deployed({})
    head = LogHead.make(shop.coordinator, 4, "d" * 64, SIGNER)
    assert consider(shop, Request("r", 0, PLAN.model_dump_json(), {}, head=head.to_json())).accepted
    state = PLAN.learner.initial_state(seeded_generator(0))
    answer = contribute(shop, Request("r", 1, "", state, message="m1", head=head.to_json()))
    told = ReleaseReceipt.from_json(answer.statement)
    told.check()
    assert told.endorsed_by(load_key(deployed.home).public_key().public_bytes_raw())
    assert (told.league, told.shop, told.head.size) == (shop.coordinator, shop.name, 4)
    logs = [draft.body.get("log") for draft in shop.ledger.entries() if draft.kind in ("reserve", "charge")]
    assert logs == [{"size": 4, "hash": head.hash, "signature": head.signature}] * 2


def test_its_key_is_read_when_its_file_has_changed(deployed):
    first = deployed({}).key
    assert deployed({}).key is first
    deployed.home.key.unlink()
    with pytest.raises(UsageError, match="no usable key"):
        deployed({})
    make_key(deployed.home.key)
    assert public_hex(deployed({}).key) == public_hex(load_key(deployed.home)) != public_hex(first)
