"""``dpsgd``: shared item embeddings learnt from noisy gradients, customers' vectors kept at the shop.

A customer's vector follows from the customer's own history and the public item table by a small ridge
regression (the user step of Hu, Koren and Volinsky 2008), so nothing about a customer needs storing or
sending. The item table learns by gradient descent on a softmax loss with that vector held fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from hansa.dp.clipping import Contributions
from hansa.dp.private_sum import Contribution, Release, Table
from hansa.dp.rowwise import Grid, solve
from hansa.memo import Memo
from hansa.metrics import Scores
from hansa.models.base import Method, NoisySum, State, check_range
from hansa.models.coins import coins
from hansa.models.optimizers import Memory, ServerOptimizer
from hansa.models.popularity import COUNTS, MOST_INTERACTIONS, counts_contribution, counts_release
from hansa.models.softmax import Candidates, full_gradient, sampled_gradient
from hansa.rng import Generator, seeded_generator
from hansa.schema import Histories, IntArray

ITEMS = "items"
_MOST_DIMENSIONS = 512
_MOST_STEPS = 100_000  # a plan from elsewhere must not fill a shop's memory


@dataclass(frozen=True)
class _Solver:
    """What every customer's ridge regression shares: the table, its embeddings V, alpha V^T V + lambda I."""

    table: Grid
    embeddings: Grid
    gram: Tensor


@dataclass(frozen=True)
class _Step:
    """What every customer's gradient of a round shares."""

    solver: _Solver
    candidates: Candidates | None


_steps: Memo[_Step] = Memo()
_solvers: Memo[_Solver] = Memo()


@dataclass(frozen=True)
class Factorization(Method):
    """Matrix factorisation with softmax loss; round 1 releases counts, every later round a gradient.

    State: ``items`` float32 [n_items, d + 1], embeddings with the item bias as last column.

    Attributes:
        n_items: Size of the catalogue.
        dimensions: d.
        gradient_rounds: Rounds after the one that releases counts.
        count_share: Share of the budget (of 1 / sigma^2) that the counts get.
        negative_weight: alpha of the ridge regression, the weight of items that a customer has not had.
        ridge: lambda of the ridge regression.
        given_share: Share of a customer's items that give the vector in training, the others are to be
            predicted; 1: all of them do both.
        temperature: Factor of the inner product in the softmax.
        cap: Most interactions of a customer that count, newest first.
        candidates: Items in a softmax beside a customer's own; all of them if the catalogue is no larger.
        sampling_rate: Rate of Poisson sampling of customers.
        local_steps: Private sums that a shop takes locally a round.
        local_rate: Learning rate of those local steps.
        optimizer: The coordinator's optimiser: fedavg, momentum or fedadam.
        rate: Its first learning rate.
        momentum: Its momentum.
    """

    n_items: int
    dimensions: int = 16
    gradient_rounds: int = 30
    count_share: float = 0.1
    negative_weight: float = 0.03
    ridge: float = 1.0
    given_share: float = 1.0
    temperature: float = 1.0
    cap: int = 500
    candidates: int = 8192
    sampling_rate: float = 1.0
    local_steps: int = 1
    local_rate: float = 1.0
    optimizer: str = "scalar-adam"
    rate: float = 0.1
    momentum: float = 0.9
    name: str = "dpsgd"

    def __post_init__(self) -> None:
        for name in ("dimensions", "gradient_rounds", "cap", "candidates", "local_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.cap > MOST_INTERACTIONS:  # else one long history could be more than a shop's memory holds
            raise ValueError(f"cap must be at most {MOST_INTERACTIONS:,}")
        if self.dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"dimensions must be at most {_MOST_DIMENSIONS}")
        if self.gradient_rounds * self.local_steps > _MOST_STEPS:
            raise ValueError(f"gradient_rounds times local_steps must be at most {_MOST_STEPS}")
        check_range(self, 1e-6, 1e6, "negative_weight", "ridge", "rate", "local_rate")
        check_range(self, 1e-3, 1e3, "temperature")
        if not 0 < self.count_share < 1:
            raise ValueError("count_share must lie between 0 and 1")
        if not 0 < self.given_share <= 1:
            raise ValueError("given_share must be above 0 and at most 1")
        if not 0 < self.sampling_rate <= 1:
            raise ValueError("sampling_rate must be above 0 and at most 1")
        if not 0 <= self.momentum < 1:
            raise ValueError("momentum must be at least 0 and below 1")
        _ = self._optimizer

    @property
    def _optimizer(self) -> ServerOptimizer:
        return ServerOptimizer(self.optimizer, self.rate, self.momentum)

    def releases(self) -> list[Release]:
        """Counts once, then gradients, with noise such that the counts get their share of the budget."""
        steps = self.gradient_rounds * self.local_steps
        counts = replace(counts_release(self.n_items), noise_multiplier=self.count_share**-0.5)
        gradient = Release(
            ITEMS,
            rows=self.n_items,
            width=self.dimensions + 1,
            noise_multiplier=self.sampling_rate * (steps / (1 - self.count_share)) ** 0.5,
            sampling_rate=self.sampling_rate,
            steps=self.local_steps,
        )
        return [counts] + [gradient] * self.gradient_rounds

    def initial_state(self, generator: Generator) -> State:
        """Small random embeddings, no bias."""
        items = np.zeros((self.n_items, self.dimensions + 1), dtype=np.float32)
        items[:, :-1] = 0.1 * generator.standard_normal((self.n_items, self.dimensions))
        return {ITEMS: items}

    def state_shapes(self) -> dict[str, tuple[int, int]]:
        """The item table."""
        return {ITEMS: (self.n_items, self.dimensions + 1)}

    def contributor(self, round_: int, release: Release, state: State) -> Contribution:
        """Counts, or the gradient of each customer's softmax loss with respect to the item table.

        One part of a customer's items gives the vector f, the other part is to be predicted, with scores
        s = W [f; 1] over all items but the first part, see ``hansa.models.softmax``. Each customer's
        gradient is normalised, so that every customer uses the whole bound.
        """
        if release.name == COUNTS:
            return lambda histories: counts_contribution(histories, self.cap)
        step = _steps.get(state[ITEMS], (self, round_), lambda: self._step(round_, state[ITEMS]))
        table = step.solver.table

        def gradients(histories: Histories) -> Contributions:
            rows, marks = histories.padded(self.cap)
            items, present = torch.from_numpy(rows), torch.from_numpy(marks)
            given = wanted = present
            if self.given_share < 1:
                given = torch.from_numpy(marks & (coins(round_, rows, marks) < self.given_share))
                wanted = present & ~given
            vectors = self._vectors(step.solver, items, given)
            factors = torch.cat([self.temperature * vectors, vectors.new_ones(len(histories), 1)], dim=1)
            if step.candidates is not None:
                return sampled_gradient(
                    table, step.candidates, factors, items, present, wanted, self.cap
                ).normalised()
            struck = given if self.given_share < 1 else None
            return full_gradient(table, factors, items, struck, wanted).normalised()

        return gradients

    def _step(self, round_: int, items: Table) -> _Step:
        solver = self._solver(items)
        candidates = None
        if self.candidates < self.n_items:
            rows = torch.from_numpy(self._draw(round_))
            position = torch.full((self.n_items,), -1, dtype=torch.int64)
            position[rows] = torch.arange(len(rows))
            candidates = Candidates(rows, position, solver.table.rows(rows))
        return _Step(solver, candidates)

    def update(self, round_: int, release: Release, state: State, sum_: NoisySum, memory: Memory) -> State:
        """Counts set the item biases, their logarithms above a floor of noise; gradients move the table."""
        items = state[ITEMS].copy()
        if release.name == COUNTS:
            logs = np.log(np.maximum(sum_.total[:, 0], max(2 * sum_.noise_deviation, 0.5)))
            items[:, -1] = logs - logs.mean()
        else:
            items -= self._optimizer.step(round_ - 1, self.gradient_rounds, sum_.mean, memory)
        return {ITEMS: items}

    def local_optimizer(self, parameters: list[Parameter]) -> Optimizer:
        """Plain gradient descent."""
        return torch.optim.SGD(parameters, lr=self.local_rate)

    def score(self, state: Mapping[str, Table], histories: Histories) -> Scores:
        """The scores of the softmax, from each customer's own ridge vector."""
        table = torch.from_numpy(state[ITEMS])
        solver = _solvers.get(state[ITEMS], self, lambda: self._solver(state[ITEMS]))
        parts = []
        for chunk in histories.chunks(256):
            items, present = (torch.from_numpy(part) for part in chunk.padded(self.cap))
            vectors = self.temperature * self._vectors(solver, items, present)
            parts.append(torch.addmm(table[:, -1], vectors, table[:, :-1].T))
        return torch.cat(parts).numpy() if parts else np.zeros((0, self.n_items), dtype=np.float32)

    def _solver(self, items: Table) -> _Solver:
        table = Grid.of(torch.from_numpy(items), max(self.cap, self.dimensions + 1))
        embeddings = torch.from_numpy(items)[:, :-1].contiguous()
        gram = self.negative_weight * embeddings.T @ embeddings
        gram += self.ridge * torch.eye(self.dimensions)
        return _Solver(table, table.columns(self.dimensions), gram)

    def _vectors(self, solver: _Solver, items: Tensor, given: Tensor) -> Tensor:
        """Ridge regression of each customer's given items on the embeddings V: float32 [customers, d].

        f = argmin sum_given (1 - v_i f)^2 + alpha sum_all (v_i f)^2 + lambda |f|^2.
        """
        squares, sums = solver.embeddings.moments(items, given)
        return solve(squares.float() + solver.gram, sums.float())

    def _draw(self, round_: int) -> IntArray:
        """The public candidates of a round: drawn without looking at any data."""
        chosen = seeded_generator(round_, "candidates").choice(self.n_items, self.candidates, replace=False)
        return np.sort(chosen).astype(np.int64)
