import json
import ssl
import threading
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.cli import main
from hansa.dp.accounting import calibrate, gaussian
from hansa.dp.ledger.file import LedgerFile
from hansa.league import Invitation
from hansa.secagg.roster import Roster
from hansa_client.config import read_settings
from hansa_client.keys import load_key, make_key, make_node_key
from hansa_client.runtime.notes import CONTACT, write_note
from hansa_client.setup.configuring import Configuring
from hansa_client.setup.doctor import examine
from hansa_client.setup.doctor_books import books
from hansa_client.setup.doctor_data import look_at_data, usual_caps
from hansa_client.setup.doctor_network import CONTROL, FLEET, network
from hansa_server.authority import make_authority, make_certificate
from hansa_server.home import ServerHome

NOW = time.time()
ROWS = ["user_id,item_id,timestamp", *(f"c{k},i{k % 4},{int(NOW) - k}" for k in range(200))]


@pytest.fixture
def shop(invited):
    """A shop's folder in which all is well, but for the coordinator."""
    (invited.root / "interactions.csv").write_text("\n".join(ROWS))
    invited.key.parent.mkdir(mode=0o700)
    make_key(invited.key)
    make_node_key(invited.node_key)
    Configuring(invited, {}).run()
    return invited


def states(findings):
    return {finding.name: finding.state for finding in findings}


def of(findings, name):
    (found,) = [finding for finding in findings if finding.name == name]
    return found


# The network


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory):
    """An authority, and certificates of a right and a wrong name."""
    made = {}
    for name, hosts in (("right", ["localhost", "127.0.0.1"]), ("wrong", ["example.org"])):
        home = ServerHome(tmp_path_factory.mktemp(name))
        home.authority_key.parent.mkdir(mode=0o700)
        make_authority(home, "grocers")
        make_certificate(home, hosts)
        made[name] = home
    return made


class Proxy:
    """A TLS server on loopback that answers paths with set codes."""

    def __init__(self, home, codes, skew=0.0):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.send_response_only(codes.get(self.path, 404))
                moment = datetime.fromtimestamp(time.time() + skew, UTC)
                self.send_header("Date", format_datetime(moment, usegmt=True))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(home.certificate, home.certificate_key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.server.handle_error = lambda *arguments: None
        self.address = f"localhost:{self.server.server_port}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *arguments):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def look(shop, coordinator, codes, named="right", skew=0.0, authority="right", now=None, fleet=None):
    with Proxy(coordinator[named], codes, skew) as proxy:
        told = json.loads(shop.invitation.read_text()) | {"address": proxy.address}
        shop.invitation.write_text(Invitation(**told).to_json())
        shop.authority.write_text(coordinator[authority].authority.read_text())
        return list(network(shop, fleet, now))


GOOD = {FLEET: 401, CONTROL: 403}


def test_a_good_coordinator_passes(shop, coordinator):
    found = look(shop, coordinator, GOOD)
    assert list(states(found)) == ["clock", "dns", "tls", "proxy", "key"]
    assert states(found) == {"clock": "ok", "dns": "ok", "tls": "ok", "proxy": "ok", "key": "warn"}
    assert of(found, "key").detail == "unknown until start"


@pytest.mark.parametrize(
    ("how", "name", "state", "said"),
    [
        ({"codes": GOOD, "skew": 120}, "clock", "warn", " s from"),
        ({"codes": GOOD, "skew": -1000}, "clock", "fail", " s from"),
        ({"codes": GOOD, "authority": "wrong"}, "tls", "fail", "another authority"),
        ({"codes": GOOD, "named": "wrong", "authority": "wrong"}, "tls", "fail", "another name"),
        ({"codes": {FLEET: 401, CONTROL: 400}}, "proxy", "warn", "control path is open"),
        ({"codes": {FLEET: 403, CONTROL: 403}}, "proxy", "fail", "shops' path is closed"),
        ({"codes": {FLEET: 502, CONTROL: 403}}, "proxy", "fail", "nothing runs behind"),
        ({"codes": GOOD, "fleet": lambda home: False}, "key", "fail", "does not know"),
        ({"codes": GOOD, "fleet": lambda home: True}, "key", "ok", "answered"),
    ],
)
def test_what_is_wrong_with_the_coordinator_is_found(shop, coordinator, how, name, state, said):
    finding = of(look(shop, coordinator, **how), name)
    assert (finding.state, said in finding.detail) == (state, True), finding
    assert finding.fix or state == "ok"


def test_a_node_that_was_answered_has_an_admitted_key(shop):
    shop.state.mkdir()
    write_note(shop.state / CONTACT, {"contact": NOW})
    assert of(list(network(shop)), "key").state == "ok"


def test_nobody_there_and_no_name(shop):
    found = list(network(shop))  # localhost:1
    assert (of(found, "tls").state, of(found, "proxy").state, of(found, "clock").state) == (
        "fail",
        "fail",
        "warn",
    )
    told = json.loads(shop.invitation.read_text()) | {"address": "no-such-host.invalid:1"}
    shop.invitation.write_text(Invitation(**told).to_json())
    assert of(list(network(shop)), "dns").state == "fail"


# Data


def data_findings(shop):
    return list(look_at_data(shop, read_settings(shop.settings)))


def test_good_data_pass(shop):
    found = data_findings(shop)
    assert list(states(found)) == ["data", "columns", "dates", "rows", "items", "customers", "declared"]
    assert set(states(found).values()) == {"ok"}
    assert "200 customers" in of(found, "customers").detail


@pytest.mark.parametrize(
    ("rows", "name", "state"),
    [
        ([], "data", "fail"),
        ([f"c{k},i0,gestern" for k in range(10)], "dates", "warn"),
        ([f"c{k},i0,gestern" for k in range(999)], "dates", "fail"),
        ([f"new,i0,{int(NOW) + 10**7}"], "dates", "warn"),
        ([f",i0,{int(NOW)}"] * 20, "rows", "warn"),
        ([f"c{k},other,{int(NOW)}" for k in range(200)], "items", "warn"),
        ([f"d{k},i0,{int(NOW)}" for k in range(900)], "declared", "warn"),
        ([f"guest,i{k % 4},{int(NOW)}" for k in range(50)], "customers", "warn"),
    ],
)
def test_what_is_wrong_with_the_data_is_found(shop, rows, name, state):
    kept = ROWS if rows else ROWS[:1]
    (shop.root / "interactions.csv").write_text("\n".join([*kept, *rows]))
    finding = of(data_findings(shop), name)
    assert finding.state == state
    assert finding.fix
    assert "guest" not in finding.detail


def test_data_of_other_items_or_gone_fail(shop):
    (shop.root / "interactions.csv").write_text(ROWS[0] + f"\na,other,{int(NOW)}\n")
    found = states(data_findings(shop))
    assert (found["items"], found["customers"]) == ("fail", "fail")
    (shop.root / "interactions.csv").unlink()
    assert states(data_findings(shop)) == {"data": "fail"}


def test_old_data_are_noticed(shop):
    (shop.root / "interactions.csv").write_text(ROWS[0] + "\na,i0,1500000000\n")
    assert of(data_findings(shop), "dates").state == "warn"


def test_the_caps_are_the_methods_own():
    assert sorted(name for names in usual_caps().values() for name in names)
    assert all(cap > 0 for cap in usual_caps())


# Books


def book_findings(shop):
    return list(books(shop, read_settings(shop.settings)))


def test_good_books_pass_and_a_roster_is_missed(shop):
    assert states(book_findings(shop)) == {"ledger": "ok", "budget": "ok", "roster": "warn"}


def test_a_damaged_or_copied_or_missing_ledger_fails(shop):
    ledger = LedgerFile(shop.ledger)
    ledger.reserve("r", (gaussian(9.0),))
    content = shop.ledger.read_bytes()
    copied = shop.ledger.with_name("copy")
    copied.write_bytes(content)
    copied.replace(shop.ledger)  # the same in another file
    finding = of(book_findings(shop), "ledger")
    assert (finding.state, "reconcile" in finding.fix) == ("fail", True)
    shop.ledger.write_bytes(content.replace(b'"sequence":2', b'"sequence":7'))
    assert of(book_findings(shop), "ledger").state == "fail"
    shop.ledger.unlink()
    assert of(book_findings(shop), "ledger").state == "fail"


@pytest.mark.parametrize(("line", "state"), [("epsilon = 8.0  ", "warn"), ("delta = 1e-5", "fail")])
def test_a_budget_that_differs_from_the_ledgers_is_noticed(shop, line, state):
    text = shop.settings.read_text()
    shop.settings.write_text(text.replace(line, line.replace("8.0", "9.0").replace("1e-5", "1e-6"), 1))
    assert of(book_findings(shop), "budget").state == state


def test_a_delta_that_permits_to_give_a_customer_away_is_noticed(shop):
    text = shop.settings.read_text()
    shop.settings.write_text(text.replace("customers = 1000 ", "customers = 200000 "))
    finding = of(book_findings(shop), "budget")
    assert (finding.state, "above 1 / customers, 5e-06" in finding.detail) == ("warn", True), finding


def test_a_spent_budget_is_noticed(shop):
    LedgerFile(shop.ledger).reserve("r", (gaussian(calibrate(gaussian, 8.0, 1e-5)),))
    finding = of(book_findings(shop), "budget")
    assert (finding.state, "nothing is left" in finding.detail) == ("warn", True), finding


@pytest.mark.parametrize(("vouched", "state"), [(("corner", "b", "c", "d"), "ok"), (("corner", "b"), "warn")])
def test_the_roster_is_enough_for_the_shops_terms(shop, vouched, state):
    names = ("corner", "b", "c", "d")
    keys = {name: Ed25519PrivateKey.generate() for name in names} | {"corner": load_key(shop)}
    roster = Roster({name: key.public_key().public_bytes_raw() for name, key in keys.items()})
    shop.roster.write_text(roster.to_json())
    assert of(book_findings(shop), "roster").state == "fail"
    LedgerFile(shop.ledger).approve(roster.digest, vouched)
    said = json.dumps(list(vouched))
    shop.settings.write_text(shop.settings.read_text().replace("vouched = []", f"vouched = {said}"))
    assert of(book_findings(shop), "roster").state == state
    shop.key.unlink()
    assert "restore it from a backup" in of(book_findings(shop), "roster").detail
    make_key(shop.key)  # as after a rotation
    finding = of(book_findings(shop), "roster")
    assert (finding.state, "an earlier key of this shop" in finding.detail) == ("warn", True)


# All of it


def test_every_check_is_there_in_its_order(shop):
    found = [finding.name for finding in examine(shop)]
    assert found == [
        *("clock", "dns", "tls", "proxy", "key", "permissions", "settings", "data", "columns", "dates"),
        *(
            "rows",
            "items",
            "customers",
            "declared",
            "disk",
            "ledger",
            "budget",
            "roster",
            "versions",
            "worth",
        ),
    ]


def test_the_command_ends_with_2_if_anything_fails(shop, coordinator, capsys):
    assert main(["client", "doctor", "--home", str(shop.root)]) == 2
    said = capsys.readouterr()
    assert "fail  tls" in said.out
    assert said.err == "hansa: doctor: 2 checks fail: tls, proxy\n"
    with Proxy(coordinator["right"], GOOD) as proxy:
        told = json.loads(shop.invitation.read_text()) | {"address": proxy.address}
        shop.invitation.write_text(Invitation(**told).to_json())
        shop.authority.write_text(coordinator["right"].authority.read_text())
        assert main(["client", "doctor", "--home", str(shop.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert {finding["state"] for finding in found["findings"]} <= {"ok", "warn"}
    worth = next(finding for finding in found["findings"] if finding["name"] == "worth")
    assert "distributed, epsilon 6, 3 shops" in worth["detail"]


def test_files_that_others_can_read_fail(shop):
    shop.root.chmod(0o755)
    finding = of(examine(shop), "permissions")
    assert (finding.state, "chmod" in finding.fix) == ("fail", True)
    shop.root.chmod(0o700)
    shop.key.chmod(0o644)
    assert of(examine(shop), "permissions").state == "fail"


def test_a_folder_that_is_no_shop_gets_findings_and_no_traceback(home):
    assert main(["client", "doctor", "--home", str(home.root)]) == 2
    assert main(["client", "doctor", "--home", str(home.root / "none")]) == 2
    home.settings.write_text("version = 2")
    assert of(examine(home), "settings").state == "fail"
