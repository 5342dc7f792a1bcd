"""A coordinator that runs: SuperLink with TLS and node keys, nginx before it, all on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from hansa.league import KeyCard
from hansa_server import service
from hansa_server.deploy import Control
from hansa_server.home import ServerHome
from hansa_server.members import admitted, remove
from hansa_server.proxy import nginx_binary
from hansa_server.settings import ServerSettings, Training, network_for, read_settings
from hansa_server.setup import League, set_up

ITEMS = 40


@dataclass
class Keys:
    """What a shop has: its long-term key, its node's key, and the card of both."""

    key: Ed25519PrivateKey
    node: ec.EllipticCurvePrivateKey
    card: KeyCard

    def save(self, folder: Path) -> Path:
        """The node's private key as a file."""
        path = folder / f"{self.card.shop}.node"
        path.write_bytes(self.node.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        return path


MakeKeys = Callable[..., Keys]


def _make_keys(
    shop: str,
    league: str = "grocers",
    key: Ed25519PrivateKey | None = None,
    previous: Ed25519PrivateKey | None = None,
    node: ec.EllipticCurvePrivateKey | None = None,
) -> Keys:
    key, node = key or Ed25519PrivateKey.generate(), node or ec.generate_private_key(ec.SECP384R1())
    public = node.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return Keys(key, node, KeyCard.make(league, shop, public, key, previous))


@pytest.fixture(scope="session")
def make_keys() -> MakeKeys:
    """Makes the keys of a shop."""
    return _make_keys


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A catalogue of ``ITEMS`` items."""
    return _catalogue(tmp_path)


def _catalogue(folder: Path) -> Path:
    path = folder / "items.csv"
    path.write_text("item_id,title\n" + "".join(f"i{n},Item {n}\n" for n in range(ITEMS)))
    return path


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Ports that nobody uses."""
    return _free_port


def _league(folder: Path, proxy: bool) -> ServerHome:
    folder.mkdir(parents=True, exist_ok=True)
    settings = ServerSettings(
        network=network_for(f"127.0.0.1:{_free_port()}", _free_port(), proxy),
        training=Training(customers=1000, timeout=60.0),
    )
    home = ServerHome(folder / "coordinator")
    set_up(home, League("grocers", _catalogue(folder), settings))
    return home


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    """A coordinator's folder, nothing running."""
    return _league(tmp_path, proxy=False)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[ServerHome]:
    """A coordinator of the test's own, running without a proxy."""
    home = _league(tmp_path, proxy=False)
    try:
        service.start(home, read_settings(home.settings))
        yield home
    finally:
        service.stop(home)


@pytest.fixture(scope="session")
def league(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHome]:
    """A coordinator behind nginx that all tests share; each uses shops of its own."""
    if nginx_binary() is None:
        (pytest.fail if os.environ.get("HANSA_REQUIRE") == "1" else pytest.skip)("nginx is not installed")
    home = _league(tmp_path_factory.mktemp("league"), proxy=True)
    try:
        service.start(home, read_settings(home.settings))
        yield home
    finally:
        service.stop(home)


@pytest.fixture
def control(league: ServerHome) -> Iterator[Control]:
    """The control API of the shared coordinator; shops that are admitted are removed afterwards."""
    with Control(league, read_settings(league.settings)) as control:
        yield control
        for shop in admitted(league):
            remove(league, control, shop)


StartNode = Callable[[ServerHome, Keys], "subprocess.Popen[bytes]"]


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[StartNode]:
    """Starts a stock SuperNode with a shop's node key, which connects to a coordinator's proxy."""
    with ExitStack() as stack:

        def start(home: ServerHome, keys: Keys) -> subprocess.Popen[bytes]:
            folder = tmp_path / f"node-{keys.card.shop}"
            folder.mkdir()
            command = [
                *(str(Path(sys.executable).with_name("flower-supernode")), "--root-certificates"),
                *(str(home.authority), "--superlink", read_settings(home.settings).network.address),
                *("--auth-supernode-private-key", str(keys.save(folder)), "--port", str(_free_port())),
            ]
            path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
            log = stack.enter_context(open(folder / "log", "wb"))
            node = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "PATH": path, "FLWR_HOME": str(folder), "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            stack.callback(_kill, node)
            return node

        yield start


def _kill(node: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


@pytest.fixture
def write_plan() -> Callable[[Path, str], None]:
    """Puts a run's files where ``train`` would have put them."""

    def write(folder: Path, plan: str) -> None:
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(plan)
        (folder / "run.json").write_text(json.dumps({"flower": 1, "started": folder.name, "timeout": 60.0}))

    return write
