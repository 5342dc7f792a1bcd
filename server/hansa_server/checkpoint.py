"""What a coordinator keeps of a run on its disk: where it is, what every round came to, and who said so.

A run that was cut short goes on from its last complete round. Numbers of tries are on the disk before the
first shop is asked under them, so that none is ever used twice: a shop refuses what it has done before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from hansa.dp.ledger.entries import Receipt
from hansa.durable import append_line, write_whole
from hansa.errors import UsageError, VerificationError
from hansa.models.base import State
from hansa.models.optimizers import Memory
from hansa.plan import Plan
from hansa_server import statements
from hansa_server.receipts import DAMAGED, FORK, MALFORMED, held, parse, problem
from hansa_server.strategy import Enrolment, RoundReport

_STATE, _MEMORY = "state.", "memory."


@dataclass(frozen=True)
class Checkpoint:
    """A run after a complete round.

    Attributes:
        round: The round; 0 before the first.
        state: The public state after it.
        memory: The coordinator's own state of the optimizer.
    """

    round: int
    state: State
    memory: Memory


class RunFolder:
    """The folder of a run.

    ``checkpoint.safetensors`` is its last complete round, ``rounds.jsonl`` has a line for each round and each
    enrolment, and for what is wrong with a receipt; ``receipts/SHOP.json`` is the furthest word of each shop
    on its ledger (``hansa_server.receipts``), ``statements.jsonl`` its words on its releases
    (``hansa_server.statements``), ``outcome.json`` the end.

    Args:
        path: The folder; made if need be.
        plan: The run's plan.
        league: The league's name.
        keys: Long-term public keys of the admitted shops; of others endorsements are not looked at.

    Raises:
        UsageError: The folder holds another plan of that name.
    """

    def __init__(
        self, path: Path, plan: Plan, league: str = "", keys: Mapping[str, bytes] | None = None
    ) -> None:
        self.path, self.plan, self.league, self.keys = path, plan, league, dict(keys or {})
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path / "receipts").mkdir(mode=0o700, exist_ok=True)
        self._held: dict[str, list[Receipt]] = {}
        if self._pinned() is None:
            self._write("digest", plan.digest.encode())
        if self._pinned() != plan.digest:
            raise UsageError(f"{path}: the run {plan.run} was begun with another plan; give it another name")

    def _pinned(self) -> str | None:
        try:
            return (self.path / "digest").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None

    def attempt(self, round_: int) -> int:
        """The number of the next try of a round, from 1; never the same again, whatever crashes."""
        try:
            tried = json.loads((self.path / "attempts.json").read_text(encoding="ascii"))
        except FileNotFoundError:
            tried = {}
        number = int(tried.get(str(round_), 0)) + 1
        self._write("attempts.json", json.dumps({**tried, str(round_): number}).encode())
        return number

    def load(self) -> Checkpoint | None:
        """The last complete round; None before the first.

        Raises:
            UsageError: The file is damaged.
        """
        path = self.path / "checkpoint.safetensors"
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                round_ = int(file.metadata()["round"])
                tables = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path}: damaged ({error}); delete it to begin the run anew") from error
        return Checkpoint(round_, _part(tables, _STATE), _part(tables, _MEMORY))

    def save(self, checkpoint: Checkpoint) -> None:
        """Make this the round to go on from."""
        tables = {_STATE + name: np.ascontiguousarray(table) for name, table in checkpoint.state.items()}
        tables |= {_MEMORY + name: np.ascontiguousarray(table) for name, table in checkpoint.memory.items()}
        self._write("checkpoint.safetensors", save(tables, metadata={"round": str(checkpoint.round)}))

    def enrolled(self, enrolment: Enrolment) -> None:
        """Record who takes part, and who does not."""
        self._keep_receipts(enrolment.receipts)
        self._add({"enrolled": sorted(enrolment.nodes.values()), "refused": enrolment.refused})

    def record(self, report: RoundReport) -> dict[str, str]:
        """Record what a round came to.

        Returns:
            By shop the digest of its word on its release, where it is in order.
        """
        self._keep_receipts(report.receipts)
        self._add(
            {
                "round": report.round,
                "planned": report.planned,
                "release": report.release.name,
                "attempt": report.attempt,
                "answered": report.shops,
                "missing": report.reasons,
                "seconds": round(report.seconds, 3),
            }
        )
        return self._keep_statements(report)

    def rounds(self) -> list[dict[str, Any]]:
        """The lines of ``rounds.jsonl`` that are about rounds; a repeated round counts as it was last."""
        try:
            lines = (self.path / "rounds.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        except FileNotFoundError:
            return []
        found = {line["round"]: line for line in map(json.loads, lines) if "round" in line}
        return [found[number] for number in sorted(found)]

    def finish(self, state: str, message: str = "", **about: object) -> None:
        """Record how the run ended: ``done``, ``refused`` or ``failed``."""
        outcome = {"state": state, "message": message, "time": _now(), **about}
        self._write("outcome.json", (json.dumps(outcome, indent=2) + "\n").encode())

    def begin(self) -> None:
        """Forget how it ended before."""
        (self.path / "outcome.json").unlink(missing_ok=True)

    def _keep_receipts(self, receipts: Mapping[str, str]) -> None:
        """Keep what goes further than what is held; what contradicts it is told in ``rounds.jsonl``."""
        for shop, text in receipts.items():
            known = self._known(shop)
            try:
                receipt = parse(text)
            except ValueError:
                self._add({"warning": MALFORMED, "shop": shop, "why": "its form is not that of a receipt"})
                continue
            why, kept = problem(known, receipt)
            if why:
                self._add({"warning": FORK, "shop": shop, "why": why})
            if kept:
                self._displace(shop, receipt)
                self._write(f"receipts/{shop}.json", (receipt.to_json() + "\n").encode())
                known.append(receipt)

    def _keep_statements(self, report: RoundReport) -> dict[str, str]:
        """Keep what is in order; what is not is told in ``rounds.jsonl``, once for a new ledger or key."""
        digests: dict[str, str] = {}
        path = self.path / statements.FILE
        kept = statements.lines(path)
        for shop, text in sorted(report.statements.items()):
            try:
                receipt = statements.judge(
                    text,
                    self.league,
                    shop,
                    self.plan,
                    report.round,
                    ledger=_usable(report.receipts.get(shop, "")),
                    key=self.keys.get(shop),
                )
            except VerificationError as error:
                self._add({"warning": statements.WRONG, "shop": shop, "why": str(error)})
                continue
            before = statements.newest(self.path.parent, shop)
            if before is None or (before.ledger, before.key) == (receipt.ledger, receipt.key):
                digests[shop] = receipt.digest
            else:
                why = "it is of another ledger or key than the one before"
                self._add({"warning": statements.WRONG, "shop": shop, "why": why})
            line = {"round": report.round, "attempt": report.attempt, "shop": shop, "text": text}
            if line not in kept:  # a lost round of local noise is sent again as it was
                append_line(path, json.dumps(line))
        return digests

    def _known(self, shop: str) -> list[Receipt]:
        """What any run holds of a shop; a damaged file is told, and no reason to end a run."""
        if shop not in self._held:
            try:
                self._held[shop] = held(self.path.parent, shop)
            except UsageError as error:
                self._held[shop] = []
                self._add({"warning": DAMAGED, "shop": shop, "why": str(error)})
        return self._held[shop]

    def _displace(self, shop: str, receipt: Receipt) -> None:
        """Put this run's receipt of another ledger of the shop aside."""
        path = self.path / "receipts" / f"{shop}.json"
        try:
            before = parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # there is none, or what is there is worth nothing
            return
        if before.ledger != receipt.ledger:
            aside = path.parent / before.ledger
            aside.mkdir(mode=0o700, exist_ok=True)
            path.replace(aside / path.name)

    def _add(self, line: Mapping[str, object]) -> None:
        append_line(self.path / "rounds.jsonl", json.dumps({"time": _now(), **line}))

    def _write(self, name: str, content: bytes) -> None:
        write_whole(self.path / name, content)


def _part(tables: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): table for name, table in tables.items() if name.startswith(prefix)}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _usable(text: str) -> Receipt | None:
    """A shop's word on its ledger, where it is one."""
    try:
        return parse(text)
    except ValueError:
        return None
