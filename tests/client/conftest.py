"""What tests of a shop share: its folder, and a real PostgreSQL."""

import hashlib
import os
from dataclasses import dataclass

import pytest

from hansa.league import Invitation
from hansa_client.home import ShopHome
from hansa_simulations.loopback.postgres import PostgreSQL, binaries

CATALOGUE = """item_id,title,category,price,gtin,sku
i0,Mug,kitchen,4.5,4006381333931,M-0
i1,Plate,kitchen,6,96385074,P-1
i2,Lamp,light,30,036000291452,L-2
i3,Bulb,light,,,B-3
"""


@pytest.fixture
def home(tmp_path):
    """A shop's folder with a catalogue of four items."""
    root = tmp_path / "shop"
    root.mkdir(mode=0o700)
    found = ShopHome(root)
    found.catalogue.write_text(CATALOGUE)
    return found


@pytest.fixture
def invited(home):
    """The same with an invitation to a league that nobody runs."""
    told = Invitation(
        league="grocers",
        shop="corner",
        address="localhost:1",
        authority="a certificate",
        signer="0" * 64,
        bundle="1" * 64,
        catalogue=hashlib.sha256(CATALOGUE.encode()).hexdigest(),
        items=4,
    )
    home.invitation.write_text(told.to_json())
    home.authority.write_text(told.authority)
    return home


@dataclass(frozen=True)
class Postgres:
    """A server of its own, on a free port of loopback.

    Attributes:
        owner: Address of its owner, for tests to fill tables with.
        reader: Address of a user that may only read, without its password.
        password: That user's.
    """

    owner: str
    reader: str
    password: str = "pässword 7%/@"

    def run(self, *statements):
        """Execute statements as the owner."""
        import psycopg

        with psycopg.connect(self.owner, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server; without one a test skips, and fails if HANSA_REQUIRE=1."""
    if binaries() is None:
        complain = pytest.fail if os.environ.get("HANSA_REQUIRE") == "1" else pytest.skip
        complain("PostgreSQL: no initdb; install the package postgresql")
    with PostgreSQL("owner") as database:
        owner = database.url(password="owner").replace("+psycopg", "")
        server = Postgres(owner, database.url("reader").replace("+psycopg", ""))
        server.run(
            f"CREATE ROLE reader LOGIN PASSWORD '{server.password}'",
            "GRANT pg_read_all_data TO reader",
        )
        yield server
