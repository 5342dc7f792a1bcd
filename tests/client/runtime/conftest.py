"""A league on loopback: Flower's SuperLink with TLS and node keys, and one shop with our executor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hansa.dp.ledger import Budget
from hansa.dp.ledger.file import LedgerFile
from hansa.league import Invitation
from hansa_client.home import ShopHome
from hansa_client.runtime.processes import Supervisor, child_command, free_port, ready

ITEMS = 12
CEILING, DELTA = 4.5, 1e-5

DRIVER = """
import json, os, time, traceback
from pathlib import Path
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

def honest(grid, context):
    from hansa.plan import parse_plan
    from hansa.records import state_to_record
    from hansa.rng import system_generator
    from hansa_server.strategy import PlanStrategy
    plan, rounds = parse_plan(context.run_config["plan"]), []
    def heard(report):
        rounds.append({"answered": report.answered, "missing": report.missing, "seconds": report.seconds,
                       "receipts": list(report.receipts.values())})
    strategy = PlanStrategy(plan, system_generator(), [heard])
    strategy.enrol(grid, 60)
    state = state_to_record(plan.learner.initial_state(system_generator()))
    strategy.start(grid, state, num_rounds=len(plan.releases), timeout=60)
    return rounds

def content(given):
    records = {"config": ConfigRecord(given["config"])}
    pack = lambda rows: Array.from_numpy_ndarray(np.array(rows, np.float32))
    state = {name: pack(rows) for name, rows in given["state"].items()}
    records[given.get("named", "state")] = ArrayRecord(state)
    for name, fields in given.get("more", {}).items():
        records[name] = ConfigRecord(fields)
    return RecordDict(records)

def scripted(grid, context, messages):
    while not (nodes := list(grid.get_node_ids())):
        time.sleep(0.1)
    sent = [Message(content(each), nodes[0], each["type"]) for each in messages]
    ids = list(grid.push_messages(sent))
    replies, said = {}, []
    while len(replies) < len(ids):
        left = set(ids) - set(replies)  # a reply is handed out once
        replies |= {reply.metadata.reply_to_message_id: reply for reply in grid.pull_messages(left)}
        time.sleep(0.1)
    for name in ids:
        reply = replies[name]
        if reply.has_error():
            said.append({"code": reply.error.code, "reason": reply.error.reason})
        else:
            said.append({"records": sorted(reply.content), **dict(reply.content["answer"])})
    return said

@app.main()
def main(grid, context):
    folder = Path(os.environ["HANSA_TEST_RUNS"])
    try:
        script = folder / f"{context.run_id}.script"
        while not script.exists():
            time.sleep(0.05)
        messages = json.loads(script.read_text())
        said = honest(grid, context) if messages is None else scripted(grid, context, messages)
    except BaseException:
        said = {"failed": traceback.format_exc()}
    (folder / f"{context.run_id}.draft").write_text(json.dumps(said))
    (folder / f"{context.run_id}.draft").rename(folder / f"{context.run_id}.json")
"""

TRAP = """
import os
from pathlib import Path
Path(os.environ.get("HANSA_TEST_TRAP", "{trap}")).write_text("the shop ran the bundle's code")
from flwr.clientapp import ClientApp
app = ClientApp()
"""

EXECUTOR = """
import sys
from pathlib import Path
import numpy as np
from hansa.dp.ledger.file import LedgerFile
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa_client.runtime.children import be_executor, follow_parent
from hansa_client.config import read_settings
from hansa_client.home import ShopHome
from hansa_client.replies import ReplyFolder
from hansa_client.shop import LocalShop
from hansa_client.shop_files import PlanFolder

home, port = ShopHome(Path(sys.argv[1])), int(sys.argv[2])

def shop(config):
    rows = [seeded_generator(k, "row").permutation({items})[: k % 6] for k in range(40)]
    offsets = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    return LocalShop(
        "s1", Histories(offsets, np.concatenate(rows).astype(np.int32), {items}), LedgerFile(home.ledger), 50,
        allowed=read_settings(home.settings).approvals.dp, plans=PlanFolder(home.plans),
        replies=ReplyFolder(home.replies),
    )

follow_parent()

be_executor(home, port, shop)
"""

SETTINGS = f"""version = 1  # the shop's own file
[budget]
epsilon = {CEILING}
delta = {DELTA}
customers = 50
[approvals]
dp = ["local"]
epsilon = 4.0
bundles = []  # one of each release of the coordinator
[network]
pace = 0.2
poll = 0.1
"""


@pytest.fixture
def shop_home(tmp_path: Path) -> ShopHome:
    """A shop's folder with an invitation, settings and a ledger."""
    return make_home(tmp_path / "shop")


def make_home(root: Path, address: str = "127.0.0.1:1", authority: bytes = b"") -> ShopHome:
    home = ShopHome(root)
    invitation = Invitation(
        league="test", shop="s1", address=address, authority=authority.decode(), signer="0" * 64,
        bundle="0" * 64, catalogue="0" * 64, items=ITEMS,
    )  # fmt: skip
    home.ledger.parent.mkdir(parents=True)
    home.invitation.write_text(invitation.to_json())
    home.settings.write_text(SETTINGS)
    LedgerFile(home.ledger, Budget(CEILING, DELTA), name="s1").entries()
    return home


@dataclass
class League:
    """A running coordinator with one shop.

    Attributes:
        folder: Where everything is.
        home: The shop's folder.
        trap: Written when the shop runs code of a bundle.
        port: Of the SuperLink.
        bundle: Path of the approved app.
    """

    folder: Path
    home: ShopHome
    trap: Path
    port: int
    authority: bytes
    supervisor: Supervisor
    control: object = None
    _apps: dict[str, bytes] = field(default_factory=dict)

    def app(self, name: str, config: str = 'plan = ""\n') -> bytes:
        """The bundle ``name``; every one of them shadows hansa_client."""
        from flwr.cli.build import build_fab_from_disk

        if name not in self._apps:
            root = self.folder / "apps" / name
            (root / "hansa_client").mkdir(parents=True)
            (root / "driver.py").write_text(DRIVER)
            for module in ("__init__", "app", "executor"):
                (root / "hansa_client" / f"{module}.py").write_text(TRAP.format(trap=self.trap))
            (root / "README.md").write_text(name)
            (root / "pyproject.toml").write_text(
                '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
                f'[project]\nname = "{name}"\nversion = "1.0.0"\ndescription = ""\nlicense = "Apache-2.0"\n'
                'dependencies = ["flwr>=1.41"]\n[tool.flwr.app]\npublisher = "test"\n'
                'fab-include = ["/driver.py", "/hansa_client/*.py", "/README.md"]\n'
                '[tool.flwr.app.components]\nserverapp = "driver:app"\nclientapp = "hansa_client.app:app"\n'
                f"[tool.flwr.app.config]\n{config}"
            )
            with warnings.catch_warnings(action="ignore"):  # Flower's use of pathspec
                self._apps[name] = build_fab_from_disk(root)
        return self._apps[name]

    def start(self, bundle: bytes, config: dict[str, object], messages: list[dict] | None) -> int:
        """Start a run; without messages an honest one of the plan in ``config``."""
        import hashlib

        from flwr.common.serde import fab_to_proto, user_config_to_proto
        from flwr.proto.control_pb2 import StartRunRequest
        from flwr.supercore.fab import Fab

        fab = fab_to_proto(Fab(hashlib.sha256(bundle).hexdigest(), bundle, {}))
        request = StartRunRequest(fab=fab, override_config=user_config_to_proto(config))
        run = self.control.StartRun(request).run_id
        (self.folder / "runs" / "draft").write_text(json.dumps(messages))
        (self.folder / "runs" / "draft").rename(self.folder / "runs" / f"{run}.script")
        return run

    def outcome(self, run: int, patience: float = 60.0) -> object:
        """What the coordinator's side of a run has written."""
        path, deadline = self.folder / "runs" / f"{run}.json", time.monotonic() + patience
        while not path.exists():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.05)
        return json.loads(path.read_text())

    def logs(self) -> str:
        """What the shop's processes have logged, and the coordinator's."""
        paths = [*self.home.logs.glob("*.log"), self.folder / "superlink.log"]
        return "\n".join(f"== {path.name}\n{path.read_text()[-4000:]}" for path in paths)


@pytest.fixture(scope="module")
def league(tmp_path_factory: pytest.TempPathFactory):
    """One league for all tests of a session; started with the first that asks."""
    from flwr.proto.control_pb2 import RegisterNodeRequest
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    folder = tmp_path_factory.mktemp("league")
    (folder / "runs").mkdir()
    port, authority = free_port(), _certificates(folder)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "FLWR_HOME": str(folder / "flwr"),
        "HANSA_TEST_RUNS": str(folder / "runs"),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        "OMP_NUM_THREADS": "1",
    }
    home = make_home(folder / "shop", f"127.0.0.1:{port}", authority)
    home.authority.write_bytes(authority)
    key = ec.generate_private_key(ec.SECP384R1())
    home.node_key.parent.mkdir()
    home.node_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    script = folder / "executor.py"
    script.write_text(EXECUTOR.format(items=ITEMS))

    def command(role: str, home: ShopHome, port: int) -> list[str]:
        if role == "node":
            return child_command(role, home, port)
        return [sys.executable, "-P", str(script), str(home.root), str(port)]

    with (folder / "superlink.log").open("wb") as log:
        superlink = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("flower-superlink")),
                *("--ssl-ca-certfile", str(folder / "ca.pem"), "--ssl-certfile", str(folder / "server.pem")),
                *("--ssl-keyfile", str(folder / "server.key"), "--enable-supernode-auth"),
                *("--database", str(folder / "state.db"), "--host", "127.0.0.1", "--port", str(port)),
                "--disable-runtime-dependency-installation",
            ],
            stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder, start_new_session=True,
        )  # fmt: skip
    supervisor = Supervisor(home, ready(home), command)
    supervising = threading.Thread(target=supervisor.run)
    found = League(folder, home, folder / "trap", port, authority, supervisor)
    try:
        found.control = ControlHttpClient.from_server_address(
            f"127.0.0.1:{port}", False, authority, [RuntimeVersionHttpInterceptor(component_name="flwr")]
        )
        register = RegisterNodeRequest(public_key=public_key_to_bytes(key.public_key()), name="s1")
        for _ in range(300):
            try:
                found.control.RegisterNode(register)
                break
            except Exception:
                assert superlink.poll() is None, (folder / "superlink.log").read_text()
                time.sleep(0.1)
        supervising.start()
        yield found
    finally:
        supervisor.stopping.set()
        if supervising.is_alive():
            supervising.join()
        if found.control is not None:
            found.control.close()
        superlink.terminate()
        with suppress(subprocess.TimeoutExpired):
            superlink.wait(3)
        with suppress(ProcessLookupError):
            os.killpg(superlink.pid, signal.SIGKILL)  # with the processes of unfinished runs
        superlink.wait()


def _certificates(folder: Path) -> bytes:
    """The league's own authority and the SuperLink's certificate; the authority's as PEM."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("authority", "server")]
    now = datetime.now(UTC)

    def certificate(subject: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(names[subject]).issuer_name(names[0]).public_key(keys[subject].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=subject == 0, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[subject].public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), False)
        )  # fmt: skip

    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    written = {
        "ca.pem": certificate(0).add_extension(usage, True).sign(keys[0], hashes.SHA256()),
        "server.pem": certificate(1).add_extension(alternative, False).sign(keys[0], hashes.SHA256()),
    }
    for name, signed in written.items():
        (folder / name).write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        keys[1].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return (folder / "ca.pem").read_bytes()
