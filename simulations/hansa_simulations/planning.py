"""``hansa plan``: public figures in, what to expect of a federation out."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

_WIDTH = 100


def plan(
    shops: Annotated[int, typer.Option(help="Number of shops.")],
    customers: Annotated[int, typer.Option(help="Customers of each shop, a declared round figure.")],
    items: Annotated[int, typer.Option(help="Items in the catalogue.")],
    epsilon: Annotated[float, typer.Option(help="Budget of one training for a customer of one shop.")] = 4.0,
    delta: Annotated[
        float | None, typer.Option(help="Default: min(1e-5, N^-1.1), N the declared customers of all shops.")
    ] = None,
    dp: Annotated[str, typer.Option(help="local, distributed, central or none.")] = "local",
    method: Annotated[
        str, typer.Option(help="cooccurrence, hybrid, dpsgd, popularity or a rival.")
    ] = "cooccurrence",
    lifetime: Annotated[
        int, typer.Option(help="Trainings that a shop's lifetime ceiling is to pay for.")
    ] = 1,
    overlap: Annotated[int, typer.Option(help="Most shops that one person is a customer of.")] = 1,
    history: Annotated[int, typer.Option(help="Different items of a customer, to estimate signals.")] = 20,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="method.KEY=VALUE", help="A hyperparameter.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the answer as one JSON document.")] = False,
) -> None:
    """Say what to expect of a federation before it spends any privacy budget.

    Prints the noise of every release, its epsilon and delta, the signal to expect against the noise, the
    ceiling that a lifetime of trainings needs, and whether joining can pay or what would have to change.
    Only these figures enter, no data. The assumptions are in docs/planning.md. A hopeless plan is an answer
    too: the exit code is 0.

    Examples:

        hansa plan --shops 111 --customers 20 --items 3000 --epsilon 8

        hansa plan --shops 20 --customers 5000 --items 9000 --lifetime 12

        hansa plan --shops 50 --customers 1000 --items 4000 --dp central --json
    """
    from hansa.planner.answer import answer
    from hansa.planner.question import Question

    found = answer(
        Question(
            shops=shops,
            customers=customers,
            items=items,
            epsilon=epsilon,
            delta=delta,
            dp=dp,
            method=method,
            settings=tuple(_setting(assignment) for assignment in set_ or []),
            lifetime=lifetime,
            overlap=overlap,
            history=history,
        )
    )
    typer.echo(json.dumps(found, indent=2, allow_nan=False) if json_ else "\n".join(lines(found)))


def _setting(assignment: str) -> tuple[str, Any]:
    from hansa.errors import UsageError

    name, separator, text = assignment.partition("=")
    section, dot, key = name.partition(".")
    if not separator or not dot or section != "method":
        raise UsageError(f"--set {assignment}: write method.KEY=VALUE")
    try:
        return key, json.loads(text)
    except json.JSONDecodeError:
        return key, text


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The answer of ``hansa.planner.answer.answer`` as text."""
    from hansa_simulations import words

    title = f"{words.count(found['shops'], 'shop')} of {words.count(found['customers_per_shop'], 'customer')}"
    yield f"{title}, {words.count(found['items'], 'item')}; {found['method']}, {found['dp']} DP"
    yield f"  {words.TRUST[found['dp']]}"
    yield ""
    yield from _paragraph("Verdict", f"{_VERDICTS[found['verdict']]} {found['reason']}")
    for number, remedy in enumerate(found["what_would_work"]):
        yield from _paragraph("" if number else "What would", f"- {remedy}")
    yield from _paragraph("Privacy", _privacy(found["privacy"]))
    for release in found["releases"]:
        yield from _paragraph("Noise", _noise(release))
        yield from _paragraph("", _signals(release))
    if found["split"] is not None:
        yield from _paragraph("Split", _split(found["split"]))
    if found["lifetime"] is not None:
        yield from _paragraph("Lifetime", _lifetime(found["lifetime"]))
    yield from _paragraph("Smallest", _smallest(found["payoff"]))
    yield from _paragraph("Half", _half(found["payoff"]))
    for number, assumption in enumerate(found["assumptions"]):
        yield from _paragraph("" if number else "Assumed", f"- {assumption}")


_VERDICTS = {
    "hopeless": "THIS CANNOT WORK.",
    "unlikely": "This is unlikely to pay.",
    "can pay": "This can pay.",
}


def _paragraph(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"{label:<12}", subsequent_indent=" " * 12, break_on_hyphens=False
    )


def _privacy(privacy: Mapping[str, Any] | None) -> str:
    from hansa_simulations import words

    if privacy is None:
        return "none"
    check = privacy["cross_check"]
    text = (
        f"epsilon {words.epsilon_text(privacy['epsilon_spent'])}, delta {words.delta_text(privacy['delta'])} "
        f"for {words.UNIT} (user level; add or remove one) by {privacy['accountant']}; "
        f"{check['accountant']} says {words.epsilon_text(check['epsilon'])}"
    )
    if privacy["max_overlap"] > 1:
        text += (
            f"; {words.epsilon_text(privacy['epsilon_spent_max_overlap'])} for a customer of "
            f"{privacy['max_overlap']} shops"
        )
    return text


def _noise(release: Mapping[str, Any]) -> str:
    from hansa_simulations import words

    often = f", {words.count(release['rounds'], 'round')}" if release["rounds"] > 1 else ""
    sampled = f", each customer with probability {release['sampling_rate']:g}"
    return (
        f"{release['name']} [{release['rows']:,} x {release['width']}]{often}: "
        f"sigma {release['noise_multiplier']:.4g} of a customer's bound"
        + (sampled if release["sampling_rate"] < 1 else "")
        + (f", {release['sums_a_round']} sums a round" if release["sums_a_round"] > 1 else "")
    )


def _signals(release: Mapping[str, Any]) -> str:
    parts = [
        f"{name} {_ratio(release[key])}"
        for name, key in (("of the league", "league"), ("of one shop", "shop"))
        if release[key] is not None
    ]
    text = f"{release['measured_by']}, signal to noise: {', '.join(parts)}"
    if release["shop"] is None:
        text += "; one shop's sum is not released by itself"
    return text


def _ratio(signal: Mapping[str, Any]) -> str:
    from hansa_simulations import words

    if signal["ratio"] is None:
        return "without noise"
    ratio = f"{signal['ratio']:.1f}" if signal["ratio"] < 10 else f"{signal['ratio']:,.0f}"
    visible = signal["items_above_noise"]
    return ratio if visible is None else f"{ratio} ({words.count(visible, 'item')} above twice the noise)"


def _split(split: Mapping[str, Any]) -> str:
    gradients = f"gradients {split['refinement']:.0%}" if split["refinement"] else "nothing for gradients"
    return f"counts {split['counts']:.0%}, pairs {split['pairs']:.0%}, {gradients}: {split['why']}"


def _lifetime(lifetime: Mapping[str, Any]) -> str:
    from hansa_simulations import words

    each, ceiling = words.epsilon_text(lifetime["epsilon_each"]), words.epsilon_text(lifetime["ceiling"])
    at = f"a ceiling of {ceiling} at one delta of {words.delta_text(lifetime['delta'])}"
    if lifetime["trainings"] == 1:
        return f"one training needs {at} (--lifetime N for several)"
    return f"{lifetime['trainings']} trainings at epsilon {each} each need {at}"


def _smallest(payoff: Mapping[str, Any]) -> str:
    parts = []
    for name, kind in payoff["kinds"].items():
        shops, customers = kind["enough"]["shops"], kind["enough"]["customers"]
        told = [f"{shops:,} such shops"] if shops else []
        told += [f"{customers:,} customers a shop in as many shops"] if customers else []
        parts.append(f"{name}: {' or '.join(told) or 'none'}")
    return f"federation in which joining can pay, on data like {'; '.join(parts)}"


def _half(payoff: Mapping[str, Any]) -> str:
    told = []
    for name, kind in payoff["kinds"].items():
        known = {budget: n for budget, n in kind["customers_for_half"].items() if n is not None}
        each = ", ".join(f"{n:,} at epsilon {budget}" for budget, n in known.items())
        told.append(f"{name}: {each or 'no number'}")
    return (
        f"customers in all, with noise once, that keep half of pooling's gain, on data like {'; '.join(told)}"
    )
