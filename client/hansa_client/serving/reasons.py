"""One short, honest reason for each recommendation, from the customer's own items and the parts of the score.

What each item that the customer has had adds to a score is worked out by the model itself (exactly where it
is linear in the history, else by leaving items out); what is left of the score is popularity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hansa.metrics import Scores
from hansa.schema import IntArray

Source = Literal["own", "league", "both"]
_SECOND = 1 / 3
"""A second item is named if it adds at least this share of what the first one adds."""
_BOTH = 0.5
"""Both kinds of knowledge carry a score if the smaller part is at least this share of the larger."""
_WHOSE = {
    "own": "own knowledge",
    "league": "the league's knowledge",
    "both": "own and the league's knowledge",
}


@dataclass(frozen=True)
class Reason:
    """Why an item is recommended.

    Attributes:
        because: Positions of one or two items that the customer has had and that add most; empty: popularity.
        source: Whose knowledge carried the score.
        otherwise: The reason where no item is named.
    """

    because: tuple[int, ...]
    source: Source
    otherwise: str = ""

    def text(self, title: Callable[[int], str], words: str = "because of") -> str:
        """One short line.

        Args:
            title: An item's title by its position.
            words: What is said before the titles.
        """
        if not self.because:
            return self.otherwise
        return f"{words} {' and '.join(map(title, self.because))} ({_WHOSE[self.source]})"


@dataclass(frozen=True)
class Parts:
    """One customer's scores of listed items, by where they come from; a part that does not serve is None.

    Attributes:
        own: The own model's part, float32 [listed].
        league: The league's, float32 [listed].
        own_added: What each item had adds to ``own``, float32 [items had, listed].
        league_added: The same for ``league``.
    """

    own: Scores | None
    league: Scores | None
    own_added: Scores | None = None
    league_added: Scores | None = None


def reasons(had: IntArray, listed: IntArray, parts: Parts) -> list[Reason]:
    """The reason of each listed item.

    The items that add most are named if together what the customer has had adds more than popularity does;
    popularity is the reason if it carries more.

    Args:
        had: Positions of what the customer has had, int64 [items had].
        listed: Positions of what is recommended, int64 [listed].
        parts: The parts of the scores.
    """
    zero = np.zeros(len(listed), dtype=np.float32)
    nothing = np.zeros((len(had), len(listed)), dtype=np.float32)
    own, league = (zero if part is None else part for part in (parts.own, parts.league))
    own_added, league_added = (
        nothing if part is None else part for part in (parts.own_added, parts.league_added)
    )
    mine, theirs = own_added.sum(axis=0), league_added.sum(axis=0)
    here, there = own - mine, league - theirs
    added = np.where(had[:, None] == listed, 0, own_added + league_added)  # nothing is a reason for itself
    order = np.argsort(-added, axis=0, kind="stable")[:2]
    best = np.take_along_axis(added, order, axis=0)
    personal = mine + theirs > np.maximum(here + there, 0)
    found = []
    for column in range(len(listed)):
        if not personal[column]:
            found.append(
                popular(
                    None if parts.own is None else float(here[column]),
                    None if parts.league is None else float(there[column]),
                )
            )
            continue
        enough = (best[:, column] > 0) & (best[:, column] >= _SECOND * best[0, column])
        named = tuple(had[order[enough, column]].tolist())
        found.append(Reason(named, _source(float(mine[column]), float(theirs[column])), "had before"))
    return found


def popular(here: float | None, there: float | None) -> Reason:
    """The reason of what is recommended to everybody.

    Args:
        here: What popularity at the shop adds; None: it does not serve.
        there: The same of the league.
    """
    source = "league" if here is None else "own" if there is None else _source(here, there)
    words = {
        "own": "popular here",
        "league": "popular in the league",
        "both": "popular here and in the league",
    }
    return Reason((), source, words[source])


def _source(mine: float, theirs: float) -> Source:
    smaller, larger = sorted((mine, theirs))
    if smaller > 0 and smaller >= _BOTH * larger:
        return "both"
    return "own" if mine >= theirs else "league"
