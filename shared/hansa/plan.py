"""A run's plan: everything that privacy depends on, fixed before any data is touched."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hansa.config import problem
from hansa.dp.accounting import DpEvent, calibrate, compose
from hansa.dp.private_sum import DpModel, Release
from hansa.errors import UsageError, one_of
from hansa.models.base import Method, State
from hansa.models.cooccurrence import Cooccurrence
from hansa.models.dpals import Dpals
from hansa.models.factorization import Factorization
from hansa.models.hybrid import Hybrid
from hansa.models.popularity import Popularity
from hansa.models.subspace import Subspace
from hansa.secagg.parameters import RoundParameters, check_thresholds, default_threshold

METHODS: dict[str, type[Method]] = {
    "popularity": Popularity,
    "dpsgd": Factorization,
    "cooccurrence": Cooccurrence,
    "hybrid": Hybrid,
    "subspace": Subspace,
    "dpals": Dpals,
}
DP_MODELS: tuple[DpModel, ...] = ("distributed", "local", "central", "none")
Setting = float | int | str


class Plan(BaseModel):
    """What a coordinator asks of the shops, and all that a shop needs to decide and to take part.

    Attributes:
        run: Name of the run; a shop reserves budget for it once.
        method: Name of the method.
        settings: The method's hyperparameters that differ from its defaults.
        n_items: Size of the public catalogue.
        dp: The DP model.
        noise_scale: Factor of the method's relative noise multipliers; 0 without privacy.
        delta: The delta that the epsilon is stated at.
        shops: Number of shops invited.
        customers: Declared upper bound on the federation's customers, a public figure.
        threshold: Of ``distributed``: fewest shops t in a sum; it fails with fewer.
        colluders: Of ``distributed``: most shops k whose shares of the noise may be known to others.
        masked: Of ``distributed``: whether the shops' parts are masked; if not, for simulations only.
        roster: Of a masked league: SHA-256 of its roster, in hexadecimal; else empty.
        trim: Of ``local`` and ``none``: share of the invited shops whose values are cut at each end of every
            coordinate of a sum, so that as many dishonest ones cannot set it; 0 for the plain sum.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(default=1, ge=1, le=1)
    run: str = Field(min_length=1, max_length=128)
    method: str
    settings: dict[str, Setting] = {}
    n_items: int = Field(gt=0, le=10_000_000)
    dp: DpModel
    noise_scale: float = Field(ge=0, allow_inf_nan=False)
    delta: float = Field(gt=0, lt=1)
    shops: int = Field(gt=0)
    customers: int = Field(gt=0)
    threshold: int = Field(default=0, ge=0)
    colluders: int = Field(default=0, ge=0)
    masked: bool = True
    roster: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    trim: float = Field(default=0.0, ge=0, lt=0.5, allow_inf_nan=False)

    @property
    def cut(self) -> int:
        """Shops cut at each end of every coordinate of a sum, see ``shops_cut``."""
        return shops_cut(self.dp, self.shops, self.trim)

    @property
    def honest(self) -> int:
        """Of ``distributed``: shops h whose shares make up the whole noise, t - k."""
        return self.threshold - self.colluders

    def bits(self, release: Release) -> int:
        """Of ``distributed``: width of the modulus of a release, at which its sum does not wrap around."""
        return release.shared_mechanism.bits(self.customers, self.shops / self.honest)

    def parameters(self, round_: int, state: State, attempt: int = 1) -> RoundParameters:
        """Of a masked league: what is public of a round, and signed by everybody."""
        release = self.releases[round_ - 1]
        mechanism = release.shared_mechanism
        return RoundParameters(
            run=self.run,
            round=round_,
            attempt=attempt,
            plan=self.digest,
            roster=self.roster,
            release=release.name,
            entries=mechanism.entries,
            bits=self.bits(release),
            scale=mechanism.scale,
            sensitivity=mechanism.squared,
            sigma=float(release.noise_multiplier),
            threshold=self.threshold,
            honest=self.honest,
            colluders=self.colluders,
            state=digest_of(state),
        )

    @cached_property
    def learner(self) -> Method:
        """The method with this plan's settings."""
        return build_method(self.method, self.n_items, self.settings)

    @cached_property
    def releases(self) -> list[Release]:
        """Every release of the run, one a round, with its noise."""
        noise: Literal["gaussian", "skellam"] = "skellam" if self.dp == "distributed" else "gaussian"
        return [
            replace(release, noise_multiplier=release.noise_multiplier * self.noise_scale, noise=noise)
            for release in self.learner.releases()
        ]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the plan as it travels, in hexadecimal."""
        return sha256(self.model_dump_json().encode()).hexdigest()

    def with_noise(self, scale: float) -> Plan:
        """The same plan with another ``noise_scale``; a copy would keep cached releases."""
        return Plan(**{**self.model_dump(), "noise_scale": scale})

    @cached_property
    def steps(self) -> tuple[DpEvent, ...]:
        """Every private sum that a shop takes, in order."""
        return tuple(release.event for release in self.releases for _ in range(release.steps))

    def event(self, rounds: int | None = None) -> DpEvent:
        """What the first ``rounds`` rounds (all by default) cost a customer of one shop."""
        return compose([release.event for release in self.releases[:rounds] for _ in range(release.steps)])


def digest_of(state: State) -> str:
    """SHA-256 of public state, in hexadecimal."""
    summed = sha256()
    for name, table in sorted(state.items()):
        summed.update(f"{name} {table.shape}\n".encode())
        summed.update(np.ascontiguousarray(table).data)
    return summed.hexdigest()


def build_method(name: str, n_items: int, settings: dict[str, Setting]) -> Method:
    """The method called ``name`` with some of its hyperparameters set.

    Raises:
        UsageError: Unknown method or hyperparameter, or a value of the wrong kind.
    """
    if name not in METHODS:
        raise one_of("method", name, list(METHODS))
    kinds = setting_types(name)
    checked: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in kinds:
            raise one_of(f"method.{key} of {name}", key, sorted(kinds))
        wanted = {"int": int, "float": (int, float), "str": str}.get(str(kinds[key]).split("[")[0], str)
        if not isinstance(value, wanted) or isinstance(value, bool):  # type: ignore[arg-type]
            raise UsageError(f"method.{key}={value!r}: give a value of type {kinds[key]}")
        checked[key] = float(value) if kinds[key] == "float" else value
    try:
        return METHODS[name](n_items=n_items, **checked)  # type: ignore[call-arg]
    except ValueError as error:
        raise UsageError(f"method settings of {name}: {error}") from error


def setting_types(method: str) -> dict[str, Any]:
    """The hyperparameters of a method with their types."""
    return {f.name: f.type for f in fields(METHODS[method]) if f.name not in ("n_items", "name")}  # type: ignore[arg-type]


def make_plan(
    *,
    run: str,
    method: str,
    settings: dict[str, Setting],
    n_items: int,
    dp: DpModel,
    epsilon: float | None,
    delta: float,
    shops: int,
    customers: int,
    threshold: int | None = None,
    colluders: int | None = None,
    masked: bool = True,
    roster: str = "",
    trim: float = 0.0,
) -> Plan:
    """Calibrate the noise so that the whole run costs at most ``epsilon`` at ``delta``.

    Args:
        run: Name of the run.
        method: Name of the method.
        settings: Its hyperparameters.
        n_items: Size of the catalogue.
        dp: The DP model; ``none`` means no noise and no epsilon.
        epsilon: The budget of one customer of one shop, None only with ``none``.
        delta: In (0, 1).
        shops: Number of shops invited.
        customers: Declared upper bound on the federation's customers.
        threshold: Of ``distributed``, see ``Plan``; None: ``default_threshold``.
        colluders: Likewise.
        masked: Likewise.
        roster: Likewise.
        trim: See ``Plan``.

    Raises:
        UsageError: A value is out of range.
    """
    if dp not in DP_MODELS:
        raise one_of("dp", dp, DP_MODELS)
    if not 0 < delta < 1:
        raise UsageError(f"--delta {delta:g}: use a value between 0 and 1, e.g. 1e-5")
    if dp != "none" and (epsilon is None or not (0 < epsilon < math.inf)):
        raise UsageError(f"--epsilon {epsilon}: use a value above 0, e.g. 4, or --dp none for no privacy")
    if dp == "distributed":
        fitting, colluders = default_threshold(shops, colluders)
        threshold = fitting if threshold is None else threshold
    else:
        threshold, colluders, masked, roster = 0, 0, True, ""
    plan = _one_door(
        Plan(
            run=run,
            method=method,
            settings=settings,
            n_items=n_items,
            dp=dp,
            noise_scale=0.0,
            delta=delta,
            shops=shops,
            customers=customers,
            threshold=threshold,
            colluders=colluders,
            masked=masked,
            roster=roster,
            trim=trim,
        )
    )
    if dp == "none" or epsilon is None:
        return plan

    try:
        scale = calibrate(lambda scale: plan.with_noise(scale).event(), epsilon, delta)
        return _one_door(plan.with_noise(scale))
    except ValueError as error:
        raise UsageError(f"--epsilon {epsilon:g}: {error}; use a larger epsilon") from error


@lru_cache(maxsize=4)  # a process that simulates thousands of shops gets the same plan for each of them
def parse_plan(text: str) -> Plan:
    """Read a plan that somebody sent.

    Raises:
        UsageError: It is not a valid plan.
    """
    try:
        plan = Plan.model_validate_json(text)
    except ValidationError as error:
        raise UsageError(f"plan: {problem(error)}") from error
    return _one_door(plan)


def _one_door(plan: Plan) -> Plan:
    """Refuse what a DP model cannot do.

    Local steps on sums whose noise comes later, since where they lead has no bound; under ``distributed``
    also sampling, which no accountant here knows for shared noise, and thresholds that prove nothing. Trimmed
    sums where no single shop's is seen, or where the noise is made for the plain one.
    """
    shops_cut(plan.dp, plan.shops, plan.trim)
    releases = plan.learner.releases()
    if plan.dp in ("central", "distributed") and any(release.steps > 1 for release in releases):
        raise UsageError(f"method.local_steps: {plan.dp} takes one step a round; use 1, or --dp local")
    if plan.dp != "distributed":
        return plan
    if any(release.sampling_rate < 1 for release in releases):
        raise UsageError("method.sampling_rate: distributed noise has no amplification by sampling; use 1")
    check_thresholds(plan.shops, plan.threshold, plan.colluders)
    if plan.masked != bool(plan.roster):
        raise UsageError("plan: roster: a masked league has one, any other has none")
    try:
        for release in plan.releases:
            release.shared_mechanism.share(plan.honest)
            plan.bits(release)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"plan: {release.name}: {error}") from error
    return plan


def shops_cut(dp: str, shops: int, trim: float) -> int:
    """Shops that a trimmed sum cuts at each end of every coordinate: a share of them, rounded down.

    Args:
        dp: The DP model.
        shops: Shops invited; a dishonest one always answers, so it does not matter how many do.
        trim: The share, in [0, 0.5); 0 for the plain sum.

    Raises:
        UsageError: The DP model has nothing to cut from, or none or all of the shops would be cut.
    """
    cut = int(trim * shops + 1e-9)
    if trim == 0:
        return 0
    if dp in _NOTHING_TO_CUT:
        raise UsageError(f"robust.trim {trim:g}: {_NOTHING_TO_CUT[dp]}; use --dp local, or leave it out")
    if not 0 < 2 * cut < shops:
        raise UsageError(
            f"robust.trim {trim:g}: cuts {cut} of {shops} shops at each end; use a share that cuts at least "
            "one and leaves at least one, e.g. 0.1 with 10 shops"
        )
    return cut


_NOTHING_TO_CUT = {
    "central": "the noise of central is calibrated to the plain sum over shops",
    "distributed": "under masks nobody sees what a single shop sends, so none can be cut",
}


def noise_growth(dp: DpModel, shops: int, threshold: int = 0, colluders: int = 0) -> float:
    """How many times the noise of one complete sum a sum over all shops has, as a standard deviation.

    Args:
        dp: The DP model: with ``local`` each shop's noise is complete by itself, with ``distributed`` that of
            ``threshold - colluders`` shops.
        shops: Shops in the sum.
        threshold: Of ``distributed``, see ``Plan``.
        colluders: Likewise.
    """
    shares = {"local": shops, "distributed": shops / max(1, threshold - colluders)}.get(dp, 1)
    return math.sqrt(shares)
