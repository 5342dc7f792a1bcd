"""What an adversary sees of a whole simulated run: every sum as it is released, and its public state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.dp.private_sum import Release
from hansa.models.base import State
from hansa.plan import Plan
from hansa.records import Answer, Request
from hansa.secagg.masks import add_packed, centre, residue_type


@dataclass(frozen=True)
class View:
    """A sum as the adversary has it.

    Attributes:
        round: From 1.
        release: What was released.
        state: The public state that it was computed at.
        total: float64 [rows, width].
        shops: Whose customers are in it.
    """

    round: int
    release: Release
    state: State
    total: npt.NDArray[np.float64]
    shops: tuple[int, ...]


@dataclass
class Watch:
    """What an adversary sees of a run: what shops send, or with ``central`` the coordinator's noisy sums.

    Attributes:
        plan: As the apps of this process have it.
        honest: Shops whose secrets the adversary has not.
        views: What was seen.
    """

    plan: Plan
    honest: tuple[int, ...]
    views: list[View] = field(default_factory=list)
    _parts: dict[int, list[tuple[int, Any]]] = field(default_factory=dict)
    _states: dict[int, State] = field(default_factory=dict)

    def look(self, shop: int, request: Request, answer: Answer) -> None:
        """See a shop's answer; see ``hansa_simulations.engine.watched``."""
        self._states[request.round] = request.state
        sent = answer.residues if answer.release is None else answer.release
        self._parts.setdefault(request.round, []).append((shop, sent))

    def watch_coordinator(self) -> None:
        """See the sums that the coordinator's method is given."""
        learner = self.plan.learner
        update = learner.update

        def seen(round_: int, release: Release, state: State, sum_: Any, memory: Any) -> State:
            table = sum_.total.astype(np.float64)
            self.views.append(View(round_, release, state, table, self.honest))
            return update(round_, release, state, sum_, memory)

        object.__setattr__(learner, "update", seen)  # of this run's plan alone

    def finish(self) -> list[View]:
        """All views, once the run is over."""
        if self.plan.dp == "central":
            return self.views
        for round_, parts in sorted(self._parts.items()):
            release, state = self.plan.releases[round_ - 1], self._states[round_]
            if self.plan.dp == "distributed":
                sent = [words for shop, words in parts if shop in self.honest and words is not None]
                self.views.append(View(round_, release, state, self._whole(release, sent), self.honest))
            else:
                self.views += [
                    View(round_, release, state, table.astype(np.float64), (shop,))
                    for shop, table in sorted(parts, key=lambda part: part[0])
                    if table is not None and shop in self.honest
                ]
        return self.views

    def _whole(self, release: Release, parts: Sequence[bytes]) -> npt.NDArray[np.float64]:
        bits = self.plan.bits(release)
        words = np.zeros(release.rows * release.width, dtype=residue_type(bits))
        for part in parts:
            add_packed(words, part, bits)
        whole = centre(words, bits).astype(np.float64) * release.shared_mechanism.quantum
        return whole.reshape(release.rows, release.width)
