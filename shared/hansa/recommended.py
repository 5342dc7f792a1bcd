"""Hyperparameters for a budget, from public figures alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hansa.dp.private_sum import DpModel
from hansa.errors import UsageError
from hansa.plan import Setting, noise_growth

LARGEST_MATRIX = 10_000
"""Most items of a matrix [items, items]: at this many half of it takes 400 MB while it is summed."""


def epsilon_of_sum(
    epsilon: float | None, dp: DpModel, shops: int, threshold: int, colluders: int
) -> float | None:
    """Roughly the epsilon at which one complete noise would be as large as that of the whole sum.

    Epsilon times noise hardly changes. See ``noise_growth`` for the arguments.
    """
    return None if epsilon is None else epsilon / noise_growth(dp, shops, threshold, colluders)


def recommended_settings(method: str, epsilon: float | None, customers: int) -> dict[str, Setting]:
    """Hyperparameters for a budget, from public figures alone.

    ``dpsgd``: without noise more dimensions and a stricter training pay; with noise fewer do.
    ``cooccurrence``: the noise's spectral radius grows with the root of the vocabulary and the signal sits in
    the best sellers, so the vocabulary grows with the root of customers x epsilon; the same for ``subspace``,
    which without noise takes the whole catalogue, and ``dpals``. The ridge grows with the root of the
    customers, as sampling errors do. How the constants were chosen is in docs/results.md.
    ``hybrid``: that of ``cooccurrence`` and ``refinement_settings``.

    Args:
        method: Name of the method.
        epsilon: Of a sum with one complete noise, see ``epsilon_of_sum``; None without privacy.
        customers: Declared upper bound on the federation's customers.
    """
    if method == "cooccurrence":
        many = math.sqrt(customers / 7_000)
        if epsilon is None:
            ridge = round(7 * many, 1)
            return {"vocabulary": 4_000, "regularisation": ridge, "popularity_weight": 0.0, "nearness": 0.0}
        return {"vocabulary": _vocabulary(epsilon, customers), "regularisation": round(25 * many, 1)}
    if method == "hybrid":
        start = recommended_settings("cooccurrence", epsilon, customers)
        return start | refinement_settings(epsilon, customers)
    if method == "dpals":
        if epsilon is None:
            return {"vocabulary": 4_000, "dimensions": 32, "popularity_weight": 0.0}
        wide = 16 if customers * epsilon > 20_000 else 8
        return {"vocabulary": _vocabulary(epsilon, customers), "dimensions": wide}
    if method == "subspace":
        if epsilon is None:
            return {"dimensions": 256, "regularisation": 100.0, "popularity_weight": 0.0}
        return {"vocabulary": _vocabulary(epsilon, customers)}
    if method == "dpsgd" and epsilon is None:
        return {
            "dimensions": 64,
            "given_share": 0.5,
            "negative_weight": 0.1,
            "ridge": 3.0,
            "temperature": 4.0,
            "optimizer": "fedadam",
        }
    return {}


def _vocabulary(epsilon: float, customers: int) -> int:
    return max(50, round(2.2 * math.sqrt(customers * epsilon)))


REFINEMENT_PAYS = 80_000
"""Customers x epsilon from which ``hybrid`` spends on gradients; below, they cost more than they bring."""


def refinement_settings(epsilon: float | None, customers: int) -> dict[str, Setting]:
    """What ``hybrid`` does beyond ``cooccurrence`` with a budget, from public figures alone.

    Gradients get a twentieth of the budget from ``REFINEMENT_PAYS`` on, and nothing below; the measurements
    are in docs/methods.md. Without noise more dimensions and rounds pay.
    """
    if epsilon is None:
        return {
            "recency": 0.75,
            "refinement_share": 0.5,
            "refinement_rounds": 20,
            "dimensions": 512,
        }
    return {"refinement_share": 0.05 if customers * epsilon >= REFINEMENT_PAYS else 0.0}


def variant(
    method: str, settings: Mapping[str, Setting], n_items: int, epsilon: float | None, customers: int
) -> tuple[str, str | None]:
    """The method that runs, and why it is another than the one asked for; from public figures alone.

    ``cooccurrence`` becomes ``subspace`` where its vocabulary would be above ``LARGEST_MATRIX``: the one
    recommended, or without noise the whole catalogue. A vocabulary in ``settings`` keeps it.
    """
    if method != "cooccurrence" or "vocabulary" in settings:
        return method, None
    fitting = recommended_settings(method, epsilon, customers)["vocabulary"]
    items = n_items if epsilon is None else min(n_items, int(fitting))
    if items <= LARGEST_MATRIX:
        return method, None
    return "subspace", (
        f"method: subspace in place of cooccurrence, whose matrix over {items:,} items would be too large; "
        f"--set method.vocabulary={LARGEST_MATRIX} or fewer keeps cooccurrence"
    )


def rounds_setting(method: str, rounds: int, share: Setting = 0.0) -> dict[str, Setting]:
    """The hyperparameter that makes a method take ``rounds`` rounds in all.

    Args:
        method: Name of the method.
        rounds: Of counts and of everything else.
        share: Of ``hybrid``, the ``refinement_share`` that it would have: without one it takes no gradients.

    Raises:
        UsageError: It cannot take that many.
    """
    if method == "dpsgd":
        if rounds < 2:
            raise UsageError(
                f"--rounds {rounds}: dpsgd needs at least 2, one for counts and one for a gradient"
            )
        return {"gradient_rounds": rounds - 1}
    if method == "hybrid":
        if rounds < 2:
            raise UsageError(f"--rounds {rounds}: hybrid needs at least 2, one for counts and one for pairs")
        if rounds == 2:
            return {"refinement_share": 0.0}
        if not share:
            raise UsageError(
                f"--rounds {rounds}: hybrid takes 2 where gradients get no share of the budget; "
                "--set method.refinement_share=0.05 gives them one"
            )
        return {"refinement_rounds": rounds - 2}
    if method in ("subspace", "dpals"):
        if rounds < 2:
            raise UsageError(f"--rounds {rounds}: {method} needs at least 2, one of them for counts")
        return {"iterations": rounds - 1}
    needed = 2 if method == "cooccurrence" else 1
    if rounds != needed:
        raise UsageError(f"--rounds {rounds}: {method} takes {needed}; leave the option out")
    return {}
