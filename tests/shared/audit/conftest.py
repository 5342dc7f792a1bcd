"""A league in a few milliseconds: three shops with real ledgers, two runs, a log; nothing is computed."""

from dataclasses import dataclass, field
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.audit.document import Evidence, Party
from hansa.audit.making import Material, make_report
from hansa.audit.sources import ledger_rows, shop_material
from hansa.dp.accounting import to_parts
from hansa.dp.ledger import Budget
from hansa.dp.ledger.beside import Beside
from hansa.dp.ledger.entries import public_hex
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import RefusalError
from hansa.plan import make_plan
from hansa.secagg.roster import Roster
from hansa.transparency import LogHead, ReleaseReceipt, endorse, next_line, read_lines

SHOPS = ("east", "north", "west")
LEAGUE = "baltic"


@dataclass
class League:
    """What the parties of a small league hold."""

    folder: object
    ceiling: float = 8.0
    keys: dict = field(default_factory=lambda: {shop: Ed25519PrivateKey.generate() for shop in SHOPS})
    signer: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    log: list = field(default_factory=list)
    statements: list = field(default_factory=list)
    plans: dict = field(default_factory=dict)

    def __post_init__(self):
        self.ledgers = {
            shop: LedgerFile(self.folder / f"{shop}.sqlite", Budget(self.ceiling, 1e-5), name=shop)
            for shop in SHOPS
        }
        for ledger in self.ledgers.values():
            ledger.spent()  # makes the file

    @property
    def roster(self):
        return Roster({shop: key.public_key().public_bytes_raw() for shop, key in self.keys.items()})

    def write(self, kind, body):
        lines = read_lines(self.log)
        self.log.append(next_line(kind, body, lines[-1] if lines else None))

    def head(self):
        last = read_lines(self.log)[-1]
        return LogHead.make(LEAGUE, last.sequence, last.hash, self.signer)

    def run(self, name, epsilon=2.0, method="popularity", dp="local", shops=SHOPS, **more):
        """A run from its plan to its model; only ledgers, statements and log are kept of it."""
        plan = make_plan(
            run=name, method=method, settings={}, n_items=50, dp=dp, epsilon=epsilon, delta=1e-5, shops=3,
            customers=1000, roster=self.roster.digest if dp == "distributed" else "", **more,
        )  # fmt: skip
        self.plans[name] = plan
        self.write("run", {"run": name, "plan": plan.model_dump_json(), "digest": plan.digest, "roster": ""})
        accepted, refused = [], {}
        for shop in shops:
            ledger = self.ledgers[shop]
            about = {"asked_by": LEAGUE, "plan": plan.digest, "log": self.shown()}
            try:
                ledger.reserve(name, plan.steps, about)
                accepted.append(shop)
            except RefusalError as refusal:
                ledger.refuse(name, refusal.reason, {"asked_by": LEAGUE})
                refused[shop] = refusal.reason
        self.write("enrolled", {"run": name, "enrolled": accepted, "refused": refused})
        for number, release in enumerate(plan.releases, start=1):
            said = {shop: self.release(shop, plan, number, release) for shop in accepted}
            self.write(
                "round",
                {
                    "run": name,
                    "round": number,
                    "attempt": 1,
                    "release": release.name,
                    "answered": accepted,
                    "missing": {},
                    "receipts": {shop: sha256(text.encode()).hexdigest() for shop, text in said.items()},
                },
            )
        self.write("model", {"run": name, "model": name, "sha256": "a" * 64})
        self.write("outcome", {"run": name, "state": "done"})
        return plan

    def shown(self):
        return self.head().model_dump(include={"size", "hash", "signature"})

    def release(self, shop, plan, number, release):
        ledger = self.ledgers[shop]
        for _ in range(release.steps):
            about = {"round": number, "release": release.name, "bound": release.bound, "log": self.shown()}
            ledger.charge(plan.run, release.event, about)
        text = self.statement(shop, plan, number)
        self.statements.append(text)
        return text

    def statement(self, shop, plan, number):
        rows = ledger_rows(self.ledgers[shop].path)
        opened, last = rows[0].parse().body, rows[-1]
        release = plan.releases[number - 1]
        return ReleaseReceipt.make(
            league=LEAGUE,
            shop=shop,
            ledger=opened["ledger"],
            sequence=last.sequence,
            hash=last.hash,
            run=plan.run,
            plan=plan.digest,
            round=number,
            release=release.name,
            events=to_parts(release.event) * release.steps,
            roster=plan.roster,
            head=None,
            endorsement=self.endorsement(shop),
            ledger_key=Beside(self.ledgers[shop].path).read_key(),
        ).to_json()

    def endorsement(self, shop):
        opened = ledger_rows(self.ledgers[shop].path)[0].parse().body
        return endorse(self.keys[shop], LEAGUE, shop, opened["ledger"], opened["key"])

    def shop_material(self, shop):
        path = self.ledgers[shop].path
        return shop_material(
            path,
            ledger_rows(path),
            league=LEAGUE,
            plans=[plan.model_dump_json() for plan in self.plans.values()],
            endorsement=self.endorsement(shop),
            rosters=[],
        )

    def shop_report(self, shop):
        return make_report(self.shop_material(shop))

    def material(self):
        released = {ReleaseReceipt.from_json(text).shop for text in self.statements}
        receipts = [self.ledgers[shop].receipt().to_json() for shop in sorted(released)]
        return Material(
            kind="federation",
            subject="the league baltic",
            league=LEAGUE,
            shop=None,
            parties=[Party(role="coordinator", name=LEAGUE, key=public_hex(self.signer))],
            evidence=Evidence(
                ledgers=[],
                plans=[plan.model_dump_json() for plan in self.plans.values()],
                statements=list(self.statements),
                receipts=receipts,
                log=list(self.log),
                head=self.head().to_json(),
                rosters=[],
                omitted=[],
            ),
            key=self.signer,
        )

    def report(self):
        return make_report(self.material())


@pytest.fixture
def league(tmp_path):
    return League(tmp_path)


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """Two runs of two methods, a refusal and a changed ceiling."""
    found = League(tmp_path_factory.mktemp("league"), ceiling=3.0)
    found.run("spring", epsilon=2.0)
    found.run("too much", epsilon=5.0)
    for shop in SHOPS:
        path = found.ledgers[shop].path
        found.ledgers[shop] = LedgerFile(path, Budget(8.0, 1e-5), name=shop)
    found.run("autumn", epsilon=2.5, method="cooccurrence")
    return found
