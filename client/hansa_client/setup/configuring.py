"""Making a shop's settings from what its operator says and what its data look like, and its ledger."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.errors import UsageError
from hansa_client.config import Data, ShopSettings
from hansa_client.data.connectors import source_of
from hansa_client.data.files import found_files
from hansa_client.data.loading import load_data
from hansa_client.data.sources import Source, listed
from hansa_client.home import ShopHome
from hansa_client.invited import read_invitation
from hansa_client.setup.proposals import propose_columns, propose_csv, propose_format
from hansa_client.setup.settings_file import change, checked, open_document, write_document

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

_LOOK = 500
_SOURCE = {"data.kind", "data.path", "data.url", "data.table", "data.query"}
ROLES = ("customer", "item", "time")
Ask = Callable[[str, str], str]
"""Asks the operator a question with a proposal; gives the answer."""


@dataclass
class Configuring:
    """One run of ``hansa client configure``.

    Attributes:
        home: The shop's folder.
        changes: What is asked for, by the field's dotted name.
        ask: Asks the operator; None: nobody is there, and proposals that are clear are taken.
        say: Told what is done, one line each.
        look: Whether the data are read at the end, to see that they can be.
        reread: Whether they are read in any case, and all of them.
    """

    home: ShopHome
    changes: dict[str, Any]
    ask: Ask | None = None
    say: Callable[[str], None] = lambda line: None
    look: bool = True
    reread: bool = False
    document: TOMLDocument = field(init=False)

    def run(self) -> ShopSettings:
        """Do it: ``shop.toml`` and the ledger are written last, and only if all is well.

        Raises:
            UsageError: Something that is asked for is wrong, cannot be read, or is missing.
            RefusalError: The ledger cannot be used.
        """
        invitation = read_invitation(self.home)
        first = not self.home.settings.exists()
        self.document = open_document(self.home.settings)
        if first:
            change(self.document, {"approvals.bundles": [invitation.bundle]})
        self._settle("data.table", "data.query")
        self._settle("data.query", "data.table")
        if first and self.ask is not None:
            self._ask_for_source(self.ask)
        self._propose_delta(first)
        change(self.document, self._placed())
        sought = any(name.startswith("data.") for name in self.changes)
        if first or sought:
            self._look_at_data(first or bool(_SOURCE & set(self.changes)))
        settings = checked(self.document, self.home.settings)
        self._check_delta(settings)
        mapped = any(name.startswith("catalogue.") for name in self.changes)
        if self.reread or (self.look and (first or sought or mapped)):
            for line in load_data(self.home, settings, anew=True).report.lines():
                self.say(line)
        self._keep_ledger(settings, invitation.shop)
        write_document(self.document, self.home.settings)
        return settings

    def _settle(self, given: str, other: str) -> None:
        """A table takes the place of a query, and the other way round."""
        if self.changes.get(given) and other not in self.changes:
            self.changes[other] = ""

    def _ask_for_source(self, ask: Ask) -> None:
        if "data.kind" not in self.changes:
            self.changes["data.kind"] = ask("Where are the interactions: csv, parquet or sql", "csv")
        if self.changes["data.kind"] != "sql":
            if "data.path" not in self.changes:
                self.changes["data.path"] = ask("File or folder", "interactions.csv")
        else:
            for name, question, proposal in _OF_SQL:
                if name not in self.changes and not (name == "data.table" and self.changes.get("data.query")):
                    self.changes[name] = ask(question, proposal)
        for name, question, proposal in _OF_BUDGET:
            if name == "budget.delta":
                proposal = repr(self._fitting_delta())
            if name not in self.changes:
                self.changes[name] = _number(name, ask(question, proposal))

    def _fitting_delta(self) -> float:
        from hansa.figures import default_delta

        declared = checked(self.document, self.home.settings).budget.customers
        return default_delta(int(self.changes.get("budget.customers", declared)))

    def _propose_delta(self, first: bool) -> None:
        """Before there is a ledger, delta follows the number of customers unless it is said."""
        named = "budget.delta" in self.changes or self.home.ledger.exists()
        if named or not (first or "budget.customers" in self.changes):
            return
        if self.changes.get("budget.customers", 1) < 1:  # told when the settings are checked
            return
        delta = self._fitting_delta()
        if delta != checked(self.document, self.home.settings).budget.delta:
            change(self.document, {"budget.delta": delta})
            self.say(f"budget.delta = {delta:g}: by the number of customers")

    def _placed(self) -> Mapping[str, object]:
        """Paths as seen from the shop's folder: one that is given is seen from where the operator is."""
        placed = dict(self.changes)
        for name in ("data.path", "catalogue.mapping"):
            if placed.get(name):
                placed[name] = str(_from(self.home.root, Path(str(placed[name]))))
        kind, _, where = str(placed.get("data.password", "")).partition(":")
        if kind == "file":
            placed["data.password"] = f"file:{_from(self.home.root, Path(where))}"
        return placed

    def _look_at_data(self, new: bool) -> None:
        """Propose what was not said: columns; of a new source also separator, encoding, time format."""
        data = checked(self.document, self.home.settings).data
        if new and data.kind == "csv":
            data = self._csv(data)
        source = source_of(self.home, data)
        found = source.columns()
        self._columns(data, found, new)
        if new or "data.columns.time" in self.changes:
            self._format(checked(self.document, self.home.settings).data, source)

    def _csv(self, data: Data) -> Data:
        try:
            separator, encoding = propose_csv(found_files("csv", self.home.root / data.path)[0])
        except (OSError, EOFError, zlib.error):  # told when it is read
            return data
        for name, value in (("separator", separator), ("encoding", encoding)):
            if f"data.{name}" not in self.changes and value != getattr(data, name):
                self._take(f"data.{name}", value, "by its first lines")
        return checked(self.document, self.home.settings).data

    def _columns(self, data: Data, found: list[str], new: bool) -> None:
        proposed = propose_columns(found)
        for role in ROLES:
            name = f"data.columns.{role}"
            chosen = str(getattr(data.columns, role))
            if name in self.changes or chosen in found:
                continue
            if self.ask is not None:
                self._take(
                    name, self.ask(f"Column of the {role}, of {listed(found)}", proposed.get(role, ""))
                )
            elif role in proposed:
                self._take(name, proposed[role], "by its name")
            else:
                raise UsageError(
                    f"shop.toml: {name}: no column says by its name that it is the {role}; found "
                    f"{listed(found)}; give --{role} NAME"
                )
        taken = checked(self.document, self.home.settings).data.columns
        quantity = proposed.get("quantity")
        free = quantity not in (taken.customer, taken.item, taken.time)
        if new and quantity and free and "data.columns.quantity" not in self.changes and not taken.quantity:
            self._take("data.columns.quantity", quantity, "by its name; --quantity '' for none")

    def _format(self, data: Data, source: Source) -> None:
        if "data.columns.time_format" in self.changes:
            return
        rows = source.head(_LOOK)
        values = [row.get(data.columns.time) for row in rows]
        formats = propose_format(values)
        if data.columns.time_format in formats:
            return
        if len(formats) == 1:
            self._take("data.columns.time_format", formats[0], "it reads the first rows")
            return
        unclear = f"could be {' or '.join(formats)}" if formats else "is not known"
        if self.ask is None:
            raise UsageError(
                f"shop.toml: data.columns.time_format: the format of column {data.columns.time!r} {unclear}; "
                "give --time-format, e.g. '%d.%m.%Y %H:%M'"
            )
        question = f"Format of the times, which {unclear}"
        self._take("data.columns.time_format", self.ask(question, formats[0] if formats else "auto"))

    def _take(self, name: str, value: str, why: str = "") -> None:
        change(self.document, {name: value})
        if why:
            self.say(f"{name} = {value!r}: {why}")

    def _check_delta(self, settings: ShopSettings) -> None:
        from hansa.dp.ledger.file import LedgerFile

        most = 1 / settings.budget.customers
        loose = (
            f"budget.delta: {settings.budget.delta:g} is above 1 / customers, {most:.3g}, which would permit "
            "to give a customer away in whole now and then"
        )
        if not self.home.ledger.exists():
            if settings.budget.loose:
                raise UsageError(
                    f"shop.toml: {loose}; give --delta {self._fitting_delta()!r}, or leave it out"
                )
            return
        if settings.budget.loose:
            self.say(f"{loose}; it cannot be changed any more, only a new ledger has another")
        known = LedgerFile(self.home.ledger).ceiling.delta
        if settings.budget.delta != known:
            raise UsageError(
                f"shop.toml: budget.delta: the ledger was opened with {known:g} for its whole lifetime, "
                f"which cannot be changed; give --delta {known:g}"
            )

    def _keep_ledger(self, settings: ShopSettings, shop: str) -> None:
        """Open a ledger, or enter a changed ceiling into it by its own rule."""
        from hansa.dp.ledger.account import Budget, opening
        from hansa.dp.ledger.file import LedgerFile

        budget = Budget(settings.budget.epsilon, settings.budget.delta)
        if not self.home.ledger.exists():
            self.home.ledger.parent.mkdir(mode=0o700, exist_ok=True)
            LedgerFile(self.home.ledger, budget, name=shop).create([opening(budget)])
            self.say(f"{self.home.ledger}: opened, ceiling {budget.epsilon:g} at delta {budget.delta:g}")
            return
        ledger = LedgerFile(self.home.ledger)
        before = ledger.ceiling.epsilon
        if before != budget.epsilon:
            spent = LedgerFile(self.home.ledger, budget).spent()
            self.say(f"{self.home.ledger}: ceiling {before:g} -> {budget.epsilon:g}, {spent:.4g} is spent")


_OF_SQL = (
    ("data.url", "Address without a password", "postgresql://reader@localhost:5432/shop"),
    ("data.password", "Where its password is, env:NAME or file:PATH; empty for none", ""),
    ("data.table", "Table or view", "orders"),
)
_OF_BUDGET = (
    ("budget.epsilon", "Lifetime ceiling epsilon", "8"),
    ("budget.customers", "A round figure above your number of customers; it is public", "1000"),
    ("budget.delta", "Lifetime delta, which can never be changed", ""),
)


def _number(name: str, given: str) -> float | int:
    try:
        return int(given) if name == "budget.customers" else float(given)
    except ValueError:
        raise UsageError(f"shop.toml: {name}: {given!r} is no number") from None


def _from(root: Path, path: Path) -> Path:
    """A path for ``shop.toml``: relative to the shop's folder where it lies there, else absolute."""
    here = path.absolute()
    if path.is_absolute() or here.exists():
        return here.relative_to(root) if here.is_relative_to(root) else here
    return path
