"""A contribution is its customer's alone to the last bit, in whatever company and at whatever state."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from hansa.dp.clipping import clip
from hansa.dp.ledger import Budget, Ledger
from hansa.dp.private_sum import Door, PerformanceSettings, Share
from hansa.errors import UsageError
from hansa.plan import METHODS as NAMED
from hansa.plan import build_method
from hansa.recommended import recommended_settings
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa.secagg.masks import centre

N_ITEMS = 300
METHODS = [
    ("popularity", {}),
    ("dpsgd", {}),
    ("dpsgd", {"dimensions": 5, "given_share": 0.5, "cap": 64, "temperature": 1e3}),
    ("dpsgd", {"dimensions": 33, "cap": 100, "negative_weight": 1e-6, "ridge": 1e-6}),
    ("dpsgd", {"dimensions": 8, "candidates": 40}),
    ("dpsgd", {"dimensions": 7, "candidates": 299, "given_share": 0.5, "cap": 64, "temperature": 1e3}),
    ("cooccurrence", {}),
    ("cooccurrence", {"vocabulary": 120, "cap": 50, "recency": 1.7, "nearness": 1.3}),
    ("hybrid", {"refinement_share": 0.4, "refinement_rounds": 1}),
    ("hybrid", {"refinement_share": 0.4, "refinement_rounds": 1, "dimensions": 9, "rank": 21, "cap": 64}),
    ("subspace", {"iterations": 1}),
    ("subspace", {"iterations": 1, "dimensions": 13, "vocabulary": 211, "cap": 64}),
    ("dpals", {"iterations": 1}),
    ("dpals", {"iterations": 1, "dimensions": 13, "ridge": 1e-6, "cap": 64}),
]
every_method = pytest.mark.parametrize(
    ("name", "settings"),
    METHODS,
    ids=["-".join([n, *(f"{k}={v}" for k, v in s.items())]) for n, s in METHODS],
)
LENGTHS = (0, 1, 2, 5, 17, 63, 64, 65, 100, 131, 299)


def pack(rows, n_items=N_ITEMS):
    offsets = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    return Histories(offsets, np.concatenate([np.zeros(0), *rows]).astype(np.int32), n_items)


def draw_rows(lengths, seed, items=N_ITEMS):
    draw = seeded_generator(seed, "rows")
    return [draw.permutation(items)[:length] for length in lengths]


def random_state(method, size):
    draw = seeded_generator(7, "state")
    state = {n: size * draw.standard_normal(shape) for n, shape in method.state_shapes().items()}
    return {name: table.astype(np.float32) for name, table in state.items()}


def tied_state(method, size):
    """Embeddings almost of rank one: scores tie, and systems are near singular."""
    draw = seeded_generator(8, "state")
    state = {}
    for name, (rows, width) in method.state_shapes().items():
        line = draw.uniform(0.5, 1.5, (rows, 1)) * draw.standard_normal((1, width))
        state[name] = (size * (line + 1e-4 * draw.standard_normal((rows, width)))).astype(np.float32)
    return state


def hostile(dimensions, n_items, normal):
    """``dpsgd`` at ties that rounding alone breaks, and at settings that make everything of them.

    The items that customers have lie on one line, and with them all vectors, but for their last bits; the
    others, which score above all of them, are huge and orthogonal to it: their order is nothing but those. A
    plan may not ask for these settings; the arithmetic must not depend on that.
    """
    method = build_method("dpsgd", n_items, {"dimensions": dimensions})
    object.__setattr__(method, "negative_weight", 1e-35)
    object.__setattr__(method, "temperature", 1e25)
    draw = seeded_generator(3, "hostile")
    line = draw.standard_normal(dimensions)
    line /= np.linalg.norm(line)
    items = np.zeros((n_items, dimensions + 1))
    items[:normal, :-1] = draw.uniform(0.5, 1.5, (normal, 1)) * line
    across = draw.standard_normal((n_items - normal, dimensions))
    across -= np.outer(across @ line, line)
    items[normal:, :-1] = 1e9 * across / np.linalg.norm(across, axis=1, keepdims=True)
    items[:normal, -1] = -1e38
    return method, {"items": items.astype(np.float32)}


def clipped(method, round_, state, rows, watched, chunk=256):
    """The watched customers' clipped contributions, as they are rounded and as they are added, in bytes."""
    release = method.releases()[round_ - 1]
    contributor, found, start = method.contributor(round_, release, state), [], 0
    for some in pack(rows, method.n_items).chunks(chunk):
        with torch.no_grad():
            contributions = contributor(some)
            norms = contributions.squared_norms()
            norms[norms.isnan()] = torch.nan  # of whatever sign: it counts as nothing
            (kept,), scale = clip([contributions], release.bound)
            parts = [{"norm": norms[k], "scale": scale[k]} for k in range(len(some))]
            groups = list(kept.groups(scale))
            if sum(len(group.block) for group in groups) == len(some):  # else some have nothing in any
                entries = (
                    (group.block[k], group.spots[group.owners == k], group.values[group.owners == k])
                    for group in groups
                    for k in range(len(group.block))
                )
                for part, own in zip(parts, entries, strict=True):
                    part.update(zip(("block", "spots", "values"), own, strict=True))
            for k in [at - start for at in watched[::3] if start <= at < start + len(some)]:
                alone = torch.zeros(len(some), dtype=torch.float64)
                alone[k] = scale[k]
                total = torch.zeros(release.rows, release.width, dtype=torch.float64)
                kept.add_to(total, alone)
                parts[k]["total"] = total + 0.0  # never -0.0
        found += [{name: part.numpy().tobytes() for name, part in own.items()} for own in parts]
        start += len(some)
    return [found[at] for at in watched]


def check_bits(method, round_, state, items=N_ITEMS):
    """Each customer alone, against companies of every size, order and longest history."""
    rows = draw_rows([length for length in LENGTHS if length <= items], 1, items)
    here = list(range(len(rows)))
    alone = clipped(method, round_, state, rows, here, chunk=1)
    companies = [(rows, here, chunk) for chunk in (2, 3, 256)]
    companies.append((rows[::-1], here[::-1], 256))
    for count, longest in ((1, items), (63, 3), (64, items // 4), (245, 1), (400, items // 2)):
        others = draw_rows(seeded_generator(count, "lengths").integers(0, longest + 1, count), count, items)
        last = (others + rows, [count + at for at in here], 256)
        companies.append(last if count % 2 else (rows + others, here, 256))
    for company, watched, chunk in companies:
        for one, other in zip(clipped(method, round_, state, company, watched, chunk), alone, strict=True):
            for name in one.keys() & other.keys():
                assert one[name] == other[name], f"{name} depends on others"


def test_every_named_method_is_covered():
    assert {name for name, _ in METHODS} == set(NAMED)


@every_method
@pytest.mark.parametrize(("make", "size"), [(random_state, 1.0), (random_state, 1e4), (tied_state, 1.0)])
def test_to_the_last_bit_a_contribution_is_its_customers_alone(name, settings, make, size):
    method = build_method(name, N_ITEMS, settings)
    for round_ in range(1, min(3, len(method.releases())) + 1):
        if round_ > 1 and method.releases()[round_ - 1] == method.releases()[round_ - 2]:
            continue
        check_bits(method, round_, make(method, size))


@pytest.mark.parametrize("dimensions", [4, 8, 16])
def test_not_even_at_ties_that_rounding_breaks(dimensions):
    method, state = hostile(dimensions, 500, 250)
    check_bits(method, 2, state, items=250)


def test_threads_change_no_bit():
    before, found = torch.get_num_threads(), []
    method = build_method("dpsgd", N_ITEMS, {"candidates": 200})
    rows = draw_rows(seeded_generator(0, "lengths").integers(0, 200, 256), 2)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(clipped(method, 2, random_state(method, 1e4), rows, range(256)))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def door(dp, release):
    ledger = Ledger(Budget(np.inf, 1e-5))
    ledger.reserve("r", (release.event,))
    performance = PerformanceSettings(chunk=256)
    return Door(dp, ledger, "r", seeded_generator(0), seeded_generator(1), performance)


@pytest.mark.parametrize(
    ("dimensions", "most", "chunks"), [(8, 20, 1), (16, 20, 1), (16, 12, 1), (8, 20, 8), (16, 12, 32)]
)
def test_one_more_customer_moves_a_sum_by_at_most_the_bound_at_any_state(dimensions, most, chunks):
    """One with a long history, who changes how far all others are padded, or moves them by one place."""
    method, state = hostile(dimensions, 500, 250)
    draw = seeded_generator(5, "people")
    others = draw_rows(draw.integers(2, most, 256 * chunks - 1), 6, 250)
    for position in range(255, len(others), 512):  # the last of a chunk, until somebody is before them
        others[position] = draw.permutation(250)[:120]
    (victim,) = draw_rows([100 if chunks == 1 else 5], 9, 250)
    release = replace(method.releases()[1], noise_multiplier=0.0)
    contribution = partial(method.contribution, 2, release, state)
    without = door("none", release).private_sum(release, contribution, pack(others, 500)).astype(np.float64)
    for company in ([victim, *others], [*others, victim]):
        whole = door("none", release).private_sum(release, contribution, pack(company, 500))
        assert np.linalg.norm(whole - without) <= release.bound + 1e-4  # sums as float32

    release = replace(release, noise="skellam")
    sums = []
    for company in (others, [*others, victim]):  # the coins of all others stay the same
        words = door("distributed", release).masked_sum(
            release, contribution, pack(company, 500), Share(2, 40, lambda words: None)
        )
        sums.append(centre(words, 40))
    assert int(((sums[1] - sums[0]) ** 2).sum()) <= release.shared_mechanism.squared


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        *(("dpsgd", key) for key in ("temperature", "negative_weight", "ridge", "rate", "local_rate")),
        *(("hybrid", key) for key in ("temperature", "rate", "regularisation", "threshold")),
        *(("dpals", key) for key in ("negative_weight", "ridge", "item_ridge", "everything")),
        *(("subspace", key) for key in ("regularisation", "threshold")),
    ],
)
@pytest.mark.parametrize("value", [-1.0, 1e25, np.inf, np.nan])
def test_settings_beyond_reason_are_refused_in_one_line(name, setting, value):
    with pytest.raises(UsageError, match=f"^method settings of {name}: {setting} must lie between [^\n]*$"):
        build_method(name, N_ITEMS, {setting: value})


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("epsilon", [None, 0.1, 8.0])
@pytest.mark.parametrize("customers", [10, 10**5, 10**9])
def test_recommended_settings_lie_in_their_ranges(name, epsilon, customers):
    build_method(name, N_ITEMS, recommended_settings(name, epsilon, customers))
