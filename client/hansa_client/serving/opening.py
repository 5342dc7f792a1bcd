"""From a shop's folder to what serves: what was learnt, the league's model, the weight between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from hansa.errors import UsageError
from hansa.models.own import FittedOwn
from hansa.schema import Catalogue, Histories
from hansa_client.config import ShopSettings, read_settings
from hansa_client.data.catalogue import load_catalogue
from hansa_client.data.loading import load_data
from hansa_client.home import ShopHome
from hansa_client.serving import knowledge
from hansa_client.serving.assortment import Assortment
from hansa_client.serving.knowledge import Knowledge
from hansa_client.serving.lists import Serving, nobody
from hansa_client.serving.vault import Version, in_use

Say = Callable[[str], None]
"""Told what takes a while, one line each."""


@dataclass(frozen=True)
class Counter:
    """Where customers are served.

    Attributes:
        settings: Of ``shop.toml``.
        assortment: The catalogue in the shop's words.
        known: What the shop knows by itself.
        version: The league's model in use; None before the first.
        serving: What answers.
    """

    settings: ShopSettings
    assortment: Assortment
    known: Knowledge
    version: Version | None
    serving: Serving

    def history(self, customer: str) -> Histories:
        """A customer's row; empty of somebody unknown."""
        found = self.known.history(customer)
        return nobody(1, self.serving.n_items) if found is None else found

    @property
    def basis(self) -> str:
        """One line: what serves."""
        model = "" if self.version is None else f"the league's model {self.version.name}"
        newest = self.known.facts.newest
        day = "" if newest is None else f", data up to {datetime.fromtimestamp(newest, UTC):%Y-%m-%d}"
        if self.serving.shared_only:
            return f"{model} and the customer's own history alone"
        if self.version is None:
            return f"the shop's own model alone: no model of the league has arrived yet{day}"
        if self.serving.weight == 0:
            return f"the shop's own model alone: {model} did not convince on held-back interactions{day}"
        share = f"{self.serving.weight:.0%} {model}"
        return f"{share}, {1 - self.serving.weight:.0%} the shop's own{day}"


def open_counter(home: ShopHome, *, shared_only: bool = False, say: Say = lambda line: None) -> Counter:
    """Open what was learnt with the model in use; whatever is missing is worked out first.

    Args:
        home: The shop's folder.
        shared_only: Whether only what is private serves, besides ``serving.shared_only``.
        say: Told what takes a while.

    Raises:
        UsageError: Settings, data or the pinned version cannot be read; or ``shared_only`` before there is a
            model of the league.
        VerificationError: The league's model has been changed since it was received.
    """
    settings = read_settings(home.settings)
    catalogue = load_catalogue(home)
    shared_only = shared_only or settings.serving.shared_only
    version = in_use(home, settings.serving.model)
    if shared_only and version is None:
        raise UsageError(
            "shared-only: no model of the league has arrived yet, so that nothing can serve; "
            "take part in a run, or serve without it"
        )
    known, fitted = knowledge.opened(home, catalogue), None
    if known is None:
        say("reading the shop's data, once; 'hansa client refresh' reads them again")
        data = load_data(home, settings, catalogue=catalogue)
        known, fitted = knowledge.learn(home, data, catalogue, say)
    return _counter(home, settings, catalogue, known, version, shared_only, fitted, say)


def refresh(home: ShopHome, *, say: Say = lambda line: None) -> tuple[Counter, bool]:
    """Read the shop's data anew, fit its own model and choose the weight, unless nothing has changed.

    Returns:
        What serves now, and whether the own model was fitted.

    Raises:
        UsageError: Settings, data or the pinned version cannot be read.
        VerificationError: The league's model has been changed since it was received.
    """
    settings = read_settings(home.settings)
    catalogue = load_catalogue(home)
    version = in_use(home, settings.serving.model)
    say("reading the shop's data")
    data = load_data(home, settings, catalogue=catalogue)
    for line in data.report.lines():
        say(line)
    known, fitted = knowledge.learn(home, data, catalogue, say)
    shared_only = settings.serving.shared_only
    if shared_only and version is None:
        say("shared-only: nothing serves before the league's first model")
    counter = _counter(
        home, settings, catalogue, known, version, shared_only and version is not None, fitted, say
    )
    return counter, fitted is not None


def _counter(
    home: ShopHome,
    settings: ShopSettings,
    catalogue: Catalogue,
    known: Knowledge,
    version: Version | None,
    shared_only: bool,
    fitted: FittedOwn | None,
    say: Say,
) -> Counter:
    assortment = Assortment.read(home, settings.catalogue, catalogue)
    sold = None if assortment.sold.all() else assortment.sold
    own, weight, state = known.own, 0.0, None
    if version is not None:
        if version.plan.n_items != len(catalogue):
            raise UsageError(
                f"model {version.name}: of a catalogue of {version.plan.n_items} items, this shop's has "
                f"{len(catalogue)}; 'hansa client models use' takes another version"
            )
        state = version.load()
        if not shared_only:
            weight, chosen = knowledge.blend_weight(known, version, state, fitted)
            if chosen:
                say(f"model {version.name}: its share of what is served is {weight:.0%}, by held-back data")
    serving = Serving(
        n_items=len(catalogue),
        own=None if shared_only else own,
        method=None if version is None else version.method,
        state=state,
        weight=1.0 if shared_only else weight,
        sold=sold,
        content=own.content,
    )
    return Counter(settings, assortment, known, version, serving)
