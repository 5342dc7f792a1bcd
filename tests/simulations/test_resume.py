"""A deployed coordinator's run that is cut short and goes on: the two Flower apps, in one process."""

import json

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flwr.app import Context, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.task_identity import TaskIdentity

from hansa.dp.ledger import Budget
from hansa.dp.ledger.check import check, read_file
from hansa.dp.ledger.entries import Receipt, public_hex
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import UsageError, VerificationError
from hansa.plan import make_plan
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa.secagg.markers import MarkerFolder
from hansa.transparency import Head, LogHead, ReleaseReceipt
from hansa_client import app as client
from hansa_client.replies import ReplyFolder
from hansa_client.shop import LocalShop, provide_shops
from hansa_server import app as server
from hansa_server.checkpoint import RunFolder
from hansa_server.home import HOME, ServerHome
from hansa_server.journal import read_log
from hansa_server.publishing import published, signer
from hansa_simulations.engine import InProcessGrid
from hansa_simulations.members import simulated_members, simulated_roster

ITEMS, SEED, SHOPS = 20, 3, 4
SHOP_KEY = Ed25519PrivateKey.generate()


class CutError(BaseException):
    """As a kill: no code of the app catches it and goes on."""


class Cutting(InProcessGrid):
    """A grid as a deployed one, whose coordinator is gone after some messages of a type were answered."""

    cut = ("", 0)

    def push_messages(self, messages):
        self.sent = getattr(self, "sent", {})
        numbers = []
        for message in messages:
            number = f"message {len(self.sent)}"
            message.metadata.__dict__["_message_id"] = number
            self.sent[number] = message
            numbers.append(number)
        return numbers

    def pull_messages(self, message_ids):
        kind, left = self.cut
        for reply in self.send_and_receive([self.sent[number] for number in message_ids]):
            if reply.metadata.message_type == kind:
                if left == 0:
                    raise CutError
                self.cut = kind, left = kind, left - 1
            yield reply


def make(dp):
    return make_plan(
        run="r",
        method="hybrid",
        settings={"vocabulary": 8, "refinement_share": 0.3, "refinement_rounds": 2, "dimensions": 4},
        n_items=ITEMS,
        dp=dp,
        epsilon=6.0,
        delta=1e-5,
        shops=SHOPS,
        customers=100,
        threshold=3,
        colluders=1,
        roster=simulated_roster(SHOPS, SEED).digest if dp == "distributed" else "",
    )


@pytest.fixture
def league(tmp_path, monkeypatch):
    home = tmp_path / "coordinator"
    for folder in ("keys", "shops", "runs", "models"):
        (home / folder).mkdir(parents=True)
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (home / "keys" / "signer.pem").write_bytes(key)
    (home / "league").write_text("grocers\n")
    for node in range(1, SHOPS + 1):
        shop = {"shop": f"shop-{node:03d}", "card": None, "node": node, "state": "admitted"}
        (home / "shops" / f"{node}.json").write_text(json.dumps(shop))
    monkeypatch.setenv(HOME, str(home))
    yield League(home, tmp_path)
    provide_shops(None)


class League:
    def __init__(self, home, folder):
        self.home, self.folder = home, folder
        self.received, self.plans, self.ceilings = {}, {}, {}

    def shop(self, position, plan):
        ceiling = self.ceilings.get(position, 20.0)
        folder = self.folder / f"shop{position}"
        folder.mkdir(exist_ok=True)
        items = seeded_generator(position, "items").integers(0, ITEMS, 60)
        name = f"shop-{position + 1:03d}"
        ledger = LedgerFile(folder / "ledger.sqlite", Budget(ceiling, 1e-5), name=name)
        member = None
        if plan.roster:
            member = simulated_members(plan, SEED)[position]
            ledger.approve(plan.roster, member.vouched)
        return LocalShop(
            name,
            Histories.from_pairs(np.repeat(np.arange(10), 6), items, 10, ITEMS),
            ledger,
            10,
            allowed=("local", "distributed"),
            member=member,
            markers=MarkerFolder.create(folder / "markers"),
            replies=ReplyFolder(folder / "replies"),
            repeats=2,
            receive=lambda card, state: self.received.setdefault(position, (card, state)),
            plans=self.plans.setdefault(position, {}),
            coordinator="grocers",
            key=SHOP_KEY,
            signer=public_hex(signer(ServerHome(self.home))),
        )

    def run(self, plan, cut=("", 0)):
        """One process of the coordinator; every shop is its own new process, too, but for accepted plans."""
        shops = [self.shop(position, plan) for position in range(SHOPS)]
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SUPERLINK_NODE_ID
        provide_shops(lambda config: shops[config["partition-id"] - 1])
        nodes = {
            node: Context(1, node, {"partition-id": node}, RecordDict(), {}) for node in range(1, SHOPS + 1)
        }
        config = {"plan": plan.model_dump_json(), "round-timeout": 30.0}
        if plan.roster:
            config[server.ROSTER] = simulated_roster(SHOPS, SEED).to_json()
        grid = Cutting(client.app, nodes, workers=2)
        grid.cut = cut
        server.app(grid, Context(1, SUPERLINK_NODE_ID, {}, RecordDict(), config))

    def charges(self):
        """(round, reserved under) of each charge, by shop."""
        found = {}
        for position in range(SHOPS):
            ledger = LedgerFile(self.folder / f"shop{position}" / "ledger.sqlite")
            bodies = [draft.body for draft in ledger.entries() if draft.kind == "charge"]
            found[position] = [(body["round"], body["run"]) for body in bodies]
        return found

    def books(self, plan):
        return RunFolder(self.home / "runs" / "r", plan)

    def outcome(self):
        return json.loads((self.home / "runs" / "r" / "outcome.json").read_text())


def test_the_records_of_both_sides_agree_and_the_model_is_signed_and_arrives(league):
    plan = make("distributed")
    league.run(plan)
    rounds = league.books(plan).rounds()
    assert [line["round"] for line in rounds] == [1, 2, 3, 4]
    everybody = [f"shop-{node:03d}" for node in range(1, SHOPS + 1)]
    assert all((line["answered"], line["missing"]) == (everybody, {}) for line in rounds)
    assert league.charges() == {position: [(n, "r") for n in (1, 2, 3, 4)] for position in range(SHOPS)}
    for position, shop in enumerate(everybody):
        held = Receipt.from_json((league.home / "runs" / "r" / "receipts" / f"{shop}.json").read_text())
        rows, _ = read_file(league.folder / f"shop{position}" / "ledger.sqlite")
        assert held.sequence == len(rows)
        assert check(rows, receipt=held) == []
    card, state = published(ServerHome(league.home), "r")
    assert card.shops == [everybody] * 4
    assert league.outcome() | {"time": ""} == {
        "state": "done",
        "message": "",
        "time": "",
        "model": "r",
        "sent": dict.fromkeys(everybody, ""),
    }
    for told, model in league.received.values():
        assert told == card.to_json()
        assert {name: table.tobytes() for name, table in model.items()} == {
            name: table.tobytes() for name, table in state.items()
        }


def logged(league):
    """The coordinator's log, and what is told of shops' receipts."""
    lines = read_log(league.home / "log.jsonl")
    told = (league.home / "runs" / "r" / "rounds.jsonl").read_text().splitlines()
    return lines, [line for line in map(json.loads, told) if "warning" in line]


def statements_agree(league, plan):
    """Every line about a round names receipts that the shops' ledgers and the coordinator's key stand by."""
    lines, warnings = logged(league)
    assert warnings == []
    signed = public_hex(signer(ServerHome(league.home)))
    kept = {}
    for line in (league.home / "runs" / "r" / "statements.jsonl").read_text().splitlines():
        text = json.loads(line)["text"]
        assert kept.setdefault(ReleaseReceipt.from_json(text).digest, text) == text, "kept twice"
    for line in lines:
        if line.kind != "round":
            continue
        assert set(line.body["receipts"]) >= set(line.body["answered"])
        for shop, digest in line.body["receipts"].items():
            receipt = ReleaseReceipt.from_json(kept[digest])
            receipt.check()
            assert receipt.endorsed_by(SHOP_KEY.public_key().public_bytes_raw())
            assert (receipt.shop, receipt.round, receipt.plan) == (shop, line.body["round"], plan.digest)
            rows, _ = read_file(league.folder / f"shop{int(shop[-3:]) - 1}" / "ledger.sqlite")
            assert check(rows) == []
            row = rows[receipt.sequence - 1]
            body = row.parse().body
            assert (row.hash, body["round"]) == (receipt.hash, receipt.round)
            assert body["event"] == [list(part) for part in receipt.events]
            LogHead(league="grocers", **body["log"]).check(signed)
            assert receipt.head == Head(size=body["log"]["size"], hash=body["log"]["hash"])
            assert lines[receipt.head.size - 1].hash == receipt.head.hash  # one history, and an earlier line
            assert receipt.head.size < line.sequence
    return lines


@pytest.mark.parametrize("dp", ["local", "distributed"])
def test_the_log_tells_the_run_and_shops_stand_by_each_release(league, dp):
    plan = make(dp)
    league.run(plan)
    lines = statements_agree(league, plan)
    one = (
        ["round"] if dp == "local" else ["attempt", "round"]
    )  # a masked round is announced before it is asked
    assert [line.kind for line in lines] == ["run", "enrolled", *one * 4, "model", "outcome"]
    everybody = [f"shop-{node:03d}" for node in range(1, SHOPS + 1)]
    roster = simulated_roster(SHOPS, SEED).to_json() if dp == "distributed" else ""
    about = {"run": "r", "plan": plan.model_dump_json(), "digest": plan.digest, "roster": roster}
    assert lines[0].body == about
    assert lines[1].body == {"run": "r", "enrolled": everybody, "refused": {}}
    assert [line.body["round"] for line in lines if line.kind == "round"] == [1, 2, 3, 4]
    card, _ = published(ServerHome(league.home), "r")
    assert lines[-2].body == {"run": "r", "model": "r", "sha256": card.sha256}
    assert lines[-1].body == {"run": "r", "state": "done"}
    rows, _ = read_file(league.folder / "shop0" / "ledger.sqlite")
    sizes = [row.parse().body["log"]["size"] for row in rows if row.parse().kind in ("reserve", "charge")]
    assert sizes == ([1, 2, 3, 4, 5] if dp == "local" else [1, 3, 5, 7, 9])


@pytest.mark.parametrize("dp", ["local", "distributed"])
@pytest.mark.parametrize("lost", ["train.release", "train.upload", "query.model"])
def test_a_run_that_goes_on_goes_on_with_the_same_log(league, dp, lost):
    plan = make(dp)
    if (lost, dp) in (("train.release", "distributed"), ("train.upload", "local")):
        lost = {"local": "query.plan", "distributed": "query.unmask"}[dp]
    with pytest.raises(CutError):
        league.run(plan, cut=(lost, 2))
    before = [line.text for line in logged(league)[0]]
    assert json.loads(before[-1])["body"] == {"run": "r", "state": "failed"}
    with (league.home / "log.jsonl").open("a") as file:
        file.write('{"body":{"run":')  # as a kill in the middle of a line
    league.run(plan)
    lines = statements_agree(league, plan)
    assert [line.text for line in lines][: len(before)] == before
    said = [(line.kind, line.text if line.kind == "outcome" else json.dumps(line.body)) for line in lines]
    assert len(set(said)) == len(said)
    assert [line.body["state"] for line in lines if line.kind == "outcome"] == ["failed", "done"]
    rounds = [(line.body["round"], line.body["attempt"]) for line in lines if line.kind == "round"]
    assert [number for number, _ in rounds] == [1, 2, 3, 4]
    assert sum(line.kind == "run" for line in lines) == sum(line.kind == "model" for line in lines) == 1


def test_a_round_that_was_told_and_not_kept_is_told_again_only_if_it_is_another(league, monkeypatch):
    plan = make("local")
    save = RunFolder.save

    def cut(books, checkpoint):
        if checkpoint.round == 2:
            raise CutError
        save(books, checkpoint)

    monkeypatch.setattr(RunFolder, "save", cut)
    with pytest.raises(CutError):
        league.run(plan)
    monkeypatch.undo()
    monkeypatch.setenv(HOME, str(league.home))
    league.run(plan)
    lines = statements_agree(league, plan)
    assert [line.body["round"] for line in lines if line.kind == "round"] == [1, 2, 3, 4]


def test_a_run_does_not_begin_on_a_log_that_was_changed(league):
    league.run(make("local"))
    path = league.home / "log.jsonl"
    path.write_text(path.read_text().replace("shop-004", "shop-005", 1))
    before = league.charges()
    with pytest.raises(UsageError, match=r"line 3 of the log: it does not follow .*; restore it from a"):
        league.run(make("local"))
    assert league.charges() == before
    assert league.outcome()["state"] == "failed"


def test_two_histories_of_the_coordinator_lie_in_the_shops_ledgers(league, caplog):
    league.run(make("local"))
    (league.home / "log.jsonl").unlink()
    (league.home / "runs" / "r" / "checkpoint.safetensors").unlink()
    league.run(make("local").model_copy(update={"run": "s"}))
    assert "the coordinator's log has 1 lines and had 5" in caplog.text
    assert "line 2 of the coordinator's log is another than before" in caplog.text
    rows, _ = read_file(league.folder / "shop0" / "ledger.sqlite")
    assert check(rows) == []
    signed, heads = public_hex(signer(ServerHome(league.home))), {}
    for row in rows:
        told = row.parse().body.get("log")
        if told:
            LogHead(league="grocers", **told).check(signed)
            heads.setdefault(told["size"], set()).add(told["hash"])
    assert any(len(hashes) == 2 for hashes in heads.values())


def test_local_shops_send_a_lost_round_again_as_it_was_and_pay_once(league):
    plan = make("local")
    with pytest.raises(CutError):
        league.run(plan, cut=("train.release", 2))
    assert league.outcome()["state"] == "failed"
    assert league.books(plan).load().round == 0
    paid = league.charges()
    assert sorted(len(rounds) for rounds in paid.values())[-1] == 1
    league.run(plan)
    assert league.charges() == {position: [(n, "r") for n in (1, 2, 3, 4)] for position in range(SHOPS)}
    assert [line["round"] for line in league.books(plan).rounds()] == [1, 2, 3, 4]
    assert league.outcome()["state"] == "done"


@pytest.mark.parametrize(
    ("kind", "round_paid_again"),
    [("query.advertise", False), ("query.share", False), ("train.upload", True), ("query.unmask", True)],
)
def test_a_lost_masked_round_is_tried_under_a_new_number_and_paid_again_if_it_was_paid(
    league, kind, round_paid_again
):
    plan = make("distributed")
    with pytest.raises(CutError):
        league.run(plan, cut=(kind, 3))
    before = league.charges()
    assert any(before.values()) == round_paid_again
    league.run(plan)
    (first, *_) = league.books(plan).rounds()
    assert (first["round"], first["attempt"]) == (1, 2)
    for position, rounds in league.charges().items():
        again = [(1, "r again 1: round 1")] if before[position] else []
        own = [(1, "r")] if not before[position] else []
        assert rounds == [*before[position], *again, *own, (2, "r"), (3, "r"), (4, "r")]
    assert league.outcome()["state"] == "done"


def test_a_shop_that_cannot_pay_again_sits_the_round_out(league):
    plan = make("distributed")
    league.ceilings[0] = 6.0  # all of it goes to the plan
    with pytest.raises(CutError):
        league.run(plan, cut=("train.upload", 3))
    assert all(league.charges().values())
    league.run(plan)
    first, *others = league.books(plan).rounds()
    assert first["missing"] == {"shop-001": "round 1 is lost and does not fit the shop's budget again"}
    assert all(line["missing"] == {} for line in others)
    assert league.charges()[0] == [(n, "r") for n in (1, 2, 3, 4)]


def test_a_run_that_is_complete_but_for_the_sending_is_not_trained_again(league):
    plan = make("local")
    with pytest.raises(CutError):
        league.run(plan, cut=("query.model", 0))
    before = league.charges()
    league.run(plan)
    assert league.charges() == before
    assert league.outcome()["state"] == "done"


def test_another_plan_under_the_runs_name_is_refused(league):
    league.run(make("local"))
    with pytest.raises(UsageError, match="was begun with another plan"):
        league.run(make("local").with_noise(9.0))


def test_a_model_that_was_changed_after_it_was_signed_is_noticed(league):
    league.run(make("local"))
    file = league.home / "models" / "r" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(VerificationError, match="another than its card names"):
        published(ServerHome(league.home), "r")


def test_nodes_of_no_admitted_shop_are_not_asked(league):
    (league.home / "shops" / "4.json").unlink()
    plan = make("local")
    league.run(plan)
    assert not (league.folder / "shop3" / "ledger.sqlite").exists()
    assert all(len(line["answered"]) == 3 for line in league.books(plan).rounds())
