"""Dealing customers to shops, where the data has no shops or other ones are asked for."""

from __future__ import annotations

import numpy as np
import polars as pl

from hansa.errors import UsageError
from hansa.rng import Generator, seeded_generator
from hansa.schema import IntArray
from hansa_simulations.datasets import RawData

DEFAULT_SHOPS = 10
COLUMN = "column:"


def column_of(dealing: str | None) -> str | None:
    """The column that ``column:NAME`` deals by; None for every other dealing."""
    return dealing.removeprefix(COLUMN) if dealing is not None and dealing.startswith(COLUMN) else None


def assign_shops(
    raw: RawData, shops: int | None, *, dealing: str | None = None, alpha: float = 1.0, seed: int = 0
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The interactions with a shop_id each.

    Shops that the data (or the named column) knows are kept, unless another number of shops is asked
    for: then each person becomes the customer of one of the new shops, and a note says so.

    Args:
        raw: The data.
        shops: Number of shops; None: the data's own, else the scenario's default, else 10.
        dealing: ``"even"`` (sizes differ by at most one), ``"dirichlet"`` (skewed sizes),
            ``"column:NAME"`` (one shop a value), or None: the data's own shops, else evenly.
        alpha: Dirichlet concentration; smaller is more skewed.
        seed: Of the dealing.

    Raises:
        UsageError: More shops than customers, or an unknown dealing or column.
    """
    frame = raw.interactions
    column = column_of(dealing) or ("shop_id" if dealing is None and raw.has_shops else None)
    notes: list[str] = []
    if column is not None:
        if column not in frame.columns:
            raise UsageError(f"scenario.dealing: {raw.name} has no column {column!r}; name one that it has")
        own = frame[column].cast(pl.String)
        if own.null_count():
            raise UsageError(f"scenario.dealing: column {column!r} of {raw.name} has empty values; fill them")
        if shops is None or shops == own.n_unique():
            return frame.with_columns(own.alias("shop_id")), ()
        notes.append(
            f"shops: the data has {own.n_unique():,}; its customers were dealt anew to {shops:,} shops"
        )
    users = frame["user_id"].unique(maintain_order=True)
    count = shops if shops is not None else min(raw.default_shops or DEFAULT_SHOPS, len(users))
    method = "even" if column is not None or dealing is None else dealing
    if not notes:
        notes.append(f"shops: customers were dealt to {count:,} shops ({method})")
    shop = deal(len(users), count, method, alpha, seeded_generator(seed, "dealing"))
    width = len(str(count))
    names = pl.Series("shop_id", [f"shop-{number + 1:0{width}}" for number in range(count)])
    return frame.with_columns(names.gather(shop[codes(frame["user_id"], users)])), tuple(notes)


def codes(column: pl.Series, values: pl.Series) -> IntArray:
    """int64, for each entry of the column: its position among the distinct ``values``."""
    return column.cast(pl.Enum(values)).to_physical().to_numpy().astype(np.int64)


def deal(customers: int, shops: int, dealing: str, alpha: float, rng: Generator) -> IntArray:
    """The shop of each customer: int64 [customers] below ``shops``; no shop is empty.

    ``"dirichlet"`` gives each shop one customer and the others by shares drawn from Dirichlet(alpha).

    Raises:
        UsageError: More shops than customers, no shop, an unknown dealing or an alpha that is not positive.
    """
    if shops < 1:
        raise UsageError(f"--shops: {shops} is too few; give at least 1")
    if shops > customers:
        raise UsageError(
            f"--shops: {shops:,} shops are more than the {customers:,} customers; give fewer shops"
        )
    if dealing == "even":
        shop = np.arange(customers, dtype=np.int64) % shops
    elif dealing == "dirichlet":
        if not 0 < alpha < np.inf:
            raise UsageError(f"scenario.alpha: {alpha} is not a positive number; small values skew more")
        shares = rng.dirichlet(np.full(shops, alpha))
        sizes = 1 + rng.multinomial(customers - shops, shares)
        shop = np.repeat(np.arange(shops, dtype=np.int64), sizes)
    else:
        raise UsageError(f"scenario.dealing: unknown value {dealing!r}; use even, dirichlet or column:NAME")
    return rng.permutation(shop)
