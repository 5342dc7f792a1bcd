"""What waits for a shop's operator, and what the operator has decided: plain files in the shop's folder.

``pending/ID.json`` are questions. ``approved-plans`` and ``rejected`` hold one digest a line. Approved
bundles are in ``shop.toml``, an approved roster is ``roster.json`` with an entry of the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from hansa.dp.ledger import Ledger
from hansa.durable import write_whole
from hansa.errors import RefusalError, UsageError
from hansa.plan import parse_plan
from hansa.secagg.roster import Roster
from hansa_client.config import read_settings
from hansa_client.home import ShopHome

Kind = Literal["plan", "roster", "bundle"]
MOST: dict[Kind, int] = {"plan": 20, "roster": 20, "bundle": 10}
"""Questions that may wait at once, of each kind: a coordinator cannot fill the disk, nor keep others out."""

_APPROVED, _REJECTED = "approved-plans", "rejected"


@dataclass(frozen=True)
class Question:
    """Something that waits for the operator.

    Attributes:
        kind: What it is about.
        digest: Of the plan, the roster or the bundle, hex.
        asked: When it was first asked, by the shop's clock, ISO 8601.
        why: Why it was not decided without the operator.
        body: The plan or the roster as JSON; else empty.
    """

    kind: Kind
    digest: str
    asked: str
    why: str
    body: str

    @property
    def id(self) -> str:
        """Its short name."""
        return f"{self.kind}-{self.digest[:10]}"


@dataclass(frozen=True)
class Decisions:
    """The questions and decisions of one shop."""

    home: ShopHome

    def ask(self, kind: Kind, digest: str, why: str, body: str = "") -> bool:
        """Put a question to the operator, once; the oldest of its kind gives way where too many wait.

        Returns:
            Whether it waits now; False: it was rejected before.

        Raises:
            RefusalError: It could not be written down.
        """
        if self.rejected(digest):
            return False
        asked = datetime.now(UTC).isoformat(timespec="seconds")
        question = Question(kind, digest, asked, why, body)
        path = self.home.pending / f"{question.id}.json"
        try:
            if not path.exists():
                self._make_room(kind)
                write_whole(path, json.dumps(asdict(question)).encode())
        except OSError as error:
            reason = "the question could not be put to the shop's operator"
            raise RefusalError(f"{path}: {error}", reason=reason) from error
        return True

    def _make_room(self, kind: Kind) -> None:
        self.home.pending.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.home.pending.glob(f"{kind}-*.json")
        oldest_first = sorted(found, key=lambda path: path.stat().st_mtime_ns)
        for path in oldest_first[: max(0, len(oldest_first) + 1 - MOST[kind])]:
            path.unlink(missing_ok=True)

    def waiting(self) -> list[Question]:
        """All questions, the oldest first."""
        found = [_read(path.read_text("utf-8"), path.name) for path in self.home.pending.glob("*.json")]
        return sorted(found, key=lambda question: (question.asked, question.id))

    def find(self, name: str) -> Question:
        """The question of this name.

        Raises:
            UsageError: There is none.
        """
        for question in self.waiting():
            if question.id == name:
                return question
        raise UsageError(f"{name}: nothing of that name waits; see 'hansa client approvals list'")

    def approved_plan(self, digest: str) -> bool:
        """Whether the operator has approved this very plan."""
        return digest in self._lines(_APPROVED)

    def rejected(self, digest: str) -> bool:
        """Whether the operator has said no to it."""
        return digest in self._lines(_REJECTED)

    def approved_roster(self) -> Roster | None:
        """The roster that the operator approved last.

        Raises:
            UsageError: The file is damaged.
        """
        try:
            return Roster.from_json(self.home.roster.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def approve(self, question: Question, ledger: Ledger, vouched: Iterable[str] | None = None) -> None:
        """Say yes.

        Args:
            question: What to.
            ledger: The shop's; it records who was vouched for with a roster.
            vouched: With a roster: shops whose fingerprints the operator has compared; None: those that were
                vouched for before and have kept their keys.

        Raises:
            UsageError: A shop that is not on the roster is vouched for, or shops are named with no roster.
        """
        if question.kind != "roster" and vouched is not None:
            raise UsageError(f"--vouch: {question.id} is not a roster; leave it out")
        if question.kind == "plan":
            self._write(_APPROVED, [*self._lines(_APPROVED), parse_plan(question.body).digest])
        elif question.kind == "bundle":
            known = read_settings(self.home.settings).approvals.bundles
            self._set("approvals", "bundles", [*known, question.digest])
        else:
            roster = Roster.from_json(question.body)
            names = sorted(set(self.still_vouched(roster) if vouched is None else vouched))
            unknown = [name for name in names if name not in roster.keys]
            if unknown:
                raise UsageError(f"--vouch {','.join(unknown)}: not on the roster")
            write_whole(self.home.roster, roster.to_json().encode())
            self._set("masking", "vouched", names)
            ledger.approve(roster.digest, names)
        self._close(question)

    def reject(self, question: Question) -> None:
        """Say no, now and whenever the same is asked again."""
        self._write(_REJECTED, [*self._lines(_REJECTED), question.digest])
        self._close(question)

    def still_vouched(self, roster: Roster) -> list[str]:
        """Shops vouched for before, with the same key on ``roster``."""
        before = self.approved_roster()
        if before is None:
            return []
        vouched = read_settings(self.home.settings).masking.vouched
        return [name for name in vouched if before.keys.get(name) == roster.keys.get(name, b"")]

    def _close(self, question: Question) -> None:
        (self.home.pending / f"{question.id}.json").unlink(missing_ok=True)

    def _lines(self, name: str) -> list[str]:
        try:
            return (self.home.root / name).read_text(encoding="ascii").split()
        except FileNotFoundError:
            return []

    def _write(self, name: str, lines: Iterable[str]) -> None:
        write_whole(self.home.root / name, "".join(f"{line}\n" for line in dict.fromkeys(lines)).encode())

    def _set(self, section: str, key: str, values: list[str]) -> None:
        """Change one list of ``shop.toml``; its comments stay."""
        import tomlkit
        from tomlkit.items import Table

        document = tomlkit.parse(self.home.settings.read_text(encoding="utf-8"))
        table = document.setdefault(section, tomlkit.table())
        if not isinstance(table, Table):
            raise UsageError(f"{self.home.settings}: {section}: not a section")
        table[key] = list(dict.fromkeys(values))
        write_whole(self.home.settings, tomlkit.dumps(document).encode())


def _read(text: str, source: str) -> Question:
    try:
        found: Mapping[str, Any] = json.loads(text)
        return Question(**found)
    except (ValueError, TypeError) as error:
        raise UsageError(f"pending/{source}: damaged; remove it, it will be asked again") from error
