"""What a shop knows by itself, and what never leaves it: its customers' histories and its own exact model.

``learn`` fits and files it in the vault's folder ``own``, which is for the shop's own eyes: nothing in it is
differentially private. Customers' vectors need no file: each method makes them from a customer's history
and public state whenever it scores.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from polars.exceptions import PolarsError
from safetensors import SafetensorError

from hansa.durable import write_whole
from hansa.errors import UsageError
from hansa.models.base import State
from hansa.models.content import Content
from hansa.models.own import FittedOwn, OwnModel, fit_own
from hansa.models.tuning import hold_back
from hansa.recommend import fit_blend
from hansa.schema import Catalogue, Histories
from hansa_client.data.catalogue import load_catalogue
from hansa_client.home import ShopHome
from hansa_client.serving.own_file import load_own, save_own
from hansa_client.serving.vault import Version

_CURRENT, _WEIGHTS = "current.json", "weights.json"
_OWN, _HISTORIES = "own.safetensors", "histories.parquet"
_FORMAT = 1


def folder_of(home: ShopHome) -> Path:
    """Where everything of this module lies."""
    return home.vault / "own"


class Data(Protocol):
    """What is read of a shop's data; see ``hansa_client.data.loading.ShopData``."""

    @property
    def customers(self) -> Sequence[str]:
        """Ids, one a row of the histories."""

    @property
    def histories(self) -> Histories:
        """Their rows, oldest first."""

    @property
    def newest(self) -> float | None:
        """Time of the newest interaction, epoch seconds."""


@dataclass(frozen=True)
class Facts:
    """What the vault's ``current.json`` says.

    Attributes:
        folder: Name of the folder with everything else.
        data: SHA-256 of customers and histories, hex.
        catalogue: SHA-256 of the catalogue, hex.
        customers: Their number.
        newest: Time of the newest interaction, epoch seconds; None where unknown.
        learnt: When the model was fitted, ISO 8601.
        version: Of this format.
    """

    folder: str
    data: str
    catalogue: str
    customers: int
    newest: float | None
    learnt: str
    version: int = _FORMAT


@dataclass(frozen=True)
class Knowledge:
    """What is filed in the vault.

    Attributes:
        home: The shop's folder.
        facts: When and of what.
        n_items: Size of the catalogue.
    """

    home: ShopHome
    facts: Facts
    n_items: int

    @property
    def _folder(self) -> Path:
        return folder_of(self.home) / self.facts.folder

    @cached_property
    def own(self) -> OwnModel:
        """The shop's own exact model."""
        with _reading(self._folder):
            return load_own(self._folder / _OWN)

    @cached_property
    def table(self) -> pl.DataFrame:
        """Customers and their items: customer (string), items (list of positions, oldest first)."""
        with _reading(self._folder):
            return pl.read_parquet(self._folder / _HISTORIES)

    @property
    def customers(self) -> list[str]:
        """Ids in the order of the histories."""
        return self.table["customer"].to_list()

    @property
    def histories(self) -> Histories:
        """All customers' rows."""
        return _histories(self.table, self.n_items)

    def history(self, customer: str) -> Histories | None:
        """One customer's row; None of somebody unknown. Nothing else is read."""
        with _reading(self._folder):
            rows = pl.scan_parquet(self._folder / _HISTORIES).filter(pl.col("customer") == customer).collect()
        return _histories(rows, self.n_items) if len(rows) else None


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, SafetensorError, PolarsError) as error:
        raise UsageError(
            f"{folder}: replaced meanwhile or damaged; run again, or remove it and run 'hansa client refresh'"
        ) from error


def opened(home: ShopHome, catalogue: Catalogue) -> Knowledge | None:
    """What was learnt before; None where there is nothing, or of another catalogue.

    Args:
        home: The shop's folder.
        catalogue: The league's catalogue as it is now.
    """
    try:
        found = json.loads((folder_of(home) / _CURRENT).read_bytes())
        facts = Facts(**found)
    except (OSError, ValueError, TypeError):
        return None
    known = Knowledge(home, facts, len(catalogue))
    fitting = facts.version == _FORMAT and facts.catalogue == _catalogue_digest(catalogue)
    return known if fitting and (folder_of(home) / facts.folder).is_dir() else None


def learn(
    home: ShopHome, data: Data, catalogue: Catalogue, say: Callable[[str], None] = lambda line: None
) -> tuple[Knowledge, FittedOwn | None]:
    """Fit the shop's own model and file it, unless nothing has changed since.

    Args:
        home: The shop's folder.
        data: The shop's data, opt-outs left out.
        catalogue: The league's catalogue.
        say: Told before the model is fitted, which takes a while.

    Returns:
        What is filed now, and what was fitted; None if nothing had changed.
    """
    before = opened(home, catalogue)
    if before is not None and before.facts.data == _data_digest(data.customers, data.histories):
        return before, None
    say(f"fitting the shop's own model on {len(data.customers):,} customers")
    fitted = _fit(data.histories, catalogue)
    return _file(home, data.customers, data.histories, data.newest, fitted.model, catalogue), fitted


def forget(home: ShopHome, customers: Collection[str]) -> int:
    """Erase customers who opt out: their histories, and what the own model and the blends owe to them.

    The model is fitted anew without them at the settings that it has; files exported before are not Hansa's.

    Args:
        home: The shop's folder.
        customers: Their ids.

    Returns:
        How many of them were known.

    Raises:
        UsageError: The catalogue cannot be read.
    """
    if not folder_of(home).exists():
        return 0
    catalogue = load_catalogue(home)
    known = opened(home, catalogue)
    if known is None:
        shutil.rmtree(folder_of(home))  # of another catalogue: of no use, and it may hold them
        return 0
    _remove_all_but(known)
    staying = ~known.table["customer"].is_in(list(customers))
    gone = int((~staying).sum())
    if not gone:
        return 0
    rest = known.histories.select(staying.to_numpy())
    names = known.table.filter(staying)["customer"].to_list()
    model = known.own.refit(rest) if len(rest.items) else _fit(rest, catalogue).model
    _file(home, names, rest, known.facts.newest, model, catalogue)
    return gone


def blend_weight(
    known: Knowledge, version: Version, state: State, fitted: FittedOwn | None = None
) -> tuple[float, bool]:
    """The share of the league's model in what is served, chosen on held-back interactions once for all.

    Args:
        known: What the shop knows.
        version: The league's model.
        state: Its public state.
        fitted: What ``learn`` returned, which saves fitting the trial anew.

    Returns:
        The weight in [0, 1], and whether it was chosen just now. Without any interaction it is 1.
    """
    path = folder_of(known.home) / known.facts.folder / _WEIGHTS
    try:
        weights: dict[str, float] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        weights = {}
    key = f"{version.name} {version.card.sha256}"
    if key in weights:
        return weights[key], False
    if not known.facts.customers or not known.own.counts.any():
        weight = 1.0
    else:
        weight = fit_blend(version.method, state, fitted or _trial(known)).weight
    write_whole(path, json.dumps(weights | {key: weight}, indent=2).encode())
    return weight, True


def _trial(known: Knowledge) -> FittedOwn:
    """What ``fit_own`` returned when the own model was fitted."""
    split = hold_back(known.histories)
    return FittedOwn(known.own, known.own.refit(split.kept), split)


def _fit(histories: Histories, catalogue: Catalogue) -> FittedOwn:
    content = Content.of(catalogue)
    if len(histories.items):
        return fit_own(histories, content=content)
    counts = np.zeros(histories.n_items, dtype=np.float32)
    nothing = OwnModel(None, counts, 1.0, 1.0, content=content)
    return FittedOwn(nothing, nothing, hold_back(histories))


def _file(
    home: ShopHome,
    customers: Sequence[str],
    histories: Histories,
    newest: float | None,
    model: OwnModel,
    catalogue: Catalogue,
) -> Knowledge:
    """Write a folder of its own, point to it, and remove whatever was there before."""
    home.vault.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.vault.chmod(0o700)
    root = folder_of(home)
    root.mkdir(mode=0o700, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="known-", dir=root))  # mode 0700
    save_own(model, folder / _OWN)
    starts, ends = histories.offsets[:-1], histories.offsets[1:]
    items = [histories.items[start:end] for start, end in zip(starts, ends, strict=True)]
    table = pl.DataFrame(
        {"customer": list(customers), "items": items},
        schema={"customer": pl.String, "items": pl.List(pl.Int32)},
    )
    table.write_parquet(folder / _HISTORIES)
    (folder / _HISTORIES).chmod(0o600)
    facts = Facts(
        folder=folder.name,
        data=_data_digest(customers, histories),
        catalogue=_catalogue_digest(catalogue),
        customers=len(histories),
        newest=newest,
        learnt=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_whole(root / _CURRENT, json.dumps(asdict(facts), indent=2).encode())
    known = Knowledge(home, facts, len(catalogue))
    _remove_all_but(known)
    return known


def _remove_all_but(known: Knowledge) -> None:
    """Remove what was learnt before, and what a crash has left."""
    for other in folder_of(known.home).iterdir():
        if other.is_dir() and other.name != known.facts.folder:
            shutil.rmtree(other, ignore_errors=True)


def _histories(table: pl.DataFrame, n_items: int) -> Histories:
    lengths = table["items"].list.len().to_numpy().astype(np.int64)
    items = table["items"].explode().drop_nulls().to_numpy().astype(np.int32)
    return Histories(np.concatenate(([0], np.cumsum(lengths))).astype(np.int64), items, n_items)


def _data_digest(customers: Sequence[str], histories: Histories) -> str:
    summed = sha256(json.dumps(list(customers)).encode())
    summed.update(np.ascontiguousarray(histories.offsets, dtype=np.int64).data)
    summed.update(np.ascontiguousarray(histories.items, dtype=np.int32).data)
    return summed.hexdigest()


def _catalogue_digest(catalogue: Catalogue) -> str:
    details: dict[str, list[Any]] = catalogue.details.to_dict(as_series=False)
    return sha256(json.dumps([catalogue.item_ids, details], default=str).encode()).hexdigest()
