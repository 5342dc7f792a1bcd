"""A report as one page to read: no network, no scripts, prints on A4. What is None is shown as missing.

All text of a report comes from others. It is escaped, its invisible and direction-changing characters are
shown as codes, and the page forbids itself to load or run anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context as Page
from markupsafe import Markup

from hansa.audit import plots
from hansa.audit.document import Evidence, Report, Statement
from hansa.audit.grouping import by_run, equal_caps, equal_members, growth, without_keys
from hansa.audit.plots import in_order
from hansa.audit.wording import PROOF
from hansa.figures import delta_text, epsilon_text

MISSING = Markup('<span class="missing">missing</span>')
_DIGITS = 4
_METRICS = ("ndcg@10", "recall@20", "hr@10")
_NAMED = 12
_FOLDED = 300  # rows above which a table is cut; the document has all

KINDS = {
    "shop": ("A shop's budget", "signed with the key of the shop's ledger"),
    "federation": ("A federation", "signed with the coordinator's key"),
    "simulation": ("A simulation", "signed with a key that was made for the run and authenticates nobody"),
}


def render(report: Report, sha256: str) -> str:
    """The page of a report; equal reports give equal pages.

    Args:
        report: What is shown. Nothing of it is checked here: that is for ``hansa audit verify``.
        sha256: Hash of the report's file, hex: by it a reader finds the document that the page is of.
    """
    statement = report.statement
    shares = growth(statement.releases)
    by_release = {f"{run}, {release}": value for (run, release), value in shares.items()}
    judged = in_order(statement.accuracy.metrics) if statement.accuracy else []
    by_runs = {run.run: run.epsilon for run in statement.runs if run.epsilon is not None}
    return (
        _environment()
        .get_template("audit.html.j2")
        .render(
            s=statement,
            g=statement.guarantee,
            b=statement.budget,
            signature=report.signature,
            format=report.format,
            hash=sha256,
            kind=KINDS[statement.kind],
            proof=PROOF,
            caps=equal_caps(statement.unit.caps),
            released=by_run(statement.releases),
            by_release=by_release,
            by_runs=by_runs,
            evidence=_inventory(statement.evidence),
            sums=sum(run.charged for run in statement.runs),
            odds=_odds(statement.guarantee.epsilon),
            models=_models(statement),
            members=equal_members(statement.members),
            keyed=[party for party in statement.identity.parties if party.key is not None],
            keyless=without_keys(statement.identity.parties),
            judged=judged,
            measured=sorted({key for _, metrics in judged for key in metrics}, key=_rank),
            refuted=[attack for attack in statement.empirical or [] if attack.broken],
            most=_FOLDED,
            plots={
                name: plot and Markup(plot) for name, plot in _plots(statement, by_release, by_runs).items()
            },
        )
    )


def _plots(
    statement: Statement, by_release: Mapping[str, float], by_runs: Mapping[str, float]
) -> dict[str, str | None]:
    accuracy, attacks = statement.accuracy, statement.empirical
    return {
        "budget": plots.budget_plot(statement.budget),
        "profile": plots.profile_plot(statement.guarantee),
        "spend": plots.spend_plot(by_release or by_runs),
        "attacks": plots.attack_plot(attacks) if attacks else None,
        "accuracy": plots.accuracy_plot(accuracy) if accuracy else None,
    }


@lru_cache(maxsize=1)
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("hansa"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "epsilon": lambda value: None if value is None else epsilon_text(value),
        "delta": lambda value: None if value is None else delta_text(value),
        "left": left_text,
        "moment": moment_text,
        "short": lambda text: None if text is None else f"{text[:12]}…",
        "clock": lambda time: None if time is None else str(moment_text(time)).removesuffix(" UTC"),
        "clip": _clipped,
        "sentence": _sentence,
        "span": span_text,
        "names": _names,
        "percent": lambda value: None if value is None else f"{100 * value:.3g} %",
    }
    found.globals |= {"rows": _rows, "missing": MISSING}
    return found


def shown(value: object) -> object:
    """How a value stands in the page: missing, yes, a number of four digits, or its text made visible."""
    if value is None:
        return MISSING
    if isinstance(value, Markup):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number_text(value)
    return _visible(str(value))


def number_text(value: float) -> str:
    """Four significant digits, without an exponent where that is short."""
    if value and not 1e-4 <= abs(value) < 1e7:
        figures, power = f"{value:.{_DIGITS - 1}e}".split("e")
        return f"{figures.rstrip('0').rstrip('.')}e{int(power)}"
    if value == int(value):
        return f"{int(value):,}"
    digits = max(0, _DIGITS - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def left_text(value: float | None) -> str | None:
    """A rest of a budget, rounded down, as what is spent is rounded up."""
    if value is None:
        return None
    return f"{math.floor(round(value * 1000, 6)) / 1000:.10g}"


def moment_text(time: str | None) -> str | None:
    """An ISO time to the minute in UTC; what is none stays as it is."""
    if time is None:
        return None
    try:
        found = datetime.fromisoformat(time)
    except ValueError:
        return time
    if found.tzinfo is None:
        return f"{found:%Y-%m-%d %H:%M}"
    return f"{found.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def span_text(first: object, last: object) -> object:
    """``first`` to ``last``; one of them if they are equal."""
    if first == last:
        return first
    return f"{shown(first) if first is not None else '?'} to {shown(last) if last is not None else '?'}"


def _clipped(text: str, length: int) -> str:
    """At most ``length`` characters, cut behind a word."""
    if len(text) <= length:
        return text
    return text[: text.rfind(" ", 0, length)].rstrip(" ,;:") + "…"


def _sentence(text: str, end: str = ".") -> str:
    """With a capital first and a full stop last."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "…", "!", "?")) else end)


def _names(found: list[str]) -> str:
    """The first of many names."""
    listed = ", ".join(found[:_NAMED])
    return listed if len(found) <= _NAMED else f"{listed} and {len(found) - _NAMED:,} more"


def _visible(text: str) -> str:
    """Control and format characters, which hide or turn text around, as codes; line ends as blanks."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else " " if letter in "\n\r\t" else f"\\u{ord(letter):04x}"
        for letter in text
    )


@pass_context
def _rows(page: Page, found: list[Any]) -> list[Any]:
    """As many rows as a table shows."""
    return found[: page["most"]]


def _rank(metric: str) -> tuple[int, str]:
    return (_METRICS.index(metric) if metric in _METRICS else len(_METRICS)), metric


def _odds(epsilon: float | None) -> list[tuple[str, float]] | None:
    """To what a suspicion of 1, 10 and 50 % can rise at most: odds times e^epsilon (delta aside)."""
    if epsilon is None:
        return None
    grown = math.exp(-min(epsilon, 700.0))
    return [(f"{100 * prior:g} %", prior / (prior + (1 - prior) * grown)) for prior in (0.01, 0.1, 0.5)]


def _models(statement: Statement) -> list[tuple[str, str]]:
    """DP models that occur, with whom they trust, in order."""
    seen: dict[str, str] = {}
    for trust in statement.trust:
        seen.setdefault(trust.dp or "unknown", trust.words)
    return list(seen.items())


def _inventory(evidence: Evidence) -> dict[str, Any]:
    """What the evidence holds, by number and digest."""
    return {
        "ledgers": [
            {
                "shop": ledger.shop,
                "rows": len(ledger.rows),
                "endorsed": ledger.endorsement is not None,
                "last": _digest(ledger.rows[-1].text) if ledger.rows else None,
            }
            for ledger in evidence.ledgers
        ],
        "plans": [_digest(plan) for plan in evidence.plans],
        "rosters": [_digest(roster) for roster in evidence.rosters],
        "statements": len(evidence.statements),
        "receipts": len(evidence.receipts),
        "log": len(evidence.log),
        "log_hash": _digest(evidence.log[-1]) if evidence.log else None,
        "head": evidence.head is not None,
        "omitted": evidence.omitted,
    }


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
