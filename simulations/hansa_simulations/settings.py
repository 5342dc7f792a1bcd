"""Everything that a simulated run is told: the command's options and ``--set section.key=value``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hansa.errors import UsageError
from hansa.plan import Setting
from hansa_simulations.datasets import SYNTHETIC
from hansa_simulations.synthetic_parameters import SyntheticParameters


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSection(_Section):
    """``data.*``: what to keep of the data, and how customers without a shop are dealt.

    Attributes:
        min_rating: Keep interactions rated at least this.
        vocabulary: Keep this many best sellers; 0 keeps every item.
        dealing: ``even``, ``dirichlet`` or ``column:NAME``.
        alpha: Dirichlet concentration.
    """

    min_rating: float | None = None
    vocabulary: int | None = Field(default=None, ge=0)
    dealing: str | None = None
    alpha: float = Field(default=1.0, gt=0)


class ScenarioSection(SyntheticParameters):
    """``scenario.*``: what a scenario is told; all but ``overlap`` is for ``synthetic``.

    Attributes:
        overlap: Of ``journey``, whether a household counts at its home store or at all of them.
    """

    overlap: Literal["home", "all"] = "home"


class BudgetSection(_Section):
    """``budget.*``: the shops' lifetime ceiling; None: the run's epsilon."""

    ceiling: float | None = Field(default=None, gt=0)


class LedgerSection(_Section):
    """``ledger.*``: ``dir`` is a folder where the shops' ledgers outlive the run; None: in memory."""

    dir: Path | None = None


class PrivacySection(_Section):
    """``privacy.*``: public figures that the federation declares.

    Attributes:
        customers: Upper bound on the federation's customers; None: the next round figure above their number.
        max_overlap: Most shops that one person is a customer of; None: as the data has it.
    """

    customers: int | None = Field(default=None, gt=0)
    max_overlap: int | None = Field(default=None, gt=0)


class EngineSection(_Section):
    """``engine.*``: speed and patience; nothing here changes privacy.

    Attributes:
        chunk: Customers whose contributions are formed at a time.
        clipping: ``sparse``, or for comparison Opacus's ``hooks`` or ``ghost``.
        workers: Of ``inprocess``, threads that serve the shops; None: one a core.
        round_timeout: Seconds that all shops together have for a round.
        actors: Of ``ray``, how many processes serve the shops; None: as many as there are CPUs for.
        cpus: Of ``ray``, CPUs an actor.
    """

    chunk: int = Field(default=256, gt=0)
    clipping: Literal["sparse", "hooks", "ghost"] = "sparse"
    workers: int | None = Field(default=None, gt=0)
    round_timeout: float = Field(default=3600.0, gt=0)
    actors: int | None = Field(default=None, gt=0)
    cpus: int = Field(default=1, gt=0)


class SecaggSection(_Section):
    """``secagg.*``: how sums under ``distributed`` noise are made.

    Attributes:
        mode: ``full``: with masks. ``sum``: the same whole numbers without them, which gives the same sum.
        threshold: Fewest shops t in a sum; None: 0.8 n.
        colluders: Most shops k whose noise others may know; None: n / 10.
        drop: Chance that a shop drops out of a round, at a random stage of it.
    """

    mode: Literal["sum", "full"] = "sum"
    threshold: int | None = Field(default=None, gt=0)
    colluders: int | None = Field(default=None, gt=0)
    drop: float = Field(default=0.0, ge=0, lt=1)


class RobustSection(_Section):
    """``robust.*``: ``trim`` is the share of shops cut at each end of every coordinate of a sum."""

    trim: float = Field(default=0.0, ge=0, lt=0.5)


class EvaluationSection(_Section):
    """``evaluation.*``: on whom and on what a run is judged.

    Attributes:
        customers: How many, evenly spread over the shops; None: all.
        tuning: Judge on slices of the training data, and leave the test items out altogether: for choosing
            settings.
    """

    customers: int | None = Field(default=None, gt=0)
    tuning: bool = False


class SimulationSettings(_Section):
    """A whole run; with the same settings and versions it repeats itself."""

    scenario: str = "journey"
    folder: Path | None = None
    shops: int | None = Field(default=None, gt=0)
    method: str = "cooccurrence"
    dp: Literal["distributed", "local", "central", "none"] = "distributed"
    epsilon: float | None = Field(default=4.0, gt=0, allow_inf_nan=False)
    delta: float | None = Field(default=None, gt=0, lt=1)
    rounds: int | None = Field(default=None, gt=0)
    protocol: Literal["last20", "random20", "last1", "loo99"] = "last20"
    references: Literal["all", "none"] = "all"
    engine: Literal["inprocess", "ray"] = "inprocess"
    seed: int = Field(default=0, ge=0)
    seeds: int = Field(default=1, gt=0)
    data: DataSection = DataSection()
    preparation: ScenarioSection = ScenarioSection()
    budget: BudgetSection = BudgetSection()
    ledger: LedgerSection = LedgerSection()
    privacy: PrivacySection = PrivacySection()
    secagg: SecaggSection = SecaggSection()
    robust: RobustSection = RobustSection()
    execution: EngineSection = EngineSection()
    evaluation: EvaluationSection = EvaluationSection()
    hyperparameters: dict[str, Setting] = {}


# Sections as they are typed, and the fields that hold them.
SECTIONS = {
    "data": "data",
    "scenario": "preparation",
    "budget": "budget",
    "ledger": "ledger",
    "privacy": "privacy",
    "secagg": "secagg",
    "robust": "robust",
    "engine": "execution",
    "evaluation": "evaluation",
    "method": "hyperparameters",
}
_OPTIONS = {"folder": "--data"}


def settings_of(result: Path) -> dict[str, Any]:
    """The settings stored in a result.json, to repeat its run.

    Raises:
        UsageError: It cannot be read or holds none.
    """
    try:
        settings = json.loads(result.read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--from {result}: not a readable result.json of hansa simulate") from error
    if not isinstance(settings, dict):
        raise UsageError(f"--from {result}: its settings are not an object")
    return settings


def make_settings(
    options: dict[str, Any], assignments: Sequence[str] = (), defaults: dict[str, Any] | None = None
) -> SimulationSettings:
    """Validate a run's options.

    Args:
        options: Fields of ``SimulationSettings`` by name; None leaves the default.
        assignments: ``section.key=value`` each.
        defaults: Settings of an earlier run, overridden by the others.

    Raises:
        UsageError: Something is unknown or out of range.
    """
    given = dict(defaults or {})
    given.update({name: value for name, value in options.items() if value is not None})
    if options.get("secagg") is not None:
        given["secagg"] = {**(defaults or {}).get("secagg", {}), "mode": options["secagg"]}
    if options.get("scenario") is not None:
        given["folder"] = None
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        section, dot, key = name.partition(".")
        if not separator or not dot or section not in SECTIONS:
            known = ", ".join(f"{name}.*" for name in SECTIONS)
            raise UsageError(f"--set {assignment}: write section.key=value with one of: {known}")
        if section == "scenario" and key in SyntheticParameters.model_fields:
            _only_synthetic(name, given)
        given.setdefault(SECTIONS[section], {})
        given[SECTIONS[section]] = {**given[SECTIONS[section]], key: _value(text)}
    if given.get("dp") == "none":
        given["epsilon"] = None
    try:
        return SimulationSettings.model_validate(given)
    except ValidationError as error:
        raise UsageError(_explain(error)) from error


def _only_synthetic(name: str, given: dict[str, Any]) -> None:
    source = given.get("folder") or given.get("scenario", SimulationSettings().scenario)
    if source != SYNTHETIC:
        raise UsageError(f"--set {name}: {source} is not generated; leave it out, or simulate {SYNTHETIC}")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    typed = {field: section for section, field in SECTIONS.items()}
    if place == ["secagg", "mode"]:
        name = "--secagg"
    elif place[0] in typed:
        name = f"--set {typed[place[0]]}.{'.'.join(place[1:2])}"
    else:
        name = _OPTIONS.get(place[0], f"--{place[0].replace('_', '-')}")
    if first["type"] == "extra_forbidden":
        fields = _section_fields(place[0])
        return f"{name}: unknown setting; use one of: {', '.join(fields)}"
    return f"{name} {first['input']}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _section_fields(field: str) -> list[str]:
    annotation = SimulationSettings.model_fields[field].annotation
    return list(getattr(annotation, "model_fields", {}))
