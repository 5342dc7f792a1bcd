"""``shop.toml``: everything that a shop decides itself. Secrets are never in it, only where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hansa.config import read_toml
from hansa.figures import default_delta

Method = Literal["popularity", "dpsgd", "cooccurrence", "hybrid", "subspace", "dpals"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(_Section):
    """The shop's own names of the columns that are read.

    Attributes:
        customer: Who.
        item: What, in the shop's own codes.
        time: When.
        quantity: How many; rows of 0 or less (returns) are left out. Empty: there is none.
        time_format: ``auto`` (ISO 8601 or epoch seconds), or a format of strftime, e.g. ``%d.%m.%Y %H:%M``.
        timezone: Of times that have none.
    """

    customer: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"
    quantity: str = ""
    time_format: str = "auto"
    timezone: str = "UTC"


class Data(_Section):
    """Where the interactions are.

    Attributes:
        kind: ``csv`` and ``parquet``: a file, or a folder of them; ``sql``: a database.
        path: Of files; relative to the shop's folder.
        separator: Of CSV.
        encoding: Of CSV.
        url: Of a database, as SQLAlchemy writes it, without a password.
        password: Where its password is: ``env:NAME`` or ``file:PATH``; empty: none is needed.
        table: A table or a view; or ``query``.
        query: A SELECT.
        incremental: A column that grows (a number or a time): only rows beyond the last one read are asked
            for. Empty: everything is read anew.
        columns: See ``Columns``.
    """

    kind: Literal["csv", "parquet", "sql"] = "csv"
    path: Path = Path("interactions.csv")
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    url: str = ""
    password: str = Field(default="", pattern=r"^((env|file):.+)?$")
    table: str = ""
    query: str = ""
    incremental: str = ""
    columns: Columns = Columns()

    @model_validator(mode="after")
    def _complete(self) -> Data:
        if self.kind == "sql" and not (self.url and bool(self.table) != bool(self.query)):
            raise ValueError("a database takes url, and either table or query")
        return self


class CatalogueMapping(_Section):
    """How the shop's item codes become items of the shared catalogue.

    Attributes:
        key: The catalogue's column that holds the same codes, e.g. ``item_id`` or ``gtin``.
        mapping: Or a CSV file of the columns ``code`` and ``item_id``; relative to the shop's folder.
    """

    key: str = "item_id"
    mapping: Path | None = None


class BudgetSettings(_Section):
    """The lifetime ceiling.

    Attributes:
        epsilon: Of everything that ever leaves.
        delta: Of the whole lifetime; it cannot be changed later. Default: ``default_delta`` of the customers.
        customers: A round figure that the shop declares as its number of customers; it is public.
    """

    epsilon: float = Field(default=8.0, gt=0, allow_inf_nan=False)
    delta: float = Field(default=1e-5, gt=0, lt=1)
    customers: int = Field(default=1000, gt=0)

    @model_validator(mode="after")
    def _delta_of_customers(self) -> BudgetSettings:
        if "delta" not in self.model_fields_set:
            object.__setattr__(self, "delta", default_delta(self.customers))
        return self

    @property
    def loose(self) -> bool:
        """Whether delta is so large that it would permit to publish a customer now and then in the clear."""
        return self.delta > 1 / self.customers


class Approvals(_Section):
    """What a coordinator may ask for without asking the operator.

    Attributes:
        plans: ``ranges``: plans inside what follows run; ``ask``: each waits for the operator besides.
        dp: DP models; ``central`` and ``none`` are never allowed.
        methods: Methods.
        epsilon: Most that one plan may cost at the ledger's delta, with its lost rounds that are paid again.
            It holds for each plan by itself: many plans may go up to ``budget.epsilon``, the ceiling.
        noise: Least noise multiplier of any release, under ``distributed`` that of the whole noise. A plan
            that samples customers with less probability than delta has a small epsilon with hardly any noise,
            and those few in the clear. Recommended plans have 0.34 or more up to epsilon 16.
        releases: Most private sums of one plan: its rounds, each times its local steps.
        plans_a_day: Most plans that are accepted within 24 hours by the shop's clock; those that the operator
            has approved one by one are not held up.
        repeats: How many lost rounds of one run may be paid again.
        shops: Fewest shops invited, where a shop's part is hidden in a sum.
        bundles: SHA-256 of app bundles, hex. Their code never runs here; the hash only says who asks.
    """

    plans: Literal["ranges", "ask"] = "ranges"
    dp: tuple[Literal["local", "distributed"], ...] = ("distributed",)
    methods: tuple[Method, ...] = ("popularity", "cooccurrence", "hybrid", "subspace", "dpals", "dpsgd")
    epsilon: float = Field(default=6.0, gt=0, allow_inf_nan=False)
    noise: float = Field(default=0.3, gt=0, allow_inf_nan=False)
    releases: int = Field(default=1000, gt=0)
    plans_a_day: int = Field(default=24, ge=0)
    repeats: int = Field(default=2, ge=0)
    shops: int = Field(default=3, ge=1)
    bundles: tuple[Annotated[str, Field(pattern="^[0-9a-f]{64}$")], ...] = ()


class Masking(_Section):
    """The terms on which this shop's part may go into a masked sum; see ``hansa.secagg.roster.Member``.

    Attributes:
        vouched: Shops whose fingerprints the operator has compared.
        threshold: Fewest shops in a sum.
        honest: Fewest honest vouched-for shops in it.
        bits: Narrowest modulus.
        colluders: How many of the vouched-for shops may be curious.
    """

    vouched: tuple[str, ...] = ()
    threshold: int = Field(default=3, ge=1)
    honest: int = Field(default=2, ge=1)
    bits: int = Field(default=8, ge=8, le=64)
    colluders: int = Field(default=1, ge=1)


class Network(_Section):
    """How the node talks.

    Attributes:
        port: Of the node's own interface, on loopback only; 0: any free one.
        pace: Replies leave at whole multiples of this many seconds after the request, so that how long the
            work took tells little; 0: at once.
        poll: Seconds between looks for work.
        megabytes: Most that one message may have; one of a run has no more than what its plan's arrays need.
    """

    port: int = Field(default=0, ge=0, le=65535)
    pace: float = Field(default=1.0, ge=0, le=600, allow_inf_nan=False)
    poll: float = Field(default=1.0, gt=0, le=60, allow_inf_nan=False)
    megabytes: int = Field(default=1024, ge=16)


class Serving(_Section):
    """What customers get.

    Attributes:
        model: The version in use; ``newest``, or one that is pinned.
        keep: Versions that are kept.
        shared_only: Whether only what is private serves: the league's model and the requester's own history.
    """

    model: str = "newest"
    keep: int = Field(default=5, ge=1)
    shared_only: bool = False


class Logs(_Section):
    """What is kept of what the shop's processes write down.

    Attributes:
        megabytes: Of one file; then the next is begun.
        files: Files that are kept, the current one included.
    """

    megabytes: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    files: int = Field(default=5, ge=1, le=1000)


class ShopSettings(_Section):
    """All of ``shop.toml``."""

    version: Literal[1] = 1
    data: Data = Data()
    catalogue: CatalogueMapping = CatalogueMapping()
    budget: BudgetSettings = BudgetSettings()
    approvals: Approvals = Approvals()
    masking: Masking = Masking()
    network: Network = Network()
    serving: Serving = Serving()
    logs: Logs = Logs()


def read_settings(path: Path) -> ShopSettings:
    """Read ``shop.toml``.

    Raises:
        UsageError: It is missing or has a wrong value; the message names the field.
    """
    return read_toml(path, ShopSettings, "'hansa client configure' writes it")
