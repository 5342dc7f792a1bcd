"""A shop as its client sees it, and where the client finds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.dp.ledger import Ledger
from hansa.dp.private_sum import DpModel, PerformanceSettings
from hansa.errors import UsageError
from hansa.models.base import State
from hansa.plan import Plan
from hansa.rng import Source
from hansa.schema import Histories
from hansa.secagg.markers import MarkerMemory, Markers
from hansa.secagg.roster import Member
from hansa_client.replies import NoReplies, Replies


@dataclass
class LocalShop:
    """One shop's private side: its data, its budget and its randomness.

    Attributes:
        name: The shop's name in the league.
        histories: All customers that may be learnt from.
        ledger: What has been spent and may be.
        customers: The round figure that the shop declares as its number of customers.
        allowed: The DP models that the shop takes part in.
        noise: Source of each round's noise; the operating system's entropy but in simulations.
        coins: Source of each round's sampling coins, likewise.
        performance: Settings without influence on privacy.
        plans: The accepted plans by run.
        coordinator: The shop's own name for whoever asks, as its ledger records it.
        member: The shop's own side of the roster with whose shops it masks sums; None: it masks none.
        markers: Which stages of masked rounds it has done.
        unmasked: Whether parts of a shared sum may leave without masks; simulations only.
        replies: What it has sent under ``local``.
        repeats: How many lost rounds of a run it pays for again.
        most: Epsilon that one plan may cost with the rounds that are paid again, at the ceiling's delta.
        key: Its long-term key, by which it stands by the key of its ledger; None in simulations.
        signer: The coordinator's public key, hex, that signs the head of its log; empty: none is looked at.
        receive: Takes a model's card, as JSON, and the model; None: the shop keeps none.
    """

    name: str
    histories: Histories
    ledger: Ledger
    customers: int
    allowed: tuple[DpModel, ...] = ("local",)
    noise: Source = field(default_factory=Source)
    coins: Source = field(default_factory=Source)
    performance: PerformanceSettings = field(default_factory=PerformanceSettings)
    plans: MutableMapping[str, Plan] = field(default_factory=dict)
    coordinator: str = "coordinator"
    member: Member | None = None
    markers: Markers = field(default_factory=MarkerMemory)
    unmasked: bool = False
    replies: Replies = field(default_factory=NoReplies)
    repeats: int = 0
    most: float = float("inf")
    key: Ed25519PrivateKey | None = field(default=None, repr=False)
    signer: str = ""
    receive: Callable[[str, State], None] | None = None


Resolver = Callable[[Mapping[str, object]], LocalShop]
_resolvers: list[Resolver] = []


def provide_shops(resolver: Resolver | None) -> None:
    """Tell the client app of this process how to find its shop from a node's configuration.

    Args:
        resolver: Maps a Flower ``node_config`` to the shop; None to forget.
    """
    _resolvers.clear()
    if resolver is not None:
        _resolvers.append(resolver)


def find_shop(node_config: Mapping[str, object]) -> LocalShop:
    """The shop of the node that a message was sent to.

    Raises:
        UsageError: Nobody has said where it is.
    """
    if not _resolvers:
        raise UsageError("no shop is configured on this node")
    return _resolvers[0](node_config)
