"""A league on paper: real plans, ledgers, statements and log, signed by everybody, and nothing computed.

It is what audit reports are tried on: the test vectors of their specification, and the benchmark of changes
that have to be refused. All of it takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.audit.document import Evidence, Party
from hansa.audit.making import Material, make_report
from hansa.audit.sources import ledger_rows, shop_material
from hansa.dp.accounting import to_parts
from hansa.dp.ledger import Budget
from hansa.dp.ledger.beside import Beside
from hansa.dp.ledger.entries import public_hex
from hansa.dp.ledger.file import LedgerFile
from hansa.dp.private_sum import DpModel
from hansa.errors import RefusalError
from hansa.plan import Plan, make_plan
from hansa.secagg.roster import Roster
from hansa.transparency import LogHead, ReleaseReceipt, endorse, next_line, read_lines

SHOPS = ("east", "north", "west")
LEAGUE = "baltic"
DELTA = 1e-5


class PaperLeague:
    """What the parties of a small league hold.

    Args:
        folder: For the ledgers.
        ceiling: Of every shop.
    """

    def __init__(self, folder: Path, ceiling: float = 8.0) -> None:
        self.folder = folder
        self.keys = {shop: Ed25519PrivateKey.generate() for shop in SHOPS}
        self.signer = Ed25519PrivateKey.generate()
        self.log: list[str] = []
        self.statements: list[str] = []
        self.plans: dict[str, Plan] = {}
        self.ledgers: dict[str, LedgerFile] = {}
        self.change_ceiling(ceiling)

    @property
    def roster(self) -> Roster:
        """The shops' long-term keys."""
        return Roster({shop: key.public_key().public_bytes_raw() for shop, key in self.keys.items()})

    def change_ceiling(self, ceiling: float) -> None:
        """Every shop's configuration has another ceiling."""
        for shop in SHOPS:
            path = self.folder / f"{shop}.sqlite"
            self.ledgers[shop] = LedgerFile(path, Budget(ceiling, DELTA), name=shop, durable=False)
            self.ledgers[shop].spent()  # enters it

    def write(self, kind: str, body: dict[str, Any]) -> None:
        """A line of the coordinator's log."""
        lines = read_lines(self.log)
        self.log.append(next_line(kind, body, lines[-1] if lines else None))

    def head(self) -> LogHead:
        """The coordinator's word on its log."""
        last = read_lines(self.log)[-1]
        return LogHead.make(LEAGUE, last.sequence, last.hash, self.signer)

    def run(
        self,
        name: str,
        epsilon: float = 2.0,
        method: str = "popularity",
        dp: DpModel = "local",
        shops: Sequence[str] = SHOPS,
        silent: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        """A run from its plan to its end; who cannot afford it refuses, who is ``silent`` signs nothing."""
        plan = make_plan(
            run=name,
            method=method,
            settings=settings,
            n_items=50,
            dp=dp,
            epsilon=epsilon,
            delta=DELTA,
            shops=len(SHOPS),
            customers=1000,
            roster=self.roster.digest if dp == "distributed" else "",
        )
        self.plans[name] = plan
        roster = self.roster.to_json() if plan.roster else ""
        about = {"run": name, "plan": plan.model_dump_json(), "digest": plan.digest, "roster": roster}
        self.write("run", about)
        accepted, refused = [], {}
        for shop in shops:
            try:
                self.ledgers[shop].reserve(name, plan.steps, {**self._about(), "plan": plan.digest})
                accepted.append(shop)
            except RefusalError as refusal:
                self.ledgers[shop].refuse(name, refusal.reason, {"asked_by": LEAGUE})
                refused[shop] = refusal.reason
        self.write("enrolled", {"run": name, "enrolled": accepted, "refused": refused})
        for number in range(1, len(plan.releases) + 1) if accepted else ():
            self._round(plan, number, accepted, silent)
        if accepted:
            self.write("model", {"run": name, "model": name, "sha256": "a" * 64})
        self.write("outcome", {"run": name, "state": "done" if accepted else "refused"})

    def _round(self, plan: Plan, number: int, shops: Sequence[str], silent: Sequence[str]) -> None:
        made = {shop: self._release(shop, plan, number) for shop in shops}
        receipts = {shop: receipt for shop, receipt in made.items() if shop not in silent}
        self.statements += [receipt.to_json() for receipt in receipts.values()]
        self.write(
            "round",
            {
                "run": plan.run,
                "round": number,
                "attempt": 1,
                "release": plan.releases[number - 1].name,
                "answered": list(shops),
                "missing": {},
                "receipts": {shop: receipt.digest for shop, receipt in receipts.items()},
            },
        )

    def _release(self, shop: str, plan: Plan, number: int) -> ReleaseReceipt:
        release, ledger = plan.releases[number - 1], self.ledgers[shop]
        about = {**self._about(), "round": number, "release": release.name, "bound": release.bound}
        for _ in range(release.steps):
            ledger.charge(plan.run, release.event, about)
        rows = ledger_rows(ledger.path)
        return ReleaseReceipt.make(
            league=LEAGUE,
            shop=shop,
            ledger=rows[0].parse().body["ledger"],
            ledger_key=Beside(ledger.path).read_key(),
            sequence=rows[-1].sequence,
            hash=rows[-1].hash,
            run=plan.run,
            plan=plan.digest,
            round=number,
            release=release.name,
            events=to_parts(release.event) * release.steps,
            roster=plan.roster,
            endorsement=self._endorsement(shop),
        )

    def _about(self) -> dict[str, Any]:
        shown = self.head().model_dump(include={"size", "hash", "signature"})
        return {"asked_by": LEAGUE, "log": shown}

    def _endorsement(self, shop: str) -> str:
        opened = ledger_rows(self.ledgers[shop].path)[0].parse().body
        return endorse(self.keys[shop], LEAGUE, shop, opened["ledger"], opened["key"])

    def shop_material(self, shop: str) -> Material:
        """What a shop's report is made of."""
        path = self.ledgers[shop].path
        return shop_material(
            path,
            ledger_rows(path),
            league=LEAGUE,
            plans=[plan.model_dump_json() for plan in self.plans.values()],
            endorsement=self._endorsement(shop),
            rosters=[self.roster.to_json()] if any(plan.roster for plan in self.plans.values()) else [],
        )

    def shop_report(self, shop: str) -> bytes:
        """A shop's report."""
        return make_report(self.shop_material(shop))

    def league_material(self) -> Material:
        """What the federation's report is made of."""
        released = {ReleaseReceipt.from_json(text).shop for text in self.statements}
        return Material(
            kind="federation",
            subject=f"the league {LEAGUE}",
            league=LEAGUE,
            shop=None,
            parties=[Party(role="coordinator", name=LEAGUE, key=public_hex(self.signer))],
            evidence=Evidence(
                ledgers=[],
                plans=[plan.model_dump_json() for plan in self.plans.values()],
                statements=list(self.statements),
                receipts=[self.ledgers[shop].receipt().to_json() for shop in sorted(released)],
                log=list(self.log),
                head=self.head().to_json(),
                rosters=[self.roster.to_json()] if any(p.roster for p in self.plans.values()) else [],
                omitted=[],
            ),
            key=self.signer,
        )

    def league_report(self) -> bytes:
        """The federation's report."""
        return make_report(self.league_material())


def busy_league(folder: Path) -> PaperLeague:
    """A league with two runs of two methods, a plan that every shop refuses, and a changed ceiling."""
    league = PaperLeague(folder, ceiling=3.0)
    league.run("spring", epsilon=2.0)
    league.run("too much", epsilon=5.0)
    league.change_ceiling(8.0)
    league.run("autumn", epsilon=2.5, method="cooccurrence")
    return league
