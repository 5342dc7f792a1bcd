"""A coordinator behind nginx and four shops with a CSV file, a Parquet folder, PostgreSQL and SQLite.

Everything is real and set up from empty folders by the documented commands. The tests follow each other.
"""

import hashlib
import http.client
import io
import json
import ssl
import zipfile

import pytest

from hansa.dp.ledger.check import check, read_file
from hansa.dp.ledger.entries import Receipt
from hansa.plan import Plan, parse_plan
from hansa.transparency import ReleaseReceipt
from hansa_server.bundle import build_bundle
from hansa_server.deploy import Control
from hansa_server.home import ServerHome
from hansa_server.journal import read_log
from hansa_server.settings import read_settings
from hansa_server.statements import WRONG, lines
from hansa_simulations.loopback.sources import SHOPS

EVERYBODY = sorted(SHOPS)
pytestmark = pytest.mark.timeout(900)


def ledger(league, name):
    return league.shop(name) / "ledger" / "ledger.sqlite"


def rounds(league, run):
    """The last record of each round."""
    found = {line["round"]: line for line in league.rounds(run) if "round" in line}
    return [found[number] for number in sorted(found)]


def charged(league, name, run):
    """(round, what it was reserved under) of a shop's charges for a run."""
    return [
        (body["round"], body["run"])
        for body in league.charges(name)
        if body["run"] == run or body["run"].startswith(f"{run} again ")
    ]


def books_agree(league, run):
    """Who is in a sum was charged for it, and the coordinator holds the shops' word on their ledgers."""
    for line in rounds(league, run):
        for name in line["answered"]:
            assert line["round"] in [number for number, _ in charged(league, name, run)]
    for path in (league.coordinator / "runs" / run / "receipts").glob("*.json"):
        rows, problems = read_file(ledger(league, path.stem))
        assert problems == []
        assert check(rows, receipt=Receipt.from_json(path.read_text())) == []
    statements_agree(league, run)


def statements_agree(league, run):
    """Every shop in a sum stands by its charge for it with a receipt that the coordinator's log names."""
    log = read_log(league.coordinator / "log.jsonl")
    told = {
        (line.body["round"], line.body["attempt"]): line.body["receipts"]
        for line in log
        if line.kind == "round" and line.body["run"] == run
    }
    texts = [each["text"] for each in lines(league.coordinator / "runs" / run / "statements.jsonl")]
    receipts = {receipt.digest: receipt for receipt in map(ReleaseReceipt.from_json, texts)}
    books = {name: read_file(ledger(league, name))[0] for name in SHOPS}
    for line in rounds(league, run):
        for name in line["answered"]:
            receipt = receipts[told[line["round"], line["attempt"]][name]]
            receipt.check()
            card = json.loads((league.coordinator / "shops" / f"{name}.json").read_text())["card"]
            assert receipt.endorsed_by(bytes.fromhex(card["key"]))
            assert (receipt.shop, receipt.run, receipt.round) == (name, run, line["round"])
            row = books[name][receipt.sequence - 1]
            charge = row.parse()
            assert (row.hash, charge.kind, charge.body["round"]) == (receipt.hash, "charge", receipt.round)
            assert charge.body["event"] == [list(part) for part in receipt.events]
            assert log[receipt.head.size - 1].hash == receipt.head.hash == charge.body["log"]["hash"]
    assert not [line for line in league.rounds(run) if line.get("warning") == WRONG]


@pytest.mark.parametrize("dp", ["distributed", "local"])
def test_a_run_completes_and_every_shop_has_recommendations(league, dp):
    league.server("train", "--run", f"first-{dp}", "--dp", dp)
    assert league.outcome(f"first-{dp}")["state"] == "done"
    assert [line["answered"] for line in rounds(league, f"first-{dp}")] == [EVERYBODY] * 2
    books_agree(league, f"first-{dp}")
    for name in SHOPS:
        assert charged(league, name, f"first-{dp}") == [(1, f"first-{dp}"), (2, f"first-{dp}")]
        held = league.server("receipts", name).strip()
        rows, _ = read_file(ledger(league, name))
        assert json.loads(held)["sequence"] == len(rows)
        found = json.loads(
            league.client(name, "recommend", "--user", league.sources[name].customer, "--k", "5", "--json")
        )
        assert len(found["recommendations"]) == 5
        assert all(line["reason"] for line in found["recommendations"])
    assert f"first-{dp}" in league.server("models", "list")
    league.server("models", "verify")


def test_a_shop_that_is_killed_in_a_run_costs_its_part_and_is_back_for_a_later_round(league, beside):
    run = "killed-shop"
    beside(league.server, "train", "--run", run, "--method", "dpsgd", "--rounds", "4")
    league.wait("the enrolment", lambda: league.rounds(run))
    assert league.kill(league.shop("south")) >= 3
    league.client("south", "start")
    league.wait("the end", lambda: league.outcome(run), 400)
    found = rounds(league, run)
    assert [line["round"] for line in found] == [1, 2, 3, 4]
    # The kill falls into the first round, or on a quick machine right after the shop's answer to it. Either
    # way a round goes on without the shop, and none after it is back.
    without = [line["round"] for line in found if "south" not in line["answered"]]
    assert without in ([1], [2], [1, 2])
    for line in found:
        missing = ["south"] if line["round"] in without else []
        assert line["answered"] == [name for name in EVERYBODY if name not in missing]
        assert list(line["missing"]) == missing
    books_agree(league, run)
    assert charged(league, "south", run)[-1] == (4, run)
    league.hansa("client", "ledger", "verify", str(ledger(league, "south")))


@pytest.mark.parametrize("dp", ["local", "distributed"])
def test_a_run_whose_superlink_is_killed_goes_on_from_its_last_round(league, beside, dp):
    run = f"killed-link-{dp}"
    # Everything of the coordinator's dies, but nginx: the SuperLink, the ServerApp and what follows it.
    beside(league.server, "train", "--run", run, "--dp", dp, expect=None)
    league.wait("the first round", lambda: rounds(league, run))
    league.wait("a charge of the second", lambda: any(len(charged(league, name, run)) == 2 for name in SHOPS))
    assert league.kill(league.coordinator, without="nginx") >= 2
    before = {name: charged(league, name, run) for name in SHOPS}
    assert len(rounds(league, run)) == 1, "the second round was complete already"
    league.server("start")
    league.wait("the shops", lambda: league.server("status").count("online") == len(SHOPS))
    league.server("train", run, "--resume")
    assert league.outcome(run)["state"] == "done"
    assert [line["round"] for line in rounds(league, run)] == [1, 2]
    books_agree(league, run)
    second = rounds(league, run)[1]
    assert len(second["answered"]) >= 3  # a node that broke with the link may be late for the round
    for name in second["answered"]:
        again = [(2, f"{run} again 1: round 2")] if dp == "distributed" and len(before[name]) == 2 else []
        assert charged(league, name, run) == [(1, run), (2, run), *again]
    if dp == "distributed":
        assert second["attempt"] == 2
        assert any(len(charged(league, name, run)) == 3 for name in SHOPS)


def test_a_shop_whose_budget_is_spent_says_so_and_the_others_go_on(league):
    spent = json.loads(league.hansa("client", "ledger", "show", str(ledger(league, "east")), "--json"))[
        "spent"
    ]
    league.client("east", "configure", "--epsilon", f"{spent + 0.05:.4f}", "--no-read")
    league.server("train", "--run", "without-east", "--epsilon", "2")
    (enrolment,) = [line for line in league.rounds("without-east") if "enrolled" in line]
    assert enrolment["refused"] == {"east": "the plan does not fit the shop's budget"}
    assert [line["answered"] for line in rounds(league, "without-east")] == [["north", "south", "west"]] * 2
    assert charged(league, "east", "without-east") == []
    books_agree(league, "without-east")


def test_the_reports_of_everybody_are_in_order_and_agree_with_each_other(league, tmp_path):
    homes = {"coordinator": league.coordinator, **{name: league.shop(name) for name in SHOPS}}
    for name, home in homes.items():
        league.hansa("audit", "report", str(home), "--out", str(tmp_path / name))
    files = [str(tmp_path / name / "audit-report.json") for name in homes]
    league.server("roster", "--out", str(tmp_path / "roster.json"))
    signer = league.json((league.shop("east") / "invitation.json").read_text())["signer"]
    trusted = ("--roster", str(tmp_path / "roster.json"), "--coordinator", signer)
    found = league.json(league.hansa("audit", "verify", *files, *trusted, "--json"))
    assert found["between"] == []
    assert [each["findings"] for each in found["reports"]] == [[]] * 5
    assert all(each["authenticated"] for each in found["reports"])
    whole, *shops = [json.loads((tmp_path / name / "audit-report.json").read_bytes()) for name in homes]
    runs = {run["run"] for run in whole["statement"]["runs"]}
    assert {"first-local", "first-distributed", "killed-link-distributed", "without-east"} <= runs
    refused = {(each["shop"], each["run"]) for each in whole["statement"]["budget"]["refusals"]}
    assert ("east", "without-east") in refused
    assert whole["statement"]["budget"]["restarts"]  # of the run whose SuperLink was killed
    for name, report in zip(SHOPS, shops, strict=True):
        statement = report["statement"]
        assert {"first-local", "first-distributed"} <= {run["run"] for run in statement["runs"]}
        if name == "east":
            assert statement["budget"]["changes"]
            assert "without-east" in {each["run"] for each in statement["budget"]["refusals"]}


def crafted(league, name, **changed):
    """A plan that the coordinator's commands would not make."""
    plan = parse_plan((league.coordinator / "runs" / "first-local" / "plan.json").read_text())
    return Plan(**{**plan.model_dump(), "run": name, **changed})


def asked(league, plan, bundle=None):
    """What the shops said when a coordinator that does as it likes began a run."""
    home = ServerHome(league.coordinator)
    config = {"plan": plan.model_dump_json(), "round-timeout": 60.0}
    folder = league.coordinator / "runs" / plan.run
    (folder / "outcome.json").unlink(missing_ok=True)
    with Control(home, read_settings(home.settings)) as control:
        number = control.start(bundle or build_bundle(), config)
        league.wait("the end of the run", lambda: not control.runs()[number].going)
    (line,) = [line for line in league.rounds(plan.run) if "enrolled" in line][-1:]
    assert line["enrolled"] == []
    assert league.outcome(plan.run)["state"] == "refused"
    return line["refused"]


def shadowing(marker):
    """A bundle that brings its own client, whose code leaves a trace wherever it is imported."""
    with zipfile.ZipFile(io.BytesIO(build_bundle())) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.startswith(".info")}
    files["hansa_client/__init__.py"] = f"open({str(marker)!r}, 'w').close()\n".encode()
    files["hansa_client/app.py"] = b"app = None\n"
    listed = "\n".join(
        f"{name},{hashlib.sha256(content).hexdigest()},{8 * len(content)}" for name, content in files.items()
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {**files, ".info/CONTENT": listed.encode()}.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def waiting(league, name):
    return [question["kind"] for question in json.loads(league.client(name, "approvals", "list", "--json"))]


def logged(league, name):
    return "".join(path.read_text(errors="replace") for path in (league.shop(name) / "logs").glob("*.log*"))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"dp": "none", "noise_scale": 0.0}, "outside the shop's ranges: dp"),
        ({"dp": "central"}, "outside the shop's ranges: dp"),
        ({"noise_scale": 0.3}, "outside the shop's ranges: epsilon"),
        ({"n_items": 199}, "the plan is for another catalogue"),
    ],
)
def test_a_plan_that_no_shop_allows_is_refused_and_both_sides_see_it(league, what, said):
    name = "-".join(["crafted", *what, *map(str, what.values())])
    refused = asked(league, crafted(league, name, **what))
    assert set(refused) == set(SHOPS)
    assert set(refused.values()) == {said}
    for shop in SHOPS:
        assert charged(league, shop, name) == []
        assert said in logged(league, shop)


def test_a_known_run_under_a_changed_plan_is_refused(league):
    plan = crafted(league, "first-local", noise_scale=crafted(league, "x").noise_scale * 1.5)
    folder = league.coordinator / "runs" / "first-local"
    (folder / "digest").write_text(plan.digest)
    (folder / "checkpoint.safetensors").unlink()  # as if nothing had been released
    assert set(asked(league, plan).values()) == {"the plan differs from the one accepted under this name"}


def test_a_bundle_that_brings_code_is_refused_and_no_line_of_it_runs_at_a_shop(league, tmp_path):
    marker = tmp_path / "ran"
    refused = asked(league, crafted(league, "hostile-bundle"), shadowing(marker))
    assert all(reason.startswith("refused by shop policy: the bundle") for reason in refused.values())
    assert not marker.exists()
    for name in SHOPS:
        assert "bundle" in waiting(league, name)
        assert "refused by shop policy: the bundle" in logged(league, name)


def test_a_shop_that_the_coordinator_made_up_is_on_no_roster_that_others_approved(league):
    sybil = league.folder / "sybil"
    league.server("invite", "sybil", "--out", str(league.folder / "sybil.invite"))
    league.hansa("client", "init", str(league.folder / "sybil.invite"), "--home", str(sybil))
    league.server("admit", str(sybil / "sybil.keys.json"))
    league.server("train", "--run", "with-sybil", "--epsilon", "1", "--threshold", "4", expect=3)
    (line,) = [line for line in league.rounds("with-sybil") if "enrolled" in line]
    assert line["enrolled"] == []
    assert {line["refused"][name] for name in SHOPS} == {"the roster waits for the operator's approval"}
    for name in SHOPS:
        (question,) = [
            question
            for question in json.loads(league.client(name, "approvals", "list", "--json"))
            if question["kind"] == "roster"
        ]
        shown = league.client(name, "approvals", "show", question["id"])
        assert "sybil" in shown
        assert charged(league, name, "with-sybil") == []
    league.server("remove", "sybil")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/list-runs",
        "/v1/control/register-node",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/../control/list-runs",
        "/v1/fleet/%2e%2e/control/list-runs",
        "/V1/CONTROL/list-runs",
        "//v1/control/list-runs",
        "/v1/runtime/pull-messages",
        "/docs",
        "/openapi.json",
        "/",
    ],
)
def test_nothing_but_what_a_node_needs_is_reached_from_a_shops_side(league, path):
    invitation = json.loads((league.shop("west") / "invitation.json").read_text())
    host, port = invitation["address"].split(":")
    trusted = ssl.create_default_context(cafile=str(league.shop("west") / "authority.pem"))
    connection = http.client.HTTPSConnection(host, int(port), context=trusted, timeout=20)
    for method in ("POST", "GET"):
        connection.request(method, path)  # as it is: nothing is tidied up
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 403, (method, path)
    connection.close()
