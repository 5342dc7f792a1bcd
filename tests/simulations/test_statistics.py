import numpy as np
import pytest

from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa_simulations.federation import DataSettings, load_federation
from hansa_simulations.statistics import (
    cooccurrence_spectrum,
    fixation_index,
    gini,
    joined,
    main,
    markdown,
    shuffle,
    statistics,
    top_share,
)
from hansa_simulations.synthetic_parameters import SyntheticParameters


def rows(*lists, n_items=8):
    pairs = [(customer, item) for customer, items in enumerate(lists) for item in items]
    customers, items = zip(*pairs, strict=True)
    return Histories.from_pairs(customers, items, len(lists), n_items)


def test_popularity_figures_by_hand():
    assert gini(np.array([5, 5, 5, 5])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 7])) == pytest.approx(0.75)
    assert gini(np.array([3, 1])) == pytest.approx(0.25)
    assert top_share(np.array([1, 6, 2, 1]), 0.25) == pytest.approx(0.6)
    assert top_share(np.array([1, 6, 2, 1]), 0.01) == pytest.approx(0.6)  # at least one item


def test_spectrum_of_two_pairs_of_items_always_bought_together():
    together = rows([0, 1], [0, 1], [2, 3], [2, 3])
    assert cooccurrence_spectrum(together) == pytest.approx([0.5, 0.5, 0, 0], abs=1e-9)
    assert cooccurrence_spectrum(rows([0], [1], [2], [3])) == pytest.approx([0.25] * 4)


def test_shuffling_keeps_popularity_and_ends_co_occurrence():
    pairs = rows(*[[2 * (n % 20), 2 * (n % 20) + 1] for n in range(400)], n_items=40)
    mixed = shuffle(pairs, seeded_generator(0, "shuffle"))
    assert np.bincount(mixed.items, minlength=40) == pytest.approx(20, abs=3)
    assert cooccurrence_spectrum(pairs)[:20].sum() == pytest.approx(1)
    assert cooccurrence_spectrum(mixed)[:20].sum() < 0.75


def test_fixation_index_of_disjoint_like_and_single_shops():
    one, other = rows([0, 1], [0, 1], [0, 1]), rows([2, 3], [2, 3])
    assert fixation_index([one, other]) == pytest.approx(1)
    assert fixation_index([one]) == 0.0
    generator = seeded_generator(0, "shops")
    alike = [Histories.from_pairs(*np.nonzero(generator.random((50, 8)) < 0.3), 50, 8) for _ in range(100)]
    assert fixation_index(alike) == pytest.approx(0, abs=0.002)  # without correction 1/50


def test_joined_keeps_each_customers_items():
    both = joined(rows([0, 1], [2]), rows([3], [4, 5]))
    assert [both.row(0).tolist(), both.row(1).tolist()] == [[0, 1, 3], [2, 4, 5]]


def test_ease_gains_over_popularity_only_where_there_are_tastes():
    def gain(taste):
        parameters = SyntheticParameters(customers=3_000, items=300, shops=4, groups=10, taste=taste, drift=0)
        return statistics(load_federation("synthetic", settings=DataSettings(synthetic=parameters)))

    assert gain(0.8)["EASE / popularity"] > 1.5
    assert gain(0.0)["EASE / popularity"] < 1.1


def test_table(capsys):
    assert "| a | 1,000 | 0.250 |\n| b |  | 12.5 |" in markdown(
        {"x": {"a": 1000}, "y": {"a": 0.25, "b": 12.5}}
    )
    small = ["--set", "scenario.customers=300", "--set", "scenario.items=200", "--set", "scenario.shops=3"]
    assert main(["synthetic", *small]) == 0
    assert "| customers | 300 |" in capsys.readouterr().out
    assert main(["nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err
