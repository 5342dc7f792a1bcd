import pytest

from hansa_simulations.attacks.door import Stage
from hansa_simulations.attacks.entries import ITEMS, attack_entries
from hansa_simulations.attacks.faults import counter_beside, counter_inside


@pytest.mark.parametrize("dp", ["local", "distributed"])
def test_no_entry_tells_of_a_customer_unless_it_has_no_noise(dp):
    stage = Stage(dp, 2.0, ITEMS)
    assert not attack_entries(stage, 200, 0.001).broken
    with counter_inside():
        found = attack_entries(stage, 200, 0.001)
    assert found.broken
    assert found.bound > 2.0
    assert found.figures["worst_entry"] == ITEMS - 1
    assert found.words.startswith("Entry 7 alone shows epsilon of at least 2.")


def test_what_stands_beside_the_sum_is_looked_at():
    with counter_beside():
        found = attack_entries(Stage("local", 2.0, ITEMS), 20, 0.001)
    assert found.broken
    assert found.bound is None
    assert "besides the sum" in found.words


def test_without_noise_one_customer_is_seen():
    found = attack_entries(Stage("none", None, ITEMS), 200, 0.001)
    assert found.bound > 2
    assert found.claimed is None
    assert found.figures["worst_entry"] == 0  # where the customer's item is
    assert found.figures["least_noise"] == 0
