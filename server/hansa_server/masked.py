"""The coordinator's side of a masked round: five stages, of which the sum over shops comes out."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from hansa.dp.private_sum import Release
from hansa.errors import AbortError, HansaError
from hansa.models.base import NoisySum, State
from hansa.plan import Plan
from hansa.records import Answer, Request
from hansa.secagg.messages import Advert, Agreement, Envelopes, Message, Shares, Upload
from hansa.secagg.roster import Roster
from hansa.secagg.server import Aggregation
from hansa_server.sums import shared_sum

log = logging.getLogger(__name__)

Ask = Callable[[str, Mapping[int, Request]], Iterator[tuple[int, Answer]]]
"""Sends a stage's requests to nodes and hands out their answers."""

M = TypeVar("M", bound=Message)

ATTEMPTS = 3
"""Tries of the stages before the upload, which cost no budget."""


@dataclass
class MaskedSum:
    """A sum that is only ever seen as a whole; see ``RoundSum``.

    Attributes:
        plan: The run's plan.
        round: The round, from 1.
        roster: The shops that may take part.
        ask: Reaches them.
        names: Which shop each node is, where the transport knows; else a shop's signature says who it is.
        said: Why nodes that are not in the sum are not, as far as they said.
        next_attempt: Numbers the tries of this round; no number comes twice, in no process.
    """

    plan: Plan
    round: int
    roster: Roster
    ask: Ask
    names: Mapping[int, str] = field(default_factory=dict)
    next_attempt: Callable[[], int] = field(default_factory=lambda: itertools.count(1).__next__)
    attempt: int = field(init=False, default=0)
    said: dict[int, str] = field(init=False, default_factory=dict)
    _aggregation: Aggregation = field(init=False)
    _nodes: dict[str, int] = field(init=False)

    @property
    def release(self) -> Release:
        """What is released."""
        return self.plan.releases[self.round - 1]

    def begin(self, nodes: list[int], state: State) -> dict[int, Request]:
        """Stages 0 and 1: the requests of the upload, by node.

        Where too few shops got so far, the stages are tried anew: nobody has charged anything yet.

        Raises:
            AbortError: Too few did again and again.
        """
        for tried in range(1, ATTEMPTS + 1):
            self.attempt = self.next_attempt()
            try:
                return self._begin(nodes, state)
            except AbortError as error:
                log.warning("%s", error)
                if tried == ATTEMPTS:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _begin(self, nodes: list[int], state: State) -> dict[int, Request]:
        parameters = self.plan.parameters(self.round, state, self.attempt)
        self._aggregation, self._nodes = Aggregation(parameters, self.roster), {}
        first = Request(self.plan.run, self.round, parameters.to_json(), {})
        for node, answer in self.ask("advertise", dict.fromkeys(nodes, first)):
            advert = self._read(Advert, node, answer)
            if advert is None or self.names.get(node, advert.shop) != advert.shop:
                continue
            if self._aggregation.advert(advert):
                self._nodes[advert.shop] = node
        second = self._request(self._aggregation.adverts().to_fields())
        for node, answer in self.ask("share", dict.fromkeys(self._nodes.values(), second)):
            envelopes = self._read(Envelopes, node, answer)
            if envelopes is not None and self._nodes.get(envelopes.shop) == node:
                self._aggregation.envelopes(envelopes)
        deliveries = self._aggregation.deliveries()
        return {
            self._nodes[shop]: self._request(sent.to_fields(), state) for shop, sent in deliveries.items()
        }

    def add(self, answer: Answer) -> str | None:
        """Stage 2, see ``RoundSum``."""
        upload = _message(Upload, answer)
        if upload is None or answer.residues is None:
            return "malformed release"
        if self._aggregation.upload(upload, answer.residues):
            return None
        return self._aggregation.rejected.get(upload.shop, "malformed release")

    def finish(self, answered: int) -> NoisySum:
        """Stages 3 and 4, see ``RoundSum``.

        Raises:
            AbortError: Too few shops are left; what they have charged is lost.
        """
        listed = self._request(self._aggregation.survivors().to_fields())
        survivors = [self._nodes[shop] for shop in self._aggregation.summed]
        for node, answer in self.ask("agree", dict.fromkeys(survivors, listed)):
            agreement = self._read(Agreement, node, answer)
            if agreement is not None:
                self._aggregation.agreement(agreement)
        agreed = self._aggregation.agreements()
        signers = [self._nodes[shop] for shop in agreed.signers]
        for node, answer in self.ask("unmask", dict.fromkeys(signers, self._request(agreed.to_fields()))):
            shares = self._read(Shares, node, answer)
            if shares is not None and self._nodes.get(shares.shop) == node:
                self._aggregation.shares(shares)
        return shared_sum(self.plan, self.release, self._aggregation.result(), answered)

    def _read(self, kind: type[M], node: int, answer: Answer) -> M | None:
        if not answer.accepted:
            self.said[node] = answer.reason
        return _message(kind, answer)

    def _request(self, fields: Mapping[str, object], state: State | None = None) -> Request:
        return Request(self.plan.run, self.round, "", state or {}, fields)


def _message(kind: type[M], answer: Answer) -> M | None:
    """The message in an answer; None for a refusal and for what is malformed."""
    if not answer.accepted:
        log.debug("%s: %s", kind.__name__, answer.reason)
        return None
    try:
        return kind.from_fields(answer.fields)
    except (HansaError, TypeError):
        return None
