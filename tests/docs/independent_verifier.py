"""A verifier of audit reports that was written from ``docs/audit-report.md`` alone.

It imports nothing of Hansa, so that it cannot share a fault with ``hansa audit verify``::

    python tests/docs/independent_verifier.py FILE [--roster FILE] [--coordinator KEY]

Exit code 0, or 4 with one line for everything that fails. Left alone is what has no rule there:
``claim``, ``words``, ``variant``, ``protection``, ``risks``, ``cross_check``, ``interactions``, which points
and overlaps are listed, and what a federation's plans hold beyond the releases in shops' statements.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from independent_accountant import (
    Part,
    convert,
    cost,
    filter_delta,
    gaussian_mu,
    known,
    merged,
    own,
    own_delta,
    same,
    shared,
)
from independent_evidence import Evidence
from independent_ledger import Json, Ledger


class Verifier(Evidence):
    """Checks one report: all that it rests on, then what follows from it."""

    def figures(self) -> None:
        """What the sections state."""
        if self.kind == "federation":
            self.league()
        else:
            self.spender()

    def equals(self, name: str, stated: Json, **found: Any) -> None:
        """Figures of one object."""
        for key, value in found.items():
            self.equal(f"{name}.{key}", stated[key], value)

    def equal(self, name: str, stated: Json, found: Any) -> None:
        """A figure that must be the same; floats within a relative 1e-4."""
        if isinstance(found, float):
            fits = (stated is None or isinstance(stated, float)) and same(stated, found)
            self.need(fits, f"{name} is {stated}, and by the evidence {found:.6g}")
        else:
            self.need(stated == found, f"{name} is {stated!r:.90}, and by the evidence {found!r:.90}")

    def planned(self, name: str, run: Json, digest: str) -> Json:
        """What a run's row shows of its plan."""
        plan = self.plan[digest]
        self.equals(
            name, run, plan=digest, method=plan["method"], settings=plan["settings"], shops=plan["shops"]
        )
        self.equals(name, run, items=plan["n_items"], customers=plan["customers"])
        return plan

    def trust(self, runs: list[tuple[str, str]], vouched: list[str] | None) -> None:
        """Whom each run asks to be trusted."""
        self.equal("trust", [row["run"] for row in self.said["trust"]], [run for run, _ in runs])
        for i, (row, (_, digest)) in enumerate(zip(self.said["trust"], runs, strict=False)):
            plan, name = self.plan[digest], f"trust[{i}]"
            summed = plan["dp"] == "distributed"
            show = {key: plan[key] if summed else None for key in ("threshold", "colluders", "masked")}
            honest = plan["threshold"] - plan["colluders"] if summed else None
            roster = (plan["roster"] or None) if summed else None
            self.equals(name, row, dp=plan["dp"], **show, honest=honest, roster=roster)
            self.equals(name, row, vouched=vouched if summed else None)

    # -------------------------------------------------------------- of a ledger

    def spender(self) -> None:
        """Figures that follow from the ledger that has spent most."""
        said, most = self.said, max(ledger.spent for ledger in self.ledgers)
        ties = [ledger for ledger in self.ledgers if same(ledger.spent, most)]
        top = next((t for t in ties if t.opening["ledger"] == said["budget"]["ledger"]), ties[-1])
        first = top.opening
        self.equals("guarantee", said["guarantee"], epsilon=top.spent, delta=first["delta"])
        self.equals("accounting", said["accounting"], order=first["order"])
        if self.kind == "shop":
            self.equals("identity", said["identity"], shop=first["shop"])
        self.budget(top)
        self.profile(top)
        self.equal("runs", [run["run"] for run in said["runs"]], list(top.plans))
        for i, (run, plan) in enumerate(zip(said["runs"], top.plans.values(), strict=False)):
            name, body = f"runs[{i}]", plan.body
            self.planned(name, run, body["plan"])
            self.equals(name, run, accepted=plan.time, asked_by=body["asked_by"], again=body.get("again"))
            self.equals(name, run, planned=plan.sums(), charged=plan.sums(plan.position))
            self.equals(name, run, epsilon=own(plan.parts, first["delta"]), epsilon_after=plan.after)
        rosters = [entry["body"]["vouched"] for entry in top.entries if entry["kind"] == "roster"]
        self.trust(
            [(run, plan.body["plan"]) for run, plan in top.plans.items()], rosters[-1] if rosters else []
        )
        self.releases(top)
        self.equal("members", len(said["members"]), 0 if self.kind == "shop" else len(self.ledgers))
        for i, (member, ledger) in enumerate(zip(said["members"], self.ledgers, strict=False)):
            name, body = f"members[{i}]", ledger.opening
            self.equals(name, member, shop=body["shop"], ledger=body["ledger"], key=body["key"])
            self.equals(name, member, sequence=len(ledger.entries), epsilon=ledger.spent)
            self.equals(name, member, answered=len(ledger.charges))

    def releases(self, top: Ledger) -> None:
        """Releases by charges, and the caps on what enters them."""
        said, caps = self.said, []
        self.equal("releases", len(said["releases"]), len(top.charges))
        for i, (release, (number, body, time)) in enumerate(zip(said["releases"], top.charges, strict=False)):
            name, log = f"releases[{i}]", body.get("log") or {"size": None}
            self.equals(name, release, number=number, time=time, run=body["run"], round=body["round"])
            self.equals(name, release, release=body["release"], bound=body["bound"], parts=body["event"])
            self.equals(name, release, epsilon_after=body["epsilon_after"], log=log["size"])
            self.equals(
                name, release, to=body.get("asked_by", release["to"]), **noise(body["event"], body["bound"])
            )
            caps.append((body["run"], body["release"], body["bound"]))
        stated = [(cap["run"], cap["release"], cap["bound"]) for cap in said["unit"]["caps"]]
        self.need(
            set(stated) == set(caps) and len(set(stated)) == len(stated), "unit.caps are not the releases'"
        )

    def budget(self, top: Ledger) -> None:
        """The section on the budget."""
        stated, first, entries = self.said["budget"], top.opening, list(enumerate(top.entries, 1))
        left = None if top.ceiling == math.inf else max(0.0, top.ceiling - top.spent)
        self.equals("budget", stated, ledger=first["ledger"], shop=first["shop"], ceiling=top.ceiling)
        self.equals("budget", stated, delta=first["delta"], closed=top.lost)
        self.equals("budget", stated, spent=top.spent, charged=top.charged, left=left)
        self.equal("budget.history", len(stated["history"]), len(top.history))
        for i, (row, moment) in enumerate(zip(stated["history"], top.history, strict=False)):
            number, spent, charged, ceiling = moment
            name, time = f"budget.history[{i}]", top.entries[number - 1]["time"]
            self.equals(name, row, number=number, time=time, spent=spent, charged=charged, ceiling=ceiling)
        rows = [
            {
                "number": n,
                "time": e["time"],
                "before": e["body"]["epsilon_before"],
                "after": e["body"]["epsilon_after"],
            }
            for n, e in entries
            if e["kind"] == "ceiling"
        ]
        self.equal("budget.changes", stated["changes"], rows)
        rows = [
            {
                "number": n,
                "time": e["time"],
                "shop": None,
                "run": e["body"]["run"],
                "reason": e["body"]["reason"],
            }
            for n, e in entries
            if e["kind"] == "refuse"
        ]
        self.equal("budget.refusals", stated["refusals"], rows)

    def profile(self, top: Ledger) -> None:
        """Profile, mu and overlaps."""
        stated, delta, order = self.said["guarantee"], top.opening["delta"], top.opening["order"]
        plans = [(plan.parts, self.plan[plan.body["plan"]]["dp"] == "local") for plan in top.plans.values()]
        single = plans[0][0] if len(plans) == 1 else None
        plain = single is not None and all(p[0] not in ("skellam", 0) and p[1] == 1 for p in single)
        self.equals("guarantee", stated, mu=gaussian_mu(single) if single and plain else None)
        for i, point in enumerate(stated["profile"]):
            epsilon = point["epsilon"]
            found = own_delta(single, epsilon) if single else filter_delta(top.paid, order, epsilon)
            self.equals(f"guarantee.profile[{i}]", point, delta=found)
        for i, row in enumerate(stated["overlaps"]):
            try:
                many = [[shared(p, row["shops"], local) for p in parts] for parts, local in plans]
            except NotImplementedError:
                self.notes.append(f"guarantee.overlaps[{i}] is not recomputed: sampling in sums over shops")
                continue
            total = convert(math.fsum(cost(parts, order) for parts in many), order, delta)
            self.equals(f"guarantee.overlaps[{i}]", row, epsilon=own(many[0], delta) if single else total)

    # -------------------------------------------------------------- of a league

    def league(self) -> None:
        """Figures that follow from the log and the statements."""
        said, runs = self.said, {run["run"]: run for run in self.said["runs"]}
        took: dict[str, set[str]] = {run: set(shops) for run, shops in self.accepted.items() if shops}
        rounds: dict[str, dict[int, list[Part]]] = {run: {} for run in self.invited}
        for word in self.words:
            took.setdefault(word["run"], set()).add(word["shop"])
            first = rounds[word["run"]].setdefault(word["round"], word["events"])
            name = f"run {word['run']}, round {word['round']}"
            self.need(first == word["events"], f"{name}: shops state other events")
        parts = {
            run: merged(known(p) for events in got.values() for p in events) for run, got in rounds.items()
        }
        delta = max((self.plan[self.invited[run]]["delta"] for run in took), default=1.0)
        own_of = {run: own(parts[run], delta / len(took)) for run in took}
        whole = all(runs[run]["planned"] == sum(p[-1] for p in parts[run]) for run in took)
        total, stated = math.fsum(own_of.values()), said["guarantee"]["epsilon"]
        if not whole:
            self.notes.append(
                "plans go beyond the statements: epsilons are held against what was answered alone"
            )
        enough = same(stated, total) or (not whole and (stated is None or stated > total))
        self.need(enough, f"guarantee.epsilon is {stated}, and by the evidence {total:.6g}")
        self.equals("guarantee", said["guarantee"], delta=delta if took else None)
        self.equals("accounting", said["accounting"], order=None)
        self.equal("runs", list(runs), list(self.invited))
        spent = 0.0
        for i, (run, stated) in enumerate(runs.items()):
            self.planned(f"runs[{i}]", stated, self.invited[run])
            spent += own_of.get(run, 0.0)
            if run in took and whole:
                self.equals(f"runs[{i}]", stated, epsilon=own_of[run], epsilon_after=spent)
        self.trust(list(self.invited.items()), None)
        lines = [(n, line) for n, line in enumerate(self.lines, 1) if line["kind"] == "round"]
        made = [(n, line) for n, line in lines if line["body"]["answered"]]
        self.equal("releases", [release["number"] for release in said["releases"]], [n for n, _ in made])
        for i, (release, (_, line)) in enumerate(zip(said["releases"], made, strict=False)):
            name, body = f"releases[{i}]", line["body"]
            events = rounds[body["run"]].get(body["round"], [])
            self.equals(name, release, time=line["time"], run=body["run"], round=body["round"], parts=events)
            self.equals(name, release, release=body["release"], shops=len(body["answered"]))
            self.equals(name, release, **noise(events, release["bound"]))
        self.members(took, own_of if whole else {})

    def members(self, took: dict[str, set[str]], own_of: dict[str, float]) -> None:
        """What a league's report knows of each shop."""
        said, shops = self.said["members"], sorted({shop for group in took.values() for shop in group})
        self.equal("members", [member["shop"] for member in said], shops)
        for i, member in enumerate(said):
            name, shop = f"members[{i}]", member["shop"]
            mine = [word for word in self.words if word["shop"] == shop]
            last = max(mine, key=lambda word: word["sequence"], default={"ledger": None, "key": None})
            lengths = [word["sequence"] for word in mine] + [self.length.get(str(last["ledger"]), 0)]
            self.equals(name, member, ledger=last["ledger"], key=last["key"], sequence=max(lengths) or None)
            answered = sum(who == shop for _, who in self.answers)
            self.equals(name, member, statements=len(mine), answered=answered)
            if own_of:
                self.equals(name, member, epsilon=math.fsum(own_of[run] for run in took if shop in took[run]))


def noise(event: list[Part], bound: float | None) -> dict[str, Any]:
    """How a release shows the noise of one part."""
    if len(event) != 1 or event[0][0] == 0:
        return {}
    skellam = event[0][0] == "skellam"
    z = math.sqrt(event[0][1] / event[0][2]) if skellam else event[0][0]
    shown = {"mechanism": "Skellam" if skellam else "Gaussian", "multiplier": z}
    return {
        **shown,
        "sampling": 1.0 if skellam else event[0][1],
        "sigma": None if bound is None else z * bound,
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Verify an audit report of Hansa.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--roster", type=Path, help="JSON of shops' long-term keys, from elsewhere")
    parser.add_argument("--coordinator", help="the coordinator's key, from elsewhere")
    args = parser.parse_args()
    roster = None if args.roster is None else json.loads(args.roster.read_text(encoding="utf-8"))
    verifier = Verifier(args.file.read_bytes(), roster, args.coordinator)
    for line in [*verifier.found, *(f"note: {note}" for note in verifier.notes)]:
        print(line)
    print("consistent" if not verifier.found else f"NOT consistent: {len(verifier.found)} findings")
    return 4 if verifier.found else 0


if __name__ == "__main__":
    sys.exit(main())
