"""What an audit report rests on, by ``docs/audit-report.md``: form, ledgers, log, statements."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from independent_accountant import known
from independent_ledger import NOTHING, Json, Ledger, canonical, chain, labelled, sha, signed, unique

SCHEMA = Path(__file__).parents[2] / "docs" / "audit-report.schema.json"
FORMAT = "hansa audit report 1"
STATEMENT = {
    "endorsement",
    "events",
    "hash",
    "head",
    "key",
    "league",
    "ledger",
    "plan",
    "release",
    "roster",
    "round",
}
STATEMENT |= {"run", "sequence", "shop", "signature", "version"}
TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
TYPES |= {
    "number": float,
    "null": type(None),
}  # a field that is a number is spelled with a point or an exponent


def fits(value: Json, schema: Json, root: Json, where: str = "") -> None:
    """Raise ValueError where a value is not of the schema (the keywords that ours has)."""
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].split("/")[-1]], root, where)
    if "anyOf" in schema:
        for option in schema["anyOf"]:
            try:
                return fits(value, option, root, where)
            except ValueError:
                continue
        raise ValueError(f"{where}: {value!r:.60} is none of what it can be")
    kind = schema.get("type", "string")
    size = len(value) if isinstance(value, list) else 0
    if (
        not isinstance(value, TYPES[kind])
        or (kind == "integer" and isinstance(value, bool))
        or ("const" in schema and value != schema["const"])
        or ("enum" in schema and value not in schema["enum"])
        or ("pattern" in schema and not re.fullmatch(schema["pattern"].strip("^$"), value))
        or not schema.get("minItems", 0) <= size <= schema.get("maxItems", math.inf)
    ):
        raise ValueError(f"{where}: {value!r:.60} does not fit")
    if kind == "object":
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        if set(schema.get("required", [])) - set(value) or (more is False and set(value) - set(known)):
            raise ValueError(f"{where}: not exactly the fields of the schema")
        for name, item in value.items():
            fits(item, known.get(name, more), root, f"{where}.{name}" if where else name)
    elif kind == "array":
        first = schema.get("prefixItems", [])
        for i, item in enumerate(value):
            fits(item, first[i] if i < len(first) else schema["items"], root, f"{where}[{i}]")
    return None


class Evidence:
    """What a report rests on; ``found`` is what fails, ``notes`` what could not be checked."""

    def __init__(
        self, data: bytes, roster: dict[str, str] | None = None, coordinator: str | None = None
    ) -> None:
        self.found: list[str] = []
        self.notes: list[str] = []
        self.roster, self.coordinator = roster, coordinator
        self.ledgers: list[Ledger] = []
        if not self.guard("file", lambda: self.file(data)):
            return
        checks = [
            self.signature,
            self.plans,
            self.chains,
            self.log,
            self.statements,
            self.receipts,
            self.figures,
        ]
        for check in checks:
            if not self.guard(check.__name__, check):
                return  # later checks read what this one was to show

    def guard(self, where: str, check: Callable[[], None]) -> bool:
        """Run a check; whatever it trips over is a finding."""
        try:
            check()
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            self.found.append(f"{where}: {type(error).__name__}: {error}")
            return False
        return True

    def figures(self) -> None:
        """What follows from it."""
        raise NotImplementedError

    def need(self, ok: bool, words: str) -> bool:
        """Note what fails."""
        if not ok:
            self.found.append(words)
        return ok

    def about(self, name: str) -> Callable[[bool, str], bool]:
        """:meth:`need` about one thing."""
        return lambda ok, words: self.need(ok, f"{name}: {words}")

    def file(self, data: bytes) -> None:
        """Three lines, in canonical form."""
        lines = data.decode("ascii").split("\n")
        if len(lines) != 4 or lines[3] or lines[0] != f'{{"format":"{FORMAT}",':
            raise ValueError("not the lines of a report")
        seal = re.fullmatch('"signature":{"key":"([0-9a-f]{64})","value":"([0-9a-f]{128})"}}', lines[2])
        if not (seal and lines[1].startswith('"statement":') and lines[1].endswith(",")):
            raise ValueError("not the lines of a report")
        self.text, self.key, self.value = lines[1][len('"statement":') : -1], seal[1], seal[2]
        self.said = canonical(self.text)
        schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
        fits(self.said, schema["$defs"]["Statement"], schema)
        self.evidence, self.kind = self.said["evidence"], self.said["kind"]

    def signature(self) -> None:
        """Over the statement's bytes, by the key that its kind asks for."""
        self.need(signed(self.key, self.value, f"{FORMAT}\n{self.text}".encode()), "signature")
        if self.kind == "federation" and self.coordinator:
            self.need(self.key == self.coordinator, "signed with another key than the coordinator's")

    def plans(self) -> None:
        """Plans by digest."""
        self.plan = {sha(text): json.loads(text, object_pairs_hook=unique) for text in self.evidence["plans"]}
        self.need(len(self.plan) == len(self.evidence["plans"]), "a plan is there twice")

    def chains(self) -> None:
        """Every ledger: chain, signatures, rule, plans, endorsement."""
        rosters = [canonical(text) for text in self.evidence["rosters"]]
        for i, sheet in enumerate(self.evidence["ledgers"]):
            need, rows = self.about(f"ledger {i} ({sheet['shop']})"), sheet["rows"]
            ledger = Ledger(*chain([row["text"] for row in rows], need))
            key = ledger.opening["key"]
            for number, row in enumerate(rows, 1):
                data = b"hansa ledger entry 1\n" + row["text"].encode()
                need(signed(key, row["signature"], data), f"entry {number}: signature")
            need(ledger.opening["shop"] == sheet["shop"], "another shop's")
            ledger.replay(need)
            self.ledgers.append(ledger)
            for run, plan in ledger.plans.items():
                need(
                    self.plan.get(plan.body["plan"], {}).get("run") == run,
                    f"the plan of run {run} is not here",
                )
            self.heads(ledger, sheet["league"], need)
            who = (sheet["league"], sheet["shop"], ledger.opening["ledger"], key)
            if sheet["endorsement"] is not None:
                self.endorsed(sheet["endorsement"], who, rosters, need)
            elif self.roster is not None:
                need(self.kind == "simulation", "nobody endorses it")
        names = [ledger.opening["ledger"] for ledger in self.ledgers]
        self.need(len(set(names)) == len(names), "a ledger is there twice")
        if self.kind == "shop":
            self.need(len(names) == 1 and self.key == self.ledgers[0].opening["key"], "not the ledger's key")

    def endorsed(
        self, value: str, who: tuple[str, ...], rosters: list[Json], need: Callable[..., bool]
    ) -> None:
        """By the shop's long-term key, of the roster from elsewhere, else of those in the report."""
        data = labelled("ledger key", *who)
        if self.roster is not None:
            need(signed(self.roster.get(who[1], ""), value, data), "not endorsed by the roster's key")
        inside = [roster[who[1]] for roster in rosters if who[1] in roster]
        need(
            not inside or any(signed(key, value, data) for key in inside),
            "not endorsed by the report's roster",
        )

    def heads(self, ledger: Ledger, league: str, need: Callable[[bool, str], bool]) -> None:
        """The coordinator's log as the shop was shown it."""
        sizes: dict[int, str] = {}
        for entry in ledger.entries:
            head = entry["body"].get("log")
            if head is not None:
                need(head["size"] >= max(sizes, default=0), "the coordinator's log shrinks")
                need(sizes.setdefault(head["size"], head["hash"]) == head["hash"], "two logs of one size")
                if self.coordinator:
                    data = labelled("log head", league, str(head["size"]), head["hash"])
                    need(signed(self.coordinator, head["signature"], data), "a log head's signature")

    def log(self) -> None:
        """The coordinator's log and its head."""
        need, lines = self.about("log"), self.evidence["log"]
        self.lines, hashes = chain(lines, need)
        self.invited: dict[str, Json] = {}
        self.accepted: dict[str, set[str]] = {}
        self.answers: list[tuple[Json, str]] = []
        for number, line in enumerate(self.lines, 1):
            kind, body, say = line["kind"], line["body"], f"line {number}: "
            need(kind in ("run", "enrolled", "round", "model", "outcome"), say + f"kind {kind}")
            if kind == "run":
                need(sha(body["plan"]) == body["digest"] and body["digest"] in self.plan, say + "digest")
                need(self.plan.get(body["digest"], {}).get("run") == body["run"], say + "another run's plan")
                need(body["run"] not in self.invited, say + "a run for the second time")
                self.invited[body["run"]] = body["digest"]
            elif need(body["run"] in self.invited, say + "unknown run") and kind == "enrolled":
                self.accepted.setdefault(body["run"], set()).update(body["enrolled"])
            elif kind == "round":
                self.answers += [(body, shop) for shop in body["answered"]]
                need(set(body["receipts"]) <= set(body["answered"]), say + "a receipt of who did not answer")
                need(
                    set(body["answered"]) <= self.accepted.get(body["run"], set()),
                    say + "a shop is not enrolled",
                )
        if self.kind != "federation":
            self.need(not lines and self.evidence["head"] is None, "a log without its coordinator")
            return
        head = canonical(self.evidence["head"])
        need(set(head) == {"hash", "league", "signature", "size", "version"}, "fields of the head")
        need(
            head["size"] == len(lines) and head["hash"] == (hashes or [NOTHING])[-1],
            "its head is of other lines",
        )
        need(head["league"] == self.said["identity"]["league"], "its head is another league's")
        data = labelled("log head", head["league"], str(head["size"]), head["hash"])
        need(signed(self.key, head["signature"], data), "its head's signature")

    def statements(self) -> None:
        """Shops' words on releases, and that none is missing."""
        self.words = [canonical(text) for text in self.evidence["statements"]]
        here = {sha(text): word for text, word in zip(self.evidence["statements"], self.words, strict=True)}
        self.need(len(here) == len(self.words), "a statement is there twice")
        ledgers = {ledger.opening["ledger"]: ledger for ledger in self.ledgers}
        owner: dict[str, tuple[str, ...]] = {}
        places: dict[tuple[str, int], str] = {}
        for word in self.words:
            need = self.about(f"statement of {word['shop']} on {word['run']}, round {word['round']}")
            need(set(word) == STATEMENT, "fields")
            bare = json.dumps({**word, "signature": ""}, sort_keys=True, separators=(",", ":"))
            need(signed(word["key"], word["signature"], labelled("release receipt", bare)), "signature")
            who = (word["league"], word["shop"], word["ledger"], word["key"])
            rosters = [canonical(text) for text in self.evidence["rosters"]]
            self.endorsed(word["endorsement"], who, rosters, need)
            need(owner.setdefault(word["ledger"], who) == who, "its ledger is another shop's or key's")
            place = (word["ledger"], word["sequence"])
            need(
                places.setdefault(place, word["hash"]) == word["hash"],
                "another hash of an entry of its ledger",
            )
            need(word["league"] == self.said["identity"]["league"], "another league's")
            need(word["plan"] in self.plan, "its plan is not here")
            need(self.kind != "federation" or self.invited.get(word["run"]) == word["plan"], "another plan's")
            list(map(known, word["events"]))
            if word["ledger"] in ledgers:
                ledger = ledgers[word["ledger"]]
                need(ledger.hashes[word["sequence"] - 1 :][:1] == [word["hash"]], "not its ledger's entry")
        for body, shop in self.answers:
            name = f"run {body['run']}, round {body['round']}: {shop}"
            if shop not in body["receipts"]:
                self.notes.append(f"{name} answered by the coordinator's word alone")
                continue
            word = here.get(body["receipts"][shop])
            fields = {k: body[k] for k in ("run", "round", "release")} | {"shop": shop}
            self.need(
                word is not None and fields.items() <= word.items(), f"{name} answered, without statement"
            )
        self.owner = owner

    def receipts(self) -> None:
        """Shops' words on their ledgers."""
        keys = {name: who[3] for name, who in self.owner.items()}
        keys |= {ledger.opening["ledger"]: ledger.opening["key"] for ledger in self.ledgers}
        self.length: dict[str, int] = {}
        for receipt in map(canonical, self.evidence["receipts"]):
            need = self.about(f"receipt of {receipt['ledger']}")
            need(set(receipt) == {"hash", "ledger", "sequence", "signature"}, "fields")
            bare = json.dumps({**receipt, "signature": ""}, sort_keys=True, separators=(",", ":"))
            if need(receipt["ledger"] in keys, "nothing says whose it is"):
                data = b"hansa ledger receipt 1\n" + bare.encode()
                need(signed(keys[receipt["ledger"]], receipt["signature"], data), "signature")
            name, number = receipt["ledger"], receipt["sequence"]
            self.length[name] = max(number, self.length.get(name, 0))
            for ledger in self.ledgers:
                if ledger.opening["ledger"] == name:
                    need(
                        number > 0 and ledger.hashes[number - 1 :][:1] == [receipt["hash"]],
                        "not its ledger's entry",
                    )
            for word in self.words:
                if (word["ledger"], word["sequence"]) == (receipt["ledger"], receipt["sequence"]):
                    need(word["hash"] == receipt["hash"], "a statement has another hash of this entry")
