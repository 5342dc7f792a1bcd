"""What interactions look like, in figures that make a generated federation comparable with a real one.

``python -m hansa_simulations.statistics synthetic ml-1m`` prints a Markdown table with a column for each
scenario. The figures are exact and not private, so they are for public and generated data only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from hansa.errors import UsageError
from hansa.metrics import Scorer, evaluate
from hansa.models.ease import EaseProblem
from hansa.models.own import default_regularisation
from hansa.rng import Generator, seeded_generator
from hansa.schema import Histories, stack
from hansa_simulations.federation import DataSettings, Federation, load_federation
from hansa_simulations.references import popularity
from hansa_simulations.settings import make_settings

Floats = npt.NDArray[np.float64]

SPECTRUM_ITEMS = 1_000
"""Best sellers whose co-occurrence is looked at."""
JUDGES = 5_000
"""Most customers that rankings are judged on."""


def statistics(federation: Federation, seed: int = 0) -> dict[str, float]:
    """All figures of a federation, by their names in the table.

    Args:
        federation: Its protocol decides what EASE and popularity are judged on.
        seed: Of the shuffling that gives the spectrum its control.
    """
    train = stack([shop.train for shop in federation.shops])
    held_out = stack([shop.held_out for shop in federation.shops])
    histories = joined(train, held_out)
    counts = np.bincount(histories.items, minlength=histories.n_items)
    lengths = histories.lengths
    shuffled = shuffle(histories, seeded_generator(seed, "statistics"))
    figures: dict[str, float] = {
        "customers": len(histories),
        "items": histories.n_items,
        "shops": len(federation.shops),
        "history length, mean": float(lengths.mean()),
        **{f"history length, {q} %": float(np.quantile(lengths, q / 100)) for q in (10, 50, 90, 99)},
        "share of interactions on the top 1 % of items": top_share(counts, 0.01),
        "share of interactions on the top 10 % of items": top_share(counts, 0.1),
        "Gini coefficient of popularity": gini(counts),
    }
    for name, rows in (("", histories), (", items shuffled", shuffled)):
        spectrum = cooccurrence_spectrum(rows)
        for k in (1, 10, 50):
            figures[f"co-occurrence in the top {k} eigenvalues{name}"] = float(spectrum[:k].sum())
    best = _ndcg(popularity(federation.shops), train, held_out)
    figures["popularity, ndcg@10"] = best
    problem = EaseProblem(train)
    if problem.feasible:
        ease = problem.solve(default_regularisation(train))
        figures["EASE, ndcg@10"] = _ndcg(ease.score, train, held_out)
        figures["EASE / popularity"] = figures["EASE, ndcg@10"] / best
    parts = [joined(shop.train, shop.held_out) for shop in federation.shops]
    figures["F_ST between shops"] = fixation_index(parts)
    figures["sd of the logarithm of shop sizes"] = float(np.std(np.log([len(part) for part in parts])))
    figures["share of people in several shops"] = federation.overlapping_users / federation.users
    return figures


def joined(first: Histories, second: Histories) -> Histories:
    """Each customer's items of both, those of ``first`` first."""
    items = np.concatenate([first.items, second.items])
    order = np.argsort(np.concatenate([first.rows_index, second.rows_index]), kind="stable")
    return Histories(first.offsets + second.offsets, items[order], first.n_items)


def shuffle(histories: Histories, rng: Generator) -> Histories:
    """Items dealt anew to the same places, which keeps popularity and lengths and ends all co-occurrence.

    What repeats within a customer then is dropped, a little of the most popular.
    """
    return Histories.from_pairs(
        histories.rows_index, rng.permutation(histories.items), len(histories), histories.n_items
    )


def top_share(counts: npt.NDArray[np.int64], share: float) -> float:
    """The part of all interactions that falls on the most popular ``share`` of the items."""
    ordered = np.sort(counts)[::-1]
    return float(ordered[: max(1, round(share * len(counts)))].sum() / counts.sum())


def gini(counts: npt.NDArray[np.int64]) -> float:
    """Gini coefficient: 0 where all items are equally popular, towards 1 where one has everything."""
    ordered = np.sort(counts).astype(np.float64)
    ranks = np.arange(1, len(ordered) + 1)
    return float(((2 * ranks - len(ordered) - 1) * ordered).sum() / (len(ordered) * ordered.sum()))


def cooccurrence_spectrum(histories: Histories, items: int = SPECTRUM_ITEMS) -> Floats:
    """Eigenvalues of the cosine matrix D^-1/2 X'X D^-1/2 of the best sellers, largest first, summing to 1."""
    counts = np.bincount(histories.items, minlength=histories.n_items)
    best = np.argsort(-counts, kind="stable")[:items]
    best = best[counts[best] > 0]
    x = histories.matrix()[:, best]
    gram = (x.T @ x).toarray().astype(np.float64)
    scale = 1 / np.sqrt(counts[best])
    values = torch.linalg.eigvalsh(torch.from_numpy(gram * scale[:, None] * scale)).numpy()[::-1]
    return np.asarray(values / values.sum())


def fixation_index(shops: Sequence[Histories]) -> float:
    """How differently customers of different shops buy: 0 if shops deal from one population, 1 if disjoint.

    F_ST = 1 - H_within / H_between over all items and pairs of shops, where H is the chance that exactly
    one of two customers has had an item, without bias from small shops (Hudson, Slatkin and Maddison,
    Genetics 1992). Shops of a single customer are left out.
    """
    shops = [shop for shop in shops if len(shop) > 1]
    if len(shops) < 2:
        return 0.0
    total, squares, within = np.zeros(shops[0].n_items), 0.0, 0.0
    for shop in shops:
        rate = np.bincount(shop.items, minlength=shop.n_items) / len(shop)
        total += rate
        squares += float(rate @ rate)
        within += 2 * float(rate @ (1 - rate)) * len(shop) / (len(shop) - 1)
    n = len(shops)
    # Over ordered pairs a, b of different shops: the mean of p_a (1 - p_b) + p_b (1 - p_a).
    between = 2 * ((n - 1) * total.sum() - (float(total @ total) - squares)) / (n * (n - 1))
    return float(1 - (within / n) / between)


def _ndcg(scorer: Scorer, train: Histories, held_out: Histories) -> float:
    if len(train) > JUDGES:
        chosen = np.linspace(0, len(train) - 1, JUDGES).astype(np.int64)
        train, held_out = train.select(chosen), held_out.select(chosen)
    return float(np.nanmean(evaluate(scorer, train, held_out)["ndcg@10"]))


def markdown(columns: dict[str, dict[str, float]]) -> str:
    """The table: a row a figure, a column a federation; what a federation lacks stays empty."""
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name in names:
        values = [_shown(figures[name]) if name in figures else "" for figures in columns.values()]
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def _shown(value: float) -> str:
    if value == int(value) and value != 0:
        return f"{int(value):,}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{round(value, 3) + 0.0:.3f}"  # never -0.000


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table for the named scenarios; 2 after an error of the user's."""
    parser = argparse.ArgumentParser(prog="python -m hansa_simulations.statistics", description=__doc__)
    parser.add_argument("scenarios", nargs="+", metavar="SCENARIO")
    parser.add_argument(
        "--set", action="append", default=[], metavar="scenario.KEY=VALUE", dest="assignments"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    columns = {}
    try:
        for scenario in given.scenarios:
            own = given.assignments if scenario == "synthetic" else []
            settings = make_settings({"scenario": scenario, "seed": given.seed}, own)
            data = DataSettings(synthetic=settings.preparation)
            columns[scenario] = statistics(load_federation(scenario, seed=given.seed, settings=data))
    except UsageError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(markdown(columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
