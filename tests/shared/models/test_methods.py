"""What every method must satisfy; a new one is added to ``METHODS`` and inherits all of it."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.dp.clipping import OuterContributions, clipped_sum
from hansa.dp.ledger import Budget, Ledger
from hansa.dp.pairs import packed_rows
from hansa.dp.private_sum import Door, Share
from hansa.dp.sgd import PrivateSumOptimizer
from hansa.models.base import NoisySum
from hansa.models.cooccurrence import PAIRS, Cooccurrence
from hansa.models.dpals import SQUARES, Dpals
from hansa.models.factorization import Factorization
from hansa.models.hybrid import REFINEMENT, Hybrid
from hansa.models.popularity import Popularity
from hansa.models.subspace import BLOCK, Subspace
from hansa.plan import METHODS as NAMED
from hansa.plan import Plan
from hansa.records import Request
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa.secagg.masks import centre
from hansa_client.rounds.training import consider, contribute
from hansa_client.shop import LocalShop

N_ITEMS = 12
SMALL = {"n_items": N_ITEMS, "dimensions": 3, "gradient_rounds": 2}
METHODS = [
    Popularity(N_ITEMS),
    Popularity(N_ITEMS, cap=4),
    Factorization(**SMALL, given_share=0.5),
    Factorization(**SMALL, given_share=1.0, temperature=3.0),
    Factorization(**SMALL, cap=4, given_share=0.5, candidates=5),
    Factorization(**SMALL, given_share=1.0, candidates=11),
    Factorization(**SMALL, given_share=0.5, candidates=1),
    Cooccurrence(N_ITEMS),
    Cooccurrence(N_ITEMS, vocabulary=5, rank=3),
    Cooccurrence(N_ITEMS, vocabulary=7, cap=3),
    Cooccurrence(N_ITEMS, vocabulary=7, recency=0.5),
    Hybrid(N_ITEMS),
    Hybrid(N_ITEMS, refinement_share=0.4, refinement_rounds=2, recency=1.0),
    Hybrid(
        N_ITEMS, vocabulary=7, cap=4, refinement_share=0.4, refinement_rounds=2, dimensions=2, next_items=2
    ),
    Subspace(N_ITEMS),
    Subspace(N_ITEMS, dimensions=3, iterations=1, vocabulary=5),
    Subspace(N_ITEMS, dimensions=4, iterations=2, cap=3),
    Dpals(N_ITEMS, dimensions=3, iterations=2),
    Dpals(N_ITEMS, dimensions=2, vocabulary=5, exponent=1.0, cap=3),
]


def label(method):
    changed = [f"{k}={v}" for k, v in vars(method).items() if k in ("cap", "candidates", "given_share")]
    return "-".join([method.name, *changed])


every_method = pytest.mark.parametrize("method", METHODS, ids=label)

customer = st.permutations(range(N_ITEMS)).flatmap(
    lambda order: st.integers(0, N_ITEMS).map(lambda length: tuple(order[:length]))
)
customers = st.lists(customer, min_size=1, max_size=6)


def pack(rows, n_items=N_ITEMS):
    offsets = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    return Histories(offsets, np.array([i for row in rows for i in row], dtype=np.int32), n_items)


def random_state(method, seed=0, size=1.0):
    draw = seeded_generator(seed, "state")
    return {
        name: (size * draw.standard_normal(shape)).astype(np.float32)
        for name, shape in method.state_shapes().items()
    }


def rounds(method):
    return enumerate(method.releases(), start=1)


def matrix_of(contributions, position, n_customers, release):
    """One customer's contribution: float32 [rows, width]."""
    total = torch.zeros(release.rows, release.width)
    contributions.add_to(total, torch.eye(n_customers)[position])
    return total.numpy()


def check_purity(method, rows):
    """A chunk's contributions are those of its customers alone, whoever else is in it."""
    state = random_state(method)
    for round_, release in rounds(method):
        together = method.contribution(round_, release, state, pack(rows))
        for position, row in enumerate(rows):
            alone = method.contribution(round_, release, state, pack([row]))
            np.testing.assert_allclose(
                matrix_of(together, position, len(rows), release),
                matrix_of(alone, 0, 1, release),
                atol=1e-4,
                err_msg=f"customer {position} in round {round_} depends on others",
            )


def answers(method, rows, chunk=256):
    """The bare sums of all rounds as they leave the client under ``central``."""
    changed = {k: v for k, v in vars(method).items() if k not in ("n_items", "name")}
    plan = Plan(
        run="r",
        method=method.name,
        settings=changed,
        n_items=N_ITEMS,
        dp="central",
        noise_scale=1.0,
        delta=1e-5,
        shops=1,
        customers=10,
    )
    shop = LocalShop("s", pack(rows), Ledger(Budget(1e9, 1e-5)), 10, allowed=("central",))
    shop.performance = replace(shop.performance, chunk=chunk)
    assert consider(shop, Request("r", 0, plan.model_dump_json(), {})).accepted
    state = random_state(method)
    replies = [contribute(shop, Request("r", round_, "", state)) for round_, _ in rounds(method)]
    assert all(reply.accepted for reply in replies)
    return [reply.release.astype(np.float64) for reply in replies]


def check_bound(method, rows, bare_sums=answers):
    """Without any one customer the sums that leave the client move by at most the bound."""
    everybody = bare_sums(method, rows)
    for position in range(len(rows)):
        others = bare_sums(method, [row for k, row in enumerate(rows) if k != position])
        for whole, rest, release in zip(everybody, others, method.releases(), strict=True):
            assert np.linalg.norm(whole - rest) <= release.bound + 1e-5  # float32 sums of up to 6


def test_every_named_method_is_covered():
    assert {method.name for method in METHODS} == set(NAMED)


@every_method
@settings(max_examples=15, deadline=None)
@given(rows=customers)
def test_no_contribution_depends_on_other_customers(method, rows):
    check_purity(method, rows)


@every_method
@settings(max_examples=8, deadline=None)
@given(rows=customers)
def test_removing_a_customer_moves_what_leaves_the_client_by_at_most_the_bound(method, rows):
    check_bound(method, rows)


def noisy_sums(method, rows, states):
    """What leaves the door with noise of a fixed seed, at given public states of each round."""
    sums = []
    for (round_, release), state in zip(rounds(method), states, strict=True):
        release = replace(release, noise_multiplier=3.0)
        ledger = Ledger(Budget(1e9, 1e-5))
        ledger.reserve("r", (release.event,))
        door = Door("local", ledger, "r", seeded_generator(round_, "noise"), seeded_generator(0, "coins"))
        contribution = partial(method.contribution, round_, release, state)
        sums.append(door.private_sum(release, contribution, pack(rows)).astype(np.float64))
    return sums


@every_method
@settings(max_examples=8, deadline=None)
@given(rows=customers, seed=st.integers(0, 10**6))
def test_with_noise_and_its_grid_what_leaves_moves_by_at_most_the_bound(method, rows, seed):
    """The same noise in both, so that the difference is that of the rounded sums."""
    states = [random_state(method, seed)] * len(method.releases())
    check_bound(method, rows, lambda changed, some: noisy_sums(changed, some, states))


@settings(max_examples=10, deadline=None)
@given(rows=customers, seed=st.integers(0, 10**6))
def test_every_local_step_moves_by_at_most_the_bound(rows, seed):
    """The shop's steps as they were with everybody; each again, at the same table, without one customer."""
    method = Factorization(
        **{**SMALL, "gradient_rounds": 1}, local_steps=4, local_rate=0.5, sampling_rate=0.7
    )
    release = replace(method.releases()[1], noise_multiplier=0.5)
    everybody = pack(rows)

    def step(table, histories, number):
        ledger = Ledger(Budget(1e12, 1e-5))
        ledger.reserve("r", (release.event,))
        noise, coins = (seeded_generator(seed, name, number) for name in ("noise", "coins"))
        parameter = torch.nn.Parameter(torch.from_numpy(table.copy()))
        sums = []

        class Spy(Door):
            def private_sum(self, *arguments):
                sums.append(super().private_sum(*arguments))
                return sums[-1]

        PrivateSumOptimizer(
            method.local_optimizer([parameter]),
            Spy("local", ledger, "r", noise, coins),
            release,
            lambda now: partial(method.contribution, 2, release, {release.name: now}),
            histories,
            10.0,
        ).step()
        return sums[0].astype(np.float64), parameter.detach().numpy()

    table = random_state(method, seed)[release.name]
    for number in range(release.steps):
        whole, after = step(table, everybody, number)
        for position in range(len(rows)):
            # The customer stays, with nothing, so that the others' coins are the same.
            rest = pack([row if k != position else () for k, row in enumerate(rows)])
            moved = np.linalg.norm(whole - step(table, rest, number)[0])
            assert moved <= release.bound + 1e-5
        assert np.abs(after - table).max() > 0
        table = after


def whole_sums(method, rows, multiplier=0.0, seed=0):
    """What leaves the door unmasked under ``distributed``, as whole numbers, and what one stands for."""
    sums, state = [], random_state(method)
    for round_, release in rounds(method):
        release = replace(release, noise_multiplier=multiplier, noise="skellam")
        ledger = Ledger(Budget(np.inf, 1e-5))
        ledger.reserve("r", (release.event,))
        noise, coins = (seeded_generator(seed, name, round_) for name in ("noise", "coins"))
        door = Door("distributed", ledger, "r", noise, coins)
        contribution = partial(method.contribution, round_, release, state)
        words = door.masked_sum(release, contribution, pack(rows), Share(2, 40, lambda words: None))
        whole = centre(words, 40).reshape(release.rows, release.width)
        sums.append((whole, release.shared_mechanism))
    return sums


@every_method
@settings(max_examples=8, deadline=None)
@given(row=customer, seed=st.integers(0, 10**6))
def test_whole_numbers_of_a_customer_keep_to_the_integer_bound(method, row, seed):
    for whole, mechanism in whole_sums(method, [row], seed=seed):
        assert int((whole**2).sum()) <= mechanism.squared
        assert int(np.abs(whole).sum()) <= mechanism.absolute


@every_method
@pytest.mark.parametrize("multiplier", [0.0, 1e-5])
def test_distributed_sums_are_the_central_ones_up_to_rounding_and_little_noise(method, multiplier):
    """Rounding errs by less than a quantum a customer; the noise is below a twentieth of one."""
    rows = [tuple(seeded_generator(k).permutation(N_ITEMS)[: k % 7]) for k in range(20)]
    some = False
    for (whole, mechanism), bare in zip(
        whole_sums(method, rows, multiplier), answers(method, rows), strict=True
    ):
        assert np.abs(whole * mechanism.quantum - bare).max() <= (len(rows) + 1) * mechanism.quantum
        assert np.abs(whole * mechanism.quantum - bare).mean() <= 2 * mechanism.quantum
        some |= bool(np.abs(bare).max() > 100 * mechanism.quantum)
    assert some


@dataclass(frozen=True)
class InBatchNegatives(Factorization):
    """Wrong on purpose: the softmax runs over the items that the chunk's customers have."""

    def contribution(self, round_, release, state, histories):
        pure = super().contribution(round_, release, state, histories)
        if not isinstance(pure, OuterContributions):
            return pure
        in_batch = torch.zeros(self.n_items)
        in_batch[torch.from_numpy(histories.items.astype(np.int64))] = 1.0
        return replace(pure, coefficients=pure.coefficients * in_batch).normalised()


@dataclass(frozen=True)
class CountsWeighted(Popularity):
    """Wrong on purpose: items weighted by the exact counts of the chunk."""

    def contribution(self, round_, release, state, histories):
        pure = super().contribution(round_, release, state, histories)
        counts = np.maximum(np.bincount(histories.items, minlength=self.n_items), 1)
        return replace(
            pure, values=pure.values / torch.from_numpy(counts.astype(np.float32))[pure.rows, None]
        )


WRONG_ROWS = [(0, 1, 2, 3), (3, 4, 5), (6, 7, 0, 2), (8, 9, 10)]


@pytest.mark.parametrize(
    "wrong", [InBatchNegatives(**SMALL), CountsWeighted(N_ITEMS)], ids=["batch", "counts"]
)
def test_purity_check_catches_methods_that_look_at_other_customers(wrong):
    with pytest.raises(AssertionError, match="depends on others"):
        check_purity(wrong, WRONG_ROWS)


def test_bound_check_catches_in_batch_negatives():
    def bare(method, rows):
        state, releases = random_state(method), list(rounds(method))
        return [
            clipped_sum(
                [method.contribution(n, release, state, pack(rows))],
                release.bound,
                torch.zeros(release.rows, release.width),
            )
            .double()
            .numpy()
            for n, release in releases
        ]

    draw = seeded_generator(3, "in batch")
    rows = [(k,) for k in range(N_ITEMS)] + [tuple(draw.permutation(11)[:4]) for _ in range(30)]
    check_bound(Factorization(**SMALL), rows, bare)
    with pytest.raises(AssertionError):
        check_bound(InBatchNegatives(**SMALL), rows, bare)


@every_method
def test_chunk_size_changes_nothing_but_rounding(method):
    rows = [tuple(seeded_generator(k).permutation(N_ITEMS)[: k % 7]) for k in range(20)]
    for small, large in zip(answers(method, rows, chunk=3), answers(method, rows), strict=True):
        np.testing.assert_allclose(small, large, atol=1e-5)


@every_method
def test_empty_customers_and_empty_shops_contribute_zero(method):
    state = random_state(method)
    for round_, release in rounds(method):
        total = torch.zeros(release.rows, release.width)
        clipped_sum([method.contribution(round_, release, state, pack([(), ()]))], release.bound, total)
        assert not total.any()
    assert all(not total.any() for total in answers(method, []))


@every_method
@pytest.mark.parametrize("row", [(0,), tuple(range(N_ITEMS)), (11, 3)])
def test_extreme_histories_keep_to_the_bound(method, row):
    for total, release in zip(answers(method, [row]), method.releases(), strict=True):
        assert np.linalg.norm(total) <= release.bound
        assert np.isfinite(total).all()


@pytest.mark.parametrize(
    "method",
    [
        Popularity(N_ITEMS, cap=4),
        Factorization(**SMALL, cap=4, given_share=0.5),
        Factorization(**SMALL, cap=4, given_share=0.5, candidates=5),
    ],
    ids=label,
)
def test_only_the_newest_items_up_to_the_cap_count(method):
    long, newest = tuple(range(N_ITEMS)), tuple(range(N_ITEMS - 4, N_ITEMS))
    state = random_state(method)
    for round_, release in rounds(method):
        ours, theirs = (
            matrix_of(method.contribution(round_, release, state, pack([row])), 0, 1, release)
            for row in (long, newest)
        )
        np.testing.assert_array_equal(ours, theirs)
        oldest = matrix_of(method.contribution(round_, release, state, pack([long[:4]])), 0, 1, release)
        assert (ours != oldest).any()
    np.testing.assert_allclose(
        method.score(state, pack([long])), method.score(state, pack([newest])), atol=1e-6
    )


@every_method
@pytest.mark.parametrize("size", [1e3, 1e10, 3e38])
def test_a_hostile_state_neither_stops_a_shop_nor_breaks_the_bound(method, size):
    rows = [tuple(seeded_generator(k).permutation(N_ITEMS)[: k % 7]) for k in range(10)]
    state = random_state(method, size=min(size, 1e37))
    for round_, release in rounds(method):
        for row in rows:
            total = torch.zeros(release.rows, release.width)
            with torch.no_grad():
                clipped_sum([method.contribution(round_, release, state, pack([row]))], release.bound, total)
            assert total.isfinite().all()
            assert float(total.double().norm()) <= release.bound


@every_method
def test_shapes_are_the_declared_ones(method):
    shapes = method.state_shapes()
    state = method.initial_state(seeded_generator(0))
    assert {name: table.shape for name, table in state.items()} == shapes
    assert all(table.dtype == np.float32 and np.isfinite(table).all() for table in state.values())
    memory = {}
    for round_, release in rounds(method):
        rows = {
            PAIRS: lambda: packed_rows(method.size),
            REFINEMENT: lambda: method.size,
            BLOCK: lambda: method.size,
            SQUARES: lambda: method.size + 1,
        }
        assert release.rows == rows.get(release.name, lambda: N_ITEMS)()
        assert release.noise_multiplier >= 0
        assert release.bound > 0
        total = seeded_generator(round_).standard_normal((release.rows, release.width)).astype(np.float32)
        before = {name: table.copy() for name, table in state.items()}
        after = method.update(round_, release, state, NoisySum(total, 0.1, 10.0), memory)
        assert {name: table.shape for name, table in after.items()} == shapes
        assert all(table.dtype == np.float32 and np.isfinite(table).all() for table in after.values())
        assert all((state[name] == before[name]).all() for name in state)
        assert any((after[name] != before[name]).any() for name in state)
        state = after
    assert method.score(state, pack([(1,), ()])).shape == (2, N_ITEMS)


@every_method
@settings(max_examples=20, deadline=None)
@given(rows=customers)
def test_scores_depend_on_ones_own_row_only(method, rows):
    state = random_state(method)
    together = method.score(state, pack(rows))
    assert together.shape == (len(rows), N_ITEMS)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    for position, row in enumerate(rows):
        np.testing.assert_allclose(
            together[position], method.score(state, pack([row]))[0], atol=1e-4, rtol=1e-4
        )
    assert method.score(state, pack([])).shape == (0, N_ITEMS)


@every_method
def test_initial_states_and_contributions_repeat(method):
    first, again = (method.initial_state(seeded_generator(5)) for _ in range(2))
    assert all((first[name] == again[name]).all() for name in first)
    one, two = (answers(method, WRONG_ROWS) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))


def test_popularity_ranks_by_counts():
    method = Popularity(N_ITEMS)
    (total,) = answers(method, [(3, 1), (3,), (3, 1, 7)])
    assert list(np.argsort(-total[:, 0])[:3]) == [3, 1, 7]
    np.testing.assert_allclose(total[3, 0], 2**-0.5 + 1 + 3**-0.5, rtol=1e-4)
    state = method.update(1, method.releases()[0], {}, NoisySum(total.astype(np.float32), 0.0, 3.0), {})
    scores = method.score(state, pack([(), (3,)]))
    np.testing.assert_array_equal(scores[0], total[:, 0].astype(np.float32))
    np.testing.assert_array_equal(scores[0], scores[1])
