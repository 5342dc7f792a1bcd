"""A federation ready to simulate: shops with what they train on and what is held out of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl

from hansa.errors import UsageError
from hansa.models.tuning import hold_back
from hansa.rng import seeded_generator
from hansa.schema import Catalogue, Histories, ItemArray, Shop, stack
from hansa_simulations.datasets import SYNTHETIC, RawData, load_folder, load_scenario
from hansa_simulations.partition import assign_shops, codes, column_of
from hansa_simulations.protocols import MIN_INTERACTIONS, NEGATIVES, Mask, draw_candidates, split
from hansa_simulations.synthetic import Population
from hansa_simulations.synthetic_parameters import SyntheticParameters


@dataclass(frozen=True)
class DataSettings:
    """What to make of the data; None leaves the choice to the scenario.

    Attributes:
        min_rating: Keep interactions rated at least this.
        vocabulary: Keep this many best sellers; 0 keeps every item.
        overlap: ``home`` or ``all``, see ``load_scenario``.
        dealing: ``even``, ``dirichlet`` or ``column:NAME``, see ``assign_shops``.
        alpha: Dirichlet concentration.
        synthetic: What the scenario ``synthetic`` generates.
    """

    min_rating: float | None = None
    vocabulary: int | None = None
    overlap: str = "home"
    dealing: str | None = None
    alpha: float = 1.0
    synthetic: SyntheticParameters = field(default_factory=SyntheticParameters)


@dataclass(frozen=True)
class Federation:
    """Shops over one catalogue, split by a protocol.

    A customer is a user within a shop, so a user of several shops is a customer of each.

    Attributes:
        name: The scenario, or the folder's name.
        protocol: How interactions were held out.
        shops: Sorted by name, none empty.
        catalogue: The items.
        users: Distinct user ids.
        customers: Customers over all shops; more than ``users`` where shops share users.
        interactions: Distinct customer-item pairs, held-out ones included.
        overlapping_users: Users who are customers of several shops.
        max_overlap: Most shops that one user is a customer of.
        not_covered: What was chosen from exact counts, hence is not covered by epsilon.
        notes: What else a reader of the results should know.
        validation: For ``last1``: per shop, each customer's second newest interaction.
        candidates: For ``loo99``: per shop int32 [customers, 100], the held-out item first. Fixed
            negatives are taken as they are, even where they repeat the held-out item.
    """

    name: str
    protocol: str
    shops: tuple[Shop, ...]
    catalogue: Catalogue
    users: int
    customers: int
    interactions: int
    overlapping_users: int
    max_overlap: int
    not_covered: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    validation: tuple[Histories, ...] | None = None
    candidates: tuple[ItemArray, ...] | None = None

    @property
    def items(self) -> int:
        """Size of the catalogue."""
        return len(self.catalogue)


def load_federation(
    source: str | Path,
    *,
    shops: int | None = None,
    protocol: str = "last20",
    seed: int = 0,
    settings: DataSettings | None = None,
) -> Federation:
    """Load, deal and split a data set.

    Args:
        source: The name of a scenario (a string) or a folder in the data contract (a path).
        shops: Number of shops; None: the data's own or the default, see ``assign_shops``.
        protocol: One of ``protocols.PROTOCOLS``.
        seed: Of the dealing, the random split and the negatives.
        settings: What to make of the data.

    Raises:
        UsageError: Whatever is wrong with an argument or with the data.
    """
    chosen = settings or DataSettings()
    if source == SYNTHETIC:
        return generate_federation(chosen, shops=shops, protocol=protocol, seed=seed)
    column = column_of(chosen.dealing)
    extra = () if column is None else (column,)
    if isinstance(source, Path):
        raw = load_folder(source, min_rating=chosen.min_rating, vocabulary=chosen.vocabulary, extra=extra)
    else:
        raw = load_scenario(
            source,
            min_rating=chosen.min_rating,
            overlap=chosen.overlap,
            vocabulary=chosen.vocabulary,
            extra=extra,
        )
    frame, notes = assign_shops(raw, shops, dealing=chosen.dealing, alpha=chosen.alpha, seed=seed)
    return build_federation(raw, frame, protocol=protocol, seed=seed, notes=notes)


def build_federation(
    raw: RawData, frame: pl.DataFrame, *, protocol: str, seed: int, notes: tuple[str, ...] = ()
) -> Federation:
    """Split the interactions ``frame`` (those of ``raw`` with a shop_id each) by a protocol.

    Repeated purchases count once, at their first time; users with fewer than 3 interactions at a shop
    are no customers of it.

    Raises:
        UsageError: Unknown protocol, or nobody has 3 interactions.
    """
    people, histories, flagged = _histories(frame, raw.items["item_id"])
    enough = histories.lengths >= MIN_INTERACTIONS
    if not enough.any():
        raise UsageError(
            f"{raw.name}: no customer has {MIN_INTERACTIONS} interactions or more; give more data"
        )
    if flagged is not None:
        flagged = flagged[enough[histories.rows_index]]
    people, histories = people.filter(enough), histories.select(enough)
    parts = split(histories, protocol, seeded_generator(seed, "split"), flagged)

    names = people["shop_id"].unique(maintain_order=True).to_list()
    sizes = people.group_by("shop_id", maintain_order=True).len()["len"].to_numpy().astype(np.int64)
    ends = np.cumsum(sizes)
    ranges = [np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    customers = people["user_id"].to_list()
    shops = tuple(
        Shop(
            name,
            tuple(customers[rows[0] : rows[-1] + 1]),
            parts.train.select(rows),
            parts.held_out.select(rows),
        )
        for name, rows in zip(names, ranges, strict=True)
    )
    candidates = None
    if protocol == "loo99":
        drawn = draw_candidates(histories, parts.held_out, seeded_generator(seed, "negatives"))
        if raw.negatives is not None:
            drawn = _fixed_negatives(drawn, raw.negatives, people, raw.items["item_id"])
        candidates = tuple(drawn[rows] for rows in ranges)
    dropped = frame["shop_id"].n_unique() - len(shops)
    if dropped:
        notes += (f"shops: {dropped:,} without a customer of {MIN_INTERACTIONS} interactions left out",)
    shops_of_users = people.group_by("user_id").len()["len"]
    return Federation(
        name=raw.name,
        protocol=protocol,
        shops=shops,
        catalogue=Catalogue(tuple(raw.items["item_id"].to_list()), raw.items.drop("item_id")),
        users=len(shops_of_users),
        customers=len(people),
        interactions=len(histories.items),
        overlapping_users=int((shops_of_users > 1).sum()),
        max_overlap=int(shops_of_users.max()),  # type: ignore[arg-type]
        not_covered=raw.not_covered,
        notes=notes,
        validation=None
        if parts.validation is None
        else tuple(parts.validation.select(rows) for rows in ranges),
        candidates=candidates,
    )


def generate_federation(
    settings: DataSettings, *, shops: int | None = None, protocol: str = "last20", seed: int = 0
) -> Federation:
    """Draw and split the scenario ``synthetic``, shop by shop; ids are spelt only when asked for.

    Args:
        settings: Its ``synthetic`` says what is generated.
        shops: Number of shops; None: as the parameters say.
        protocol: One of ``protocols.PROTOCOLS``.
        seed: Of the data, the random split and the negatives.

    Raises:
        UsageError: Parameters or a protocol that do not fit.
    """
    for name, value in (("min_rating", settings.min_rating), ("dealing", settings.dealing)):
        if value is not None:
            raise UsageError(f"data.{name}: {SYNTHETIC} has neither ratings nor people to deal; leave it out")
    if settings.vocabulary:
        raise UsageError(f"data.vocabulary: {SYNTHETIC} has as many items as you say; set scenario.items")
    parameters = settings.synthetic
    if shops is not None:
        parameters = parameters.model_copy(update={"shops": shops})
    population = Population(parameters, seed)
    made, validation, candidates = [], [], []
    for number, name in enumerate(population.shop_names):
        histories = stack([batch.histories for batch in population.batches(number)])
        parts = split(histories, protocol, seeded_generator(seed, "split", number))
        made.append(Shop(name, population.members(number), parts.train, parts.held_out))
        if parts.validation is not None:
            validation.append(parts.validation)
        if protocol == "loo99":
            rng = seeded_generator(seed, "negatives", number)
            candidates.append(draw_candidates(histories, parts.held_out, rng))
    items = population.catalogue
    return Federation(
        name=SYNTHETIC,
        protocol=protocol,
        shops=tuple(made),
        catalogue=Catalogue(tuple(items["item_id"].to_list()), items.drop("item_id")),
        users=population.people,
        customers=parameters.customers,
        interactions=sum(len(shop.train.items) + len(shop.held_out.items) for shop in made)
        + sum(len(part.items) for part in validation),
        overlapping_users=int((population.shops_of_people > 1).sum()),
        max_overlap=int(population.shops_of_people.max()),
        notes=("data: generated, so no metric says how well anything would do on real customers",),
        validation=tuple(validation) or None,
        candidates=tuple(candidates) or None,
    )


def without_test_items(federation: Federation, seed: int) -> Federation:
    """The same shops, with what the protocol holds out of their training data in place of the test items.

    Settings that are chosen there have not seen what a run is judged by. All items are ranked.

    Args:
        federation: As loaded.
        seed: Draws the slices of ``random20``.
    """

    def sliced(shop: Shop) -> Shop:
        rng = seeded_generator(seed, "without test items", shop.name)
        parts = hold_back(shop.train, rng if federation.protocol == "random20" else None)
        return replace(shop, train=parts.kept, held_out=parts.held)

    note = "evaluated on slices held back from the training data; test items were not used"
    return replace(
        federation,
        shops=tuple(sliced(shop) for shop in federation.shops),
        interactions=sum(len(shop.train.items) for shop in federation.shops),
        notes=(*federation.notes, note),
        validation=None,
        candidates=None,
    )


def _histories(frame: pl.DataFrame, item_ids: pl.Series) -> tuple[pl.DataFrame, Histories, Mask | None]:
    """All customers' histories, shop after shop.

    Returns:
        The customers (shop_id, user_id) sorted by shop, then in order of appearance; their histories;
        and, where the data flags them, bool [interactions]: the leave-one-out test interactions.
    """
    users = frame["user_id"].unique(maintain_order=True)
    shops = frame["shop_id"].unique().sort()
    pair = codes(frame["shop_id"], shops) * len(users) + codes(frame["user_id"], users)
    key = codes(frame["item_id"], item_ids)
    # Sorting pair and place in time as one number is far faster than sorting by two keys.
    n = len(frame)
    by_time = np.argsort(frame["timestamp"].to_numpy(), kind="stable")  # ties keep the file's order
    packed = np.sort(pair[by_time] * n + np.arange(n))
    order = by_time[packed % n]
    pair = packed // n
    new = np.diff(pair, prepend=-1) > 0
    key = (np.cumsum(new) - 1) * len(item_ids) + key[order]
    flagged = key[frame["is_loo_test"].to_numpy()[order]] if "is_loo_test" in frame.columns else None
    key = key[pl.Series(key).is_first_distinct().to_numpy()]
    people = pl.DataFrame(
        {"shop_id": shops.gather(pair[new] // len(users)), "user_id": users.gather(pair[new] % len(users))}
    )
    counts = np.bincount(key // len(item_ids), minlength=len(people))
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    histories = Histories(offsets, (key % len(item_ids)).astype(np.int32), len(item_ids))
    return people, histories, None if flagged is None else np.isin(key, flagged)


def _fixed_negatives(
    drawn: ItemArray, negatives: pl.DataFrame, people: pl.DataFrame, item_ids: pl.Series
) -> ItemArray:
    """``drawn`` with the data set's own negatives for every customer whose 99 are all in the catalogue."""
    items = pl.DataFrame({"item_id": item_ids}).with_row_index("item")
    lists = (
        negatives.join(items, on="item_id", maintain_order="left")
        .group_by("user_id", maintain_order=True)
        .agg("item")
        .filter(pl.col("item").list.len() == NEGATIVES)
    )
    found = people.with_row_index("customer").join(lists, on="user_id", maintain_order="left")
    if len(found):
        drawn = drawn.copy()
        drawn[found["customer"].to_numpy(), 1:] = found["item"].explode().to_numpy().reshape(-1, NEGATIVES)
    return drawn
