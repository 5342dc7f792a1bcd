import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from hansa.errors import UsageError
from hansa.schema import stack
from hansa_simulations.datasets import load_scenario
from hansa_simulations.federation import DataSettings, load_federation
from hansa_simulations.protocols import PROTOCOLS
from hansa_simulations.settings import make_settings
from hansa_simulations.statistics import cooccurrence_spectrum, fixation_index, joined, top_share
from hansa_simulations.synthetic import START, Population, write_synthetic
from hansa_simulations.synthetic_parameters import SyntheticParameters

SMALL = {"customers": 2_000, "items": 400, "shops": 8, "interactions": 12, "groups": 10}


def population(seed=0, **changes):
    return Population(SyntheticParameters(**{**SMALL, **changes}), seed)


def shops(seed=0, **changes):
    drawn = population(seed, **changes)
    return [
        stack([batch.histories for batch in drawn.batches(shop)]) for shop in range(drawn.parameters.shops)
    ]


def federation(protocol="last20", seed=0, shops=None, **changes):
    settings = DataSettings(synthetic=SyntheticParameters(**{**SMALL, **changes}))
    return load_federation("synthetic", protocol=protocol, seed=seed, shops=shops, settings=settings)


def same(first, second):
    """Same customers in the same order with the same histories."""
    return all(
        list(a.customers) == list(b.customers)
        and all(
            np.array_equal(getattr(a, part).items, getattr(b, part).items)
            and np.array_equal(getattr(a, part).offsets, getattr(b, part).offsets)
            for part in ("train", "held_out")
        )
        for a, b in zip(first.shops, second.shops, strict=True)
    )


def spelt(federation):
    """(shop, customer) -> what it trains on and what is held out."""
    return {
        (shop.name, customer): (shop.train.row(row).tolist(), shop.held_out.row(row).tolist())
        for shop in federation.shops
        for row, customer in enumerate(shop.customers)
    }


def counts(parts):
    return np.bincount(stack(parts).items, minlength=parts[0].n_items)


# ---------------------------------------------------------------- reproducible and well formed


def test_a_seed_repeats_it_and_another_does_not():
    assert same(federation(), federation())
    assert not same(federation(), federation(seed=1))


def test_a_shop_is_the_same_whichever_shops_are_drawn_before_it():
    drawn = population()
    alone = [batch.histories.items for batch in drawn.batches(5)]
    list(drawn.batches(2))
    again = [batch.histories.items for batch in drawn.batches(5)]
    assert np.array_equal(np.concatenate(alone), np.concatenate(again))


def test_customers_hold_distinct_items_in_the_catalogue_and_every_shop_has_customers():
    parts = shops(zipf=3, taste=1, breadth=0.05, spread=2)  # favourites run out here
    whole = stack(parts)
    keys = whole.rows_index * whole.n_items + whole.items
    assert len(np.unique(keys)) == len(keys)
    assert whole.items.min() >= 0
    assert whole.items.max() < 400
    assert whole.lengths.min() >= 3
    assert whole.lengths.max() <= 200
    assert min(len(part) for part in parts) >= 1
    assert len(whole) == 2_000


def test_time_runs_forward_within_the_days_and_the_activity_asked_for():
    for batch in population(days=10, activity=0.3).batches(0):
        row = batch.histories.rows_index
        inside = row[1:] == row[:-1]
        assert (np.diff(batch.timestamps)[inside] >= 0).all()
        assert batch.timestamps.min() >= START
        assert batch.timestamps.max() < START + 10 * 86_400
        starts, ends = batch.histories.offsets[:-1], batch.histories.offsets[1:] - 1
        spans = batch.timestamps[ends] - batch.timestamps[starts]
        assert 0.2 * 864_000 < spans.max() <= 0.3 * 864_000 + 1


# ---------------------------------------------------------------- parameters do what they say


@pytest.mark.parametrize("interactions", [5, 20])
def test_mean_history_length(interactions):
    lengths = stack(shops(interactions=interactions, customers=10_000)).lengths
    assert lengths.mean() == pytest.approx(interactions, rel=0.05)


def test_spread_of_history_lengths():
    assert np.ptp(stack(shops(spread=0)).lengths) == 0
    lengths = stack(shops(spread=1.0, interactions=90, customers=10_000)).lengths
    assert np.log(lengths - 2.5).std() == pytest.approx(1.0, abs=0.1)


def test_popularity_follows_zipf_where_nothing_flattens_it():
    parts = shops(
        zipf=0.8, head=0.0, interactions=3, spread=0, customers=200_000, taste=0, drift=0, items=2_000
    )
    ordered = np.sort(counts(parts))[::-1][5:500]
    slope = np.polyfit(np.log(np.arange(6, 501)), np.log(ordered), 1)[0]
    assert slope == pytest.approx(-0.8, abs=0.05)


def test_no_zipf_is_even_and_a_flat_head_takes_from_the_top():
    assert top_share(counts(shops(zipf=0, drift=0)), 0.1) < 0.15
    assert top_share(counts(shops(head=0.0)), 0.01) > 1.3 * top_share(counts(shops(head=0.1)), 0.01)


def test_tastes_leave_the_popularity_of_the_whole_as_it_is():
    plain, tasty = (counts(shops(taste=taste, drift=0, items=4_000, interactions=5)) for taste in (0.0, 0.9))
    assert top_share(tasty, 0.1) == pytest.approx(top_share(plain, 0.1), rel=0.15)


def own_group(parts, drawn):
    """Chance that two items of a customer are of one taste group."""
    whole = stack(parts)
    groups = drawn.catalogue["category"].cast(pl.Categorical).to_physical().to_numpy()
    matrix = np.zeros((len(whole), drawn.parameters.groups))
    np.add.at(matrix, (whole.rows_index, groups[whole.items]), 1)
    n = matrix.sum(axis=1)
    return float(((matrix**2).sum(axis=1) - n).sum() / (n * (n - 1)).sum())


def test_stronger_tastes_and_fewer_interests_concentrate_a_customer_on_groups():
    settings = [{"taste": 0.0}, {"taste": 0.5}, {"taste": 0.9}, {"taste": 0.9, "interests": 1}]
    chances = [own_group(shops(**each), population(**each)) for each in settings]
    assert all(low * 1.3 < high for low, high in pairwise(chances))


def test_narrow_interests_make_items_go_together():
    narrow, wide = (
        cooccurrence_spectrum(stack(shops(breadth=breadth, groups=2, taste=0.9)))[:20].sum()
        for breadth in (0.1, 1.0)
    )
    assert narrow > 1.3 * wide


def test_heterogeneity_sets_shops_apart_and_without_it_they_are_alike():
    values = [fixation_index(shops(heterogeneity=h, customers=8_000)) for h in (0.0, 0.05, 0.5)]
    assert values[0] == pytest.approx(0, abs=0.0005)
    assert values[0] + 0.001 < values[1] < values[2] / 2


def test_full_heterogeneity_gives_each_shop_one_group():
    drawn = population(heterogeneity=1, taste=1, drift=0, interactions=3, spread=0)
    groups = drawn.catalogue["category"].to_numpy()
    shares = []
    for shop in range(8):
        (batch,) = drawn.batches(shop)
        _, sizes = np.unique(groups[batch.histories.items], return_counts=True)
        shares.append(sizes.max() / sizes.sum())
    assert min(shares) > 0.95


def test_spread_of_shop_sizes():
    even, skewed = (
        np.std(np.log([len(part) for part in shops(size_spread=spread, shops=60, customers=30_000)]))
        for spread in (0.0, 1.0)
    )
    assert even < 0.08
    assert skewed == pytest.approx(1.0, abs=0.25)


def test_overlapping_people():
    made = federation(overlapping=0.4, max_shops=4)
    assert made.customers == sum(len(shop.train) for shop in made.shops) == 2_000
    ids = [person for shop in made.shops for person in shop.customers]
    assert all(len(set(shop.customers)) == len(shop.customers) for shop in made.shops)
    of = np.unique(ids, return_counts=True)[1]
    assert (len(of), of.max(), (of > 1).sum()) == (made.users, made.max_overlap, made.overlapping_users)
    assert made.max_overlap == 4
    assert made.overlapping_users / made.users == pytest.approx(0.4, abs=0.05)
    none = federation()
    assert (none.users, none.overlapping_users, none.max_overlap) == (2_000, 0, 1)


def test_drift_parts_the_popular_items_of_the_beginning_from_those_of_the_end():
    def difference(drift):
        drawn = population(drift=drift, activity=0.1, customers=10_000)
        early, late = np.zeros(400), np.zeros(400)
        for shop in range(8):
            for batch in drawn.batches(shop):
                time_ = (batch.timestamps - START) / (365 * 86_400)
                early += np.bincount(batch.histories.items[time_ < 0.3], minlength=400)
                late += np.bincount(batch.histories.items[time_ > 0.7], minlength=400)
        return np.abs(early / early.sum() - late / late.sum()).sum() / 2

    still, slow, fast = (difference(drift) for drift in (0.0, 1.0, 4.0))
    assert still < 0.06
    assert still * 1.5 < slow < fast / 1.5


# ---------------------------------------------------------------- as a scenario


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_splits_it(protocol):
    made = federation(protocol, shops=5)
    assert len(made.shops) == 5
    assert [shop.name for shop in made.shops] == [f"shop-{n}" for n in range(1, 6)]
    for number, shop in enumerate(made.shops):
        assert len(shop.customers) == len(shop.train) == len(shop.held_out)
        assert shop.held_out.lengths.min() >= 1
        both = joined(shop.train, shop.held_out)
        assert len(np.unique(both.rows_index * 400 + both.items)) == len(both.items)
        if protocol == "loo99":
            assert made.candidates[number].shape == (len(shop.train), 100)
            assert np.array_equal(made.candidates[number][:, 0], shop.held_out.items)
    assert (made.validation is not None) == (protocol == "last1")
    assert made.interactions == pytest.approx(2_000 * 12, rel=0.1)


@pytest.mark.parametrize("overlapping", [0.0, 0.3])
def test_the_written_folder_reads_as_the_same_federation(tmp_path, overlapping):
    parameters = SyntheticParameters(**SMALL, overlapping=overlapping)
    write_synthetic(tmp_path / "made", parameters, seed=3)
    read = load_federation(tmp_path / "made", seed=3)
    direct = federation(seed=3, overlapping=overlapping)
    assert spelt(read) == spelt(direct)
    assert read.catalogue.item_ids == direct.catalogue.item_ids
    assert (read.users, read.overlapping_users, read.max_overlap, read.interactions) == (
        direct.users,
        direct.overlapping_users,
        direct.max_overlap,
        direct.interactions,
    )


def test_settings_reach_it():
    settings = make_settings(
        {"scenario": "synthetic"}, ["scenario.customers=500", "scenario.zipf=0.7", "scenario.overlap=all"]
    )
    assert settings.preparation.customers == 500
    assert settings.preparation.zipf == 0.7
    assert settings.preparation.overlap == "all"


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "scenario.customers=1000001",
            r"^--set scenario\.customers 1000001: .*less than or equal to 1000000",
        ),
        ("scenario.items=2000000", r"^--set scenario\.items 2000000: "),
        ("scenario.interactions=2", r"^--set scenario\.interactions 2: .*greater than or equal to 3"),
        ("scenario.taste=1.5", r"^--set scenario\.taste 1\.5: "),
        ("scenario.drift=NaN", r"^--set scenario\.drift nan: "),
        ("scenario.tastes=0.5", r"^--set scenario\.tastes: unknown setting; use one of: customers, items"),
    ],
)
def test_limits_are_refused(assignment, message):
    with pytest.raises(UsageError, match=message):
        make_settings({"scenario": "synthetic"}, [assignment])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shops": 3_000}, r"scenario\.shops: 3,000 are more than the 2,000 customers"),
        ({"groups": 500}, r"scenario\.groups: 500 are more than the 400 items"),
        ({"interactions": 101}, r"scenario\.interactions: 101 of 400 items; give at most a quarter"),
        ({"overlapping": 0.1, "max_shops": 9}, r"scenario\.max_shops: 9 is more than the 8 shops"),
        ({"overlapping": 1.0, "shops": 1_500}, r"scenario\.overlapping: .* too few for 1,500 shops"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(UsageError, match=message) as refused:
        federation(**changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_rating": 3.0}, r"data\.min_rating: "),
        ({"dealing": "even"}, r"data\.dealing: "),
        ({"vocabulary": 100}, r"data\.vocabulary: .* scenario\.items"),
    ],
)
def test_settings_of_data_that_is_read_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        load_federation("synthetic", settings=DataSettings(**changes))


def test_its_settings_are_refused_elsewhere_and_it_is_not_read():
    with pytest.raises(UsageError, match=r"^--set scenario\.customers: ml-1m is not generated"):
        make_settings({"scenario": "ml-1m"}, ["scenario.customers=500"])
    with pytest.raises(UsageError, match="is generated, not read"):
        load_scenario("synthetic")
    with pytest.raises(UsageError, match=r"--shops|scenario\.shops"):
        federation(shops=0)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write_synthetic(tmp_path / "file", SyntheticParameters(**SMALL))


# ---------------------------------------------------------------- size


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux only")
def test_time_and_memory_stay_small():
    """100,000 customers with 2 million interactions: 3 s and 50 MB above the imports when measured."""
    script = (
        "import resource\n"
        "from hansa_simulations.federation import DataSettings, load_federation\n"
        "from hansa_simulations.synthetic_parameters import SyntheticParameters\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "p = SyntheticParameters(customers=100_000, items=100_000, shops=200)\n"
        "load_federation('synthetic', settings=DataSettings(synthetic=p))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 30
    assert int(done.stdout) < 300
