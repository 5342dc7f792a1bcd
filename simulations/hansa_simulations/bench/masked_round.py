"""One round of secure aggregation with a clock on some of its shops and on the coordinator.

All n shops really go through all stages that make, share and reveal keys. Of the big vectors a few are formed
and masked, by the shops under the clock; the others send one of these in place of their own, which costs the
coordinator as much, although the sum is then none.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hansa.dp.clipping import RowContributions
from hansa.dp.integers import residues
from hansa.dp.private_sum import Release
from hansa.dp.rounding import integer_sum
from hansa.errors import UsageError, VerificationError
from hansa.models.base import State
from hansa.plan import Plan, make_plan
from hansa.rng import seeded_generator, system_generator
from hansa.secagg import keys
from hansa.secagg.markers import MarkerFolder, MarkerMemory, Markers
from hansa.secagg.masks import pack
from hansa.secagg.messages import Message, Upload
from hansa.secagg.parameters import RoundParameters
from hansa.secagg.roster import Member, Roster
from hansa.secagg.server import Aggregation
from hansa.secagg.shop import Masks, Round, advertise
from hansa_server.sums import shared_sum
from hansa_simulations.members import simulated_members, simulated_roster
from hansa_simulations.memory import peak_memory, reset_peak_memory

WIDTH, CUSTOMERS, ROWS = 50, 100, 20
"""Columns of the table that is summed; customers a shop, and rows that each of them has an influence on."""
STAGES = ("advertise", "share", "upload", "agree", "unmask")
UPLOAD = ("keys", "rounding and noise", "masks", "packing")
"""Parts of a shop's upload."""
KEYS, NOISE, MASKING, PACKING = UPLOAD
_ROUND = 2  # of gradients, after that of counts


@dataclass(frozen=True)
class League:
    """Shops that all vouch for each other, about to sum a table of gradients.

    Attributes:
        shops: How many (n).
        entries: Numbers in the table (d), a multiple of ``WIDTH``.
    """

    shops: int
    entries: int

    @cached_property
    def plan(self) -> Plan:
        """One release of the table, at the noise of epsilon 8.

        Raises:
            UsageError: Such a league or table is not possible.
        """
        if self.entries < WIDTH or self.entries % WIDTH:
            raise UsageError(f"--entries {self.entries}: use a multiple of {WIDTH}")
        return make_plan(
            run="bench",
            method="dpsgd",
            settings={"dimensions": WIDTH - 1, "gradient_rounds": 1},
            n_items=self.entries // WIDTH,
            dp="distributed",
            epsilon=8.0,
            delta=1e-5,
            shops=self.shops,
            customers=CUSTOMERS * self.shops,
            roster=self.roster.digest,
        )

    @cached_property
    def roster(self) -> Roster:
        """Everybody's long-term keys."""
        return simulated_roster(self.shops, 0)

    @cached_property
    def members(self) -> dict[str, Member]:
        """The shops' own sides, by name."""
        return {member.name: member for member in simulated_members(self.plan, 0)}

    @cached_property
    def release(self) -> Release:
        """The table."""
        return self.plan.releases[_ROUND - 1]

    @cached_property
    def bits(self) -> int:
        """Of the modulus."""
        return self.plan.bits(self.release)

    @cached_property
    def state(self) -> State:
        """What the shops compute from; they check its hash before they upload."""
        return {self.release.name: np.ones((self.release.rows, WIDTH), dtype=np.float32)}

    @cached_property
    def parameters(self) -> RoundParameters:
        """Of the round."""
        return self.plan.parameters(_ROUND, self.state)

    def contributions(self, seed: int) -> RowContributions:
        """Of a shop's customers: normal numbers in a few rows each."""
        generator, entries = seeded_generator(seed, "contributions"), CUSTOMERS * ROWS
        return RowContributions(
            CUSTOMERS,
            torch.arange(CUSTOMERS).repeat_interleave(ROWS),
            torch.from_numpy(generator.integers(0, self.release.rows, entries)),
            torch.from_numpy(generator.standard_normal((entries, WIDTH), dtype=np.float32)),
        )

    def whole(self, contributions: RowContributions) -> npt.NDArray[np.int64]:
        """A shop's part before masking: rounded contributions and its share of the noise, int64 [entries]."""
        total = torch.zeros(self.release.rows, WIDTH, dtype=torch.int64)
        mechanism = self.release.shared_mechanism
        integer_sum([contributions], mechanism, total, system_generator())
        flat: npt.NDArray[np.int64] = total.view(-1).numpy()
        mechanism.add_share(flat, self.plan.honest, system_generator())
        return flat


@dataclass
class Clock:
    """Seconds, bytes and memory of one round.

    Attributes:
        memory: Whether to measure memory too, on Linux, in a process that does nothing else.
        shops: Seconds of each shop under the clock, by stage or part of one.
        server: Seconds of the coordinator by stage.
        sent: Bytes from a shop under the clock, by stage.
        received: Bytes to it.
        peaks: Most megabytes of a shop and of the coordinator, beyond those at the beginning.
    """

    memory: bool = False
    shops: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    server: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    sent: dict[str, int] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _before: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._before = reset_peak_memory() if self.memory else 0.0

    @contextmanager
    def shop(self, stage: str) -> Iterator[None]:
        """Measure what a shop does."""
        with self._measured("shop") as seconds:
            yield
        self.shops[stage] += seconds

    @contextmanager
    def coordinator(self, stage: str) -> Iterator[None]:
        """Measure what the coordinator does."""
        with self._measured("coordinator") as seconds:
            yield
        self.server[stage] += seconds[0]

    @contextmanager
    def _measured(self, side: str) -> Iterator[list[float]]:
        keys.forget_verified()  # others in this process have checked the same signatures
        seconds: list[float] = []
        if self.memory:
            reset_peak_memory()
        started = time.perf_counter()
        yield seconds
        seconds.append(time.perf_counter() - started)
        if self.memory:
            self.peaks[side] = max(self.peaks[side], peak_memory() - self._before)


@dataclass
class MaskedRound:
    """A round, once.

    Attributes:
        league: The shops.
        watched: Those under the clock; they survive.
        lost: Those that drop out after sharing, before their vector arrives.
        folder: Where the shops under the clock mark what they have done, on a disk.
        every: Whether all shops form a vector of their own, so that the sum is one.
    """

    league: League
    watched: Collection[str]
    lost: Collection[str]
    folder: Path
    every: bool = False
    clock: Clock = field(default_factory=Clock)
    parts: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    _kept: dict[str, bytes] = field(default_factory=dict)
    _markers: dict[str, Markers] = field(default_factory=dict)
    _packed: bytes = b""

    def run(self) -> npt.NDArray[np.int64]:
        """All five stages; the sum, int64 [entries]."""
        league, clock = self.league, self.clock
        for name in league.members:
            watched = name in self.watched
            self._markers[name] = MarkerFolder.create(self.folder / name) if watched else MarkerMemory()
        everybody = list(league.members)
        with clock.coordinator("advertise"):
            server = Aggregation(league.parameters, league.roster)
        adverts = self._stage("advertise", everybody, None)
        with clock.coordinator("advertise"):
            _take(server.advert, adverts)
        with clock.coordinator("share"):
            listed = server.adverts()
        envelopes = self._stage("share", everybody, listed)
        with clock.coordinator("share"):
            _take(server.envelopes, envelopes)
        with clock.coordinator("upload"):
            deliveries = server.deliveries()
        left = [shop for shop in everybody if shop not in self.lost]
        for shop in sorted(left, key=lambda name: name not in self.watched):  # the others need a vector
            uploaded = self._upload(shop, deliveries[shop])
            with clock.coordinator("upload"):
                _take(lambda reply: server.upload(*reply), [uploaded])
        with clock.coordinator("agree"):
            survivors = server.survivors()
        agreements = self._stage("agree", left, survivors)
        with clock.coordinator("agree"):
            _take(server.agreement, agreements)
        with clock.coordinator("unmask"):
            agreed = server.agreements()
        shares = self._stage("unmask", left, agreed)
        with clock.coordinator("unmask"):
            _take(server.shares, shares)
            total = server.result()
            shared_sum(league.plan, league.release, total, len(left))
        return total

    def _stage(self, stage: str, shops: Collection[str], request: Message | None) -> list[Any]:
        return [self._answer(stage, shop, request) for shop in shops]

    def _answer(self, stage: str, shop: str, asked: Message | None) -> Any:
        with self._time(shop, stage):
            answer = self._go_on(stage, shop, asked)
        self._count(stage, shop, asked, answer)
        return answer

    def _go_on(self, stage: str, shop: str, asked: Message | None) -> Any:
        """A stage as a shop does it, which keeps bytes between stages."""
        member, markers = self.league.members[shop], self._markers[shop]
        if asked is None:
            kept, answer = advertise(member, markers, self.league.parameters)
        else:
            before, request = (
                Round.from_bytes(self._kept.pop(shop)),
                type(asked).from_fields(asked.to_fields()),
            )
            answer = getattr(before, "open" if stage == "upload" else stage)(member, markers, request)
            if stage == "unmask":
                return answer
            kept, answer = answer
        self._kept[shop] = kept.to_bytes()
        return answer

    def _upload(self, shop: str, delivery: Message) -> tuple[Upload, bytes]:
        league = self.league
        with self._time(shop, KEYS):
            masks: Masks = self._go_on("upload", shop, delivery)
            if shop in self.watched:  # a simulation's other shops need not hash the state again
                league.plan.parameters(_ROUND, league.state)
        if shop in self.watched or self.every:
            contributions = league.contributions(len(self.parts))
            with self._time(shop, NOISE):
                whole = league.whole(contributions)
                words = residues(whole, league.bits)
            if self.every:
                self.parts[shop] = whole
            del whole
            with self._time(shop, MASKING):
                masks.apply(words)
            with self._time(shop, PACKING):
                self._packed = pack(words, league.bits)
        self._count("upload", shop, delivery, masks.upload, self._packed)
        return masks.upload, self._packed

    def _time(self, shop: str, stage: str) -> AbstractContextManager[None]:
        return self.clock.shop(stage) if shop in self.watched else nullcontext()

    def _count(
        self, stage: str, shop: str, asked: Message | None, answer: Message, packed: bytes = b""
    ) -> None:
        """What the stage's message and its reply take, the public state of the upload left out."""
        if shop in self.watched:
            parameters = len(self.league.parameters.to_json())
            self.clock.received[stage] = parameters if asked is None else _size(asked)
            self.clock.sent[stage] = _size(answer) + len(packed)


def _size(message: Message) -> int:
    """Bytes of all names, keys, shares and signatures in a message."""
    parts = message.to_fields().values()
    flat = [each for part in parts for each in (part if isinstance(part, list) else [part])]
    return sum(len(each.encode() if isinstance(each, str) else each) for each in flat)


def _take(take: Callable[..., bool], replies: Iterable[Any]) -> None:
    taken = [take(reply) for reply in replies]
    if not all(taken):
        raise VerificationError("secure aggregation: the coordinator rejects an honest shop")
