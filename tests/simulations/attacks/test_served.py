import numpy as np
import pytest

from hansa_client.serving.lists import Ranked
from hansa_client.serving.reasons import Reason
from hansa_simulations.attacks import served
from hansa_simulations.attacks.faults import small_federation
from hansa_simulations.attacks.served import SETUPS, Target, attack_served


@pytest.fixture(scope="module")
def found():
    results = attack_served(small_federation(), "cooccurrence", "distributed", 2.0, targets=25)
    return {str(each.figures["setup"]): each for each in results}


def test_what_uses_exact_data_tells_and_what_does_not_hardly(found):
    assert tuple(found) == SETUPS
    assert found["alone"].figures["auc"] > 0.6
    assert found["alone"].figures["tpr_at_0.01"] > 0.1
    assert found["shared-only"].figures["auc"] == pytest.approx(0.5, abs=0.15)
    assert found["shared-only"].figures["advantage"] < found["alone"].figures["advantage"]
    assert "epsilon says nothing" in found["blend"].words
    assert found["blend"].claimed is None
    assert found["shared-only"].claimed == 2.0
    assert not any(each.broken for each in found.values())


def test_the_table_has_a_row_a_set_up(found):
    rows = served.told(list(found.values()))
    weight = found["blend"].figures["weight"]
    assert [row[3] for row in rows] == [f"blend, {weight:.0%} of the league", *SETUPS[1:]]
    assert [row[2] for row in rows] == ["-", "-", "2"]


def test_worlds_differ_in_one_item_of_one_customer():
    histories = small_federation().shops[0].train
    random = served.seeded_generator(0, "targets")
    for target in served._targets(histories, 10, random):
        row = histories.row(target.customer)
        assert target.item in row
        assert target.other not in row
        assert target.item not in target.known
        gone = served._without(histories, target, None)
        np.testing.assert_array_equal(gone.row(target.customer), row[row != target.item])
        other = served._without(histories, target, target.other)
        expected = np.where(row == target.item, target.other, row)
        np.testing.assert_array_equal(other.row(target.customer), expected)
        for customer in {0, len(histories) - 1} - {target.customer}:
            np.testing.assert_array_equal(gone.row(customer), histories.row(customer))
            np.testing.assert_array_equal(other.row(customer), histories.row(customer))


def test_every_kind_of_answer_is_asked_for_and_counts_alike():
    class Answers:
        """Lists the suspected item first, in the answers that are named, and another item in all others."""

        n_items = 9

        def __init__(self, *kinds):
            self.kinds = kinds

        def listed(self, kind):
            reason = Reason((), "own")
            return [Ranked(7 if kind in self.kinds else 8, 1.0, reason), Ranked(7, 0.5, reason)]

        def related(self, items, k):
            return self.listed("similar" if len(items) == 1 else "together"), "interactions"

        def lists(self, histories, k):
            assert histories.row(0).tolist() == [1, 2, 3]
            return [self.listed("recommend")]

    target = Target(0, np.array([1, 2, 3], dtype=np.int32), item=7, other=8)
    assert served._standing(Answers(), target) == pytest.approx(1.5)
    for kind in ("similar", "together", "recommend"):
        assert served._standing(Answers(kind), target) == pytest.approx(2.0)
