"""What tests of a shop share: its folder, and a real PostgreSQL."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from hansa_client.home import ShopHome

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
    root.mkdir()
    found = ShopHome(root)
    found.catalogue.write_text(CATALOGUE)
    return found


@dataclass(frozen=True)
class Postgres:
    """A server of its own, on a free port of loopback.

    Attributes:
        port: Its port.
        owner: Address of its owner, for tests to fill tables with.
        reader: Address of a user that may only read, without its password.
        password: That user's.
    """

    port: int
    owner: str
    reader: str
    password: str = "pässword 7%/@"

    def run(self, *statements):
        """Execute statements as the owner."""
        import psycopg

        with psycopg.connect(self.owner, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


def _tools():
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).parent if found else None


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server; without one a test skips, and fails if HANSA_REQUIRE=1."""
    tools = _tools()
    if tools is None:
        complain = pytest.fail if os.environ.get("HANSA_REQUIRE") == "1" else pytest.skip
        complain("PostgreSQL: no initdb; install the package postgresql")
    folder = Path(tempfile.mkdtemp(prefix="hansa-pg-"))
    user = []
    if os.geteuid() == 0:  # the server refuses to run as root
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        user = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "pw").write_text("owner")
    (folder / "pw").chmod(0o644)

    def call(*command):
        done = subprocess.run(
            [*user, *map(str, command)], cwd=folder, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    data = folder / "data"
    control = (tools / "pg_ctl", "-D", data, "-w", "-l", folder / "log")
    options = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    try:
        auth = ("-A", "scram-sha-256", "--pwfile", folder / "pw")
        call(tools / "initdb", "-D", data, "-U", "owner", "-E", "UTF8", "--locale=C", *auth, "--no-sync")
        call(*control, "-o", options, "start")
        server = Postgres(
            port,
            f"postgresql://owner:owner@127.0.0.1:{port}/postgres",
            f"postgresql://reader@127.0.0.1:{port}/postgres",
        )
        server.run(
            f"CREATE ROLE reader LOGIN PASSWORD '{server.password}'",
            "GRANT pg_read_all_data TO reader",
        )
        yield server
    finally:
        if (data / "postmaster.pid").exists():
            call(*control, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
