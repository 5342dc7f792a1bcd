"""``cooccurrence``: what is bought together, released once, denoised, and solved as an EASE.

Two private sums: counts, which choose the vocabulary, and the customers' normalised co-occurrence over it.
The noisy matrix is denoised by its spectrum, and the ridge solution of EASE (Steck 2019, arXiv 1905.03375)
on it is kept in the form of item embeddings, which shops apply to each customer's own history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from hansa.dp.pairs import PairContributions, packed_rows, unpack
from hansa.dp.private_sum import Contribution, Release, Table
from hansa.memo import Memo
from hansa.metrics import Scores
from hansa.models.base import Method, NoisySum, State, check_range
from hansa.models.mixture import mix, standardise
from hansa.models.optimizers import Memory
from hansa.models.popularity import COUNTS, MOST_INTERACTIONS, counts_contribution, counts_release
from hansa.models.spectrum import leading
from hansa.rng import Generator
from hansa.schema import Histories, IntArray

PAIRS = "pairs"
EMBEDDINGS = "embeddings"
FLOOR = "floor"
LEAST = 0.5
"""The floor of counts without noise."""

_vocabularies: Memo[npt.NDArray[np.int64]] = Memo()


def without_idle_columns(table: Table) -> Table:
    """``table`` up to its last column that is not zero: what denoising left of the rank."""
    used = np.flatnonzero(table.any(axis=0))
    return table[:, : int(used[-1]) + 1 if len(used) else 0]


def output_table(table: Table) -> Table:
    """What a query meets: each item's embedding over 1 - H_jj, the share of itself that EASE takes out.

    Args:
        table: The embeddings, float32 [vocabulary, rank].
    """
    embeddings = torch.from_numpy(table)  # whose arithmetic stays silent on a state that overflows
    scaled: Table = (embeddings / (1 - embeddings.square().sum(dim=1, keepdim=True).clamp(max=0.999))).numpy()
    return scaled


@dataclass(frozen=True)
class Cooccurrence(Method):
    """One-shot co-occurrence over the best sellers by a noisy count.

    State: ``counts`` float32 [n_items, 1]; ``floor`` float32 [1, 1], the count that noise can fake;
    ``embeddings`` float32 [vocabulary, rank], in the catalogue's order of the vocabulary.

    Attributes:
        n_items: Size of the catalogue.
        vocabulary: Items in the co-occurrence; at most the catalogue.
        count_share: Share of the budget (of 1 / sigma^2) that the counts get.
        cap: Most interactions of a customer that count, newest first.
        threshold: Eigenvalues are lowered by this many times the spectral radius of the noise.
        regularisation: lambda of the EASE, for a customer whose pairs weigh 1 in all.
        popularity_weight: Share of the z-scored logarithm of the counts in the score.
        rank: Most dimensions kept.
        recency: Power by which a customer's older items count less, see ``Histories.matrix``: the whole of it
            in the customer's own scores, half of it in each item of a pair that is released.
        nearness: Power by which items weigh less together the more a customer had in between.
    """

    n_items: int
    vocabulary: int = 300
    count_share: float = 0.1
    cap: int = 500
    threshold: float = 0.5
    regularisation: float = 25.0
    popularity_weight: float = 0.1
    rank: int = 1024
    recency: float = 0.5
    nearness: float = 0.5
    name: str = "cooccurrence"

    def __post_init__(self) -> None:
        for name in ("vocabulary", "cap", "rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.cap > MOST_INTERACTIONS:
            raise ValueError(f"cap must be at most {MOST_INTERACTIONS:,}")
        if not 0 < self.count_share < 1:
            raise ValueError("count_share must lie between 0 and 1")
        check_range(self, 1e-6, 1e9, "regularisation")
        check_range(self, 0, 1e6, "threshold")
        if not (0 <= self.recency <= 4 and 0 <= self.nearness <= 4):
            raise ValueError("recency and nearness must lie between 0 and 4")
        if not 0 <= self.popularity_weight <= 1:
            raise ValueError("popularity_weight must lie between 0 and 1")

    @property
    def size(self) -> int:
        """Items in the vocabulary."""
        return min(self.vocabulary, self.n_items)

    def releases(self) -> list[Release]:
        """Counts, then pairs, with noise such that the counts get their share of the budget."""
        pairs = Release(PAIRS, packed_rows(self.size), 1, noise_multiplier=(1 - self.count_share) ** -0.5)
        return [replace(counts_release(self.n_items), noise_multiplier=self.count_share**-0.5), pairs]

    def initial_state(self, generator: Generator) -> State:
        """Nothing is known."""
        return {name: np.zeros(shape, dtype=np.float32) for name, shape in self.state_shapes().items()}

    def state_shapes(self) -> dict[str, tuple[int, int]]:
        """Counts, their floor of noise, and embeddings."""
        return {
            COUNTS: (self.n_items, 1),
            FLOOR: (1, 1),
            EMBEDDINGS: (self.size, min(self.rank, self.size)),
        }

    def contributor(self, round_: int, release: Release, state: State) -> Contribution:
        """Counts, or each customer's co-occurrence over the vocabulary that the counts have chosen."""
        if release.name == COUNTS:
            return lambda histories: counts_contribution(histories, self.cap)
        over_vocabulary = self.over_vocabulary(state)
        return lambda histories: self._pairs(over_vocabulary(histories))

    def _pairs(self, over_vocabulary: Histories) -> PairContributions:
        return PairContributions(over_vocabulary, self.recency / 2, self.nearness)

    def over_vocabulary(self, state: Mapping[str, Table]) -> Callable[[Histories], Histories]:
        """What takes customers' newest ``cap`` items of the vocabulary, as positions in it."""
        position = np.full(self.n_items, -1, dtype=np.int32)
        chosen = self.chosen(state)
        position[chosen] = np.arange(len(chosen), dtype=np.int32)

        def restrict(histories: Histories) -> Histories:
            newest = histories.where(position[histories.items] >= 0).newest(self.cap)
            return Histories(newest.offsets, position[newest.items], len(chosen))

        return restrict

    def update(self, round_: int, release: Release, state: State, sum_: NoisySum, memory: Memory) -> State:
        """Keep the counts, or turn the noisy co-occurrence into embeddings.

        With G = V diag(l) V^T after denoising and h = l / (l + lambda), EASE's weights are those of
        H = V diag(h) V^T: B_ij = H_ij / (1 - H_jj) off the diagonal. The embeddings are V sqrt(h). G has
        no diagonal, so its noise is a Gaussian matrix of spectral radius sqrt(2 K) times its deviation.
        """
        if release.name == COUNTS:
            floor = np.full((1, 1), max(2 * sum_.noise_deviation, LEAST), dtype=np.float32)
            return {**state, COUNTS: sum_.total, FLOOR: floor}
        radius = float(np.sqrt(2 * self.size)) * sum_.noise_deviation
        above = self.threshold * radius
        values, vectors = leading(unpack(sum_.total, self.size), above, min(self.rank, self.size))
        shares = (values - above) / (values - above + self.regularisation)
        embeddings = np.zeros_like(state[EMBEDDINGS])
        embeddings[:, : len(values)] = vectors * np.sqrt(shares)
        return {**state, EMBEDDINGS: embeddings}

    def score(self, state: Mapping[str, Table], histories: Histories) -> Scores:
        """z-scored EASE over the catalogue, 0 before that outside the vocabulary, and z-scored log counts."""
        queries = self.over_vocabulary(state)(histories).matrix(self.recency)
        return self.over_catalogue(state, self.personal(state, queries))

    def score_before(self, state: Mapping[str, Table], kept: Histories, whole: Histories) -> Scores:
        """As ``score``, by the model that would be, had each customer contributed ``kept`` for ``whole``.

        The change of the counts is left out.
        """
        restrict = self.over_vocabulary(state)
        before, after = restrict(kept), restrict(whole)
        personal = self.personal(state, before.matrix(self.recency)) - self.remembered(state, before, after)
        return self.over_catalogue(state, personal)

    def remembered(self, state: Mapping[str, Table], before: Histories, after: Histories) -> Scores:
        """What ``personal`` owes to each customer's pairs beyond those of ``before``, to first order.

        When G changes by D, H changes by the divided differences of h = l / (l + lambda) (Daleckii and
        Krein), approximate leave-one-out (Rad and Maleki 2020, arXiv 1801.10243): between two directions that
        were kept they are (1 - h_k)(1 - h_l) / lambda, between one that was and the others h_k / (l_k + m),
        m being how far these lie below the threshold on average: without a diagonal all add up to 0.

        Args:
            state: The public state.
            before: Rows over the vocabulary that the scores know.
            after: Rows that the same customers contributed.
        """
        table = without_idle_columns(state[EMBEDDINGS])
        shares = np.clip((table**2).sum(axis=0), 1e-12, 0.9999)
        vectors, left = table / np.sqrt(shares), 1 - shares
        values = self.regularisation * shares / left
        floor = float(state[FLOOR][0, 0])
        noise = floor / 2 * (self.count_share / (1 - self.count_share)) ** 0.5 if floor > LEAST else 0.0
        lowered = self.threshold * float(np.sqrt(2 * self.size)) * noise
        below = lowered + (values + lowered).sum() / max(1, self.size - len(values))
        across = (shares / (values + below)).astype(np.float32)
        own, earlier = self._pairs(after), self._pairs(before)

        def changed(rows: Scores) -> Scores:
            result: Scores = own.times(rows) - earlier.times(rows)
            return result

        queries = before.matrix(self.recency).toarray()
        inside = queries @ vectors
        among = changed((inside * left) @ vectors.T) @ vectors * (left / np.float32(self.regularisation))
        outwards = changed((inside * across) @ vectors.T)
        inwards = changed(queries - inside @ vectors.T) @ vectors * across
        total = (among + inwards - outwards @ vectors) @ vectors.T + outwards
        remembered: Scores = total / (1 - (table**2).sum(axis=1)).clip(min=1e-3)
        return remembered

    def personal(self, state: Mapping[str, Table], queries: sp.csr_array) -> Scores:
        """Scores of the vocabulary for weighted rows over it: float32 [customers, vocabulary]."""
        table = without_idle_columns(state[EMBEDDINGS])
        return np.asarray(queries @ table @ output_table(table).T)

    def factors(self, state: Mapping[str, Table]) -> tuple[Table, Table]:
        """Q and W, float32 [vocabulary, used rank]: ``personal`` is linear in the query by Q W^T."""
        table = without_idle_columns(state[EMBEDDINGS])
        return table, output_table(table)

    def contributions(self, state: Mapping[str, Table], history: Histories, listed: IntArray) -> Scores:
        """See ``Method``: x_j q_j w_i on the scale of ``score``, 0 outside the vocabulary."""
        had, chosen = history.row(0), self.chosen(state)
        result = np.zeros((len(had), len(listed)), dtype=np.float32)
        known = self.over_vocabulary(state)(history)
        query = known.matrix(self.recency)
        spread = self._spread(self.personal(state, query))
        if not (len(known.items) and spread > 0):
            return result
        queries, outputs = self.factors(state)
        place = np.searchsorted(chosen, listed).clip(max=len(chosen) - 1)
        inside = chosen[place] == listed
        added = (query.data[:, None] * queries[known.items]) @ outputs[place].T
        added *= np.float32((1 - self.popularity_weight) / spread)
        where = np.full(self.n_items, -1, dtype=np.int64)
        where[had] = np.arange(len(had))
        result[where[chosen[known.items]]] = added * inside
        return result

    def _spread(self, personal: Scores) -> float:
        """The deviation over the catalogue by which one customer's scores are divided."""
        mean = personal.sum(dtype=np.float64) / self.n_items
        return float(np.sqrt(max(0.0, (personal.astype(np.float64) ** 2).sum() / self.n_items - mean**2)))

    def over_catalogue(self, state: Mapping[str, Table], personal: Scores) -> Scores:
        """Scores of all items from those of the vocabulary and the counts: float32 [customers, n_items]."""
        scores = np.zeros((len(personal), self.n_items), dtype=np.float32)
        scores[:, self.chosen(state)] = personal
        counts = np.maximum(state[COUNTS][:, 0], max(float(state[FLOOR][0, 0]), 1e-3))
        return mix(standardise(scores), standardise(np.log(counts)[None]), self.popularity_weight)

    def known(self, state: Mapping[str, Table]) -> npt.NDArray[np.bool_]:
        """Which items, bool [n_items], have counts that are more than noise."""
        return np.asarray(state[COUNTS][:, 0] > state[FLOOR][0, 0])

    def chosen(self, state: Mapping[str, Table]) -> npt.NDArray[np.int64]:
        """Catalogue positions of the vocabulary: the largest counts, in the catalogue's order."""
        counts = state[COUNTS]
        return _vocabularies.get(
            counts, self.size, lambda: np.sort(np.argsort(-counts[:, 0], kind="stable")[: self.size])
        )
