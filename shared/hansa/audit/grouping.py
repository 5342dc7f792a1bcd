"""Thousands of releases as a few lines: equal ones as ranges, without losing one from the count."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby

from hansa.audit.document import Cap, Member, Party, Release

_MOST_LINES = 40  # of a run; above, equal releases are one line wherever they stand
_MOST_SHOPS = 30  # above, shops of which the same is known are one line


@dataclass(frozen=True)
class Line:
    """Equal releases: same name, noise, bound, sampling and reader.

    Attributes:
        first: The earliest.
        last: The latest.
        releases: How many.
        sums: How many private sums in them.
        shops: Fewest and most shops in one; None: not about many.
    """

    first: Release
    last: Release
    releases: int
    sums: int
    shops: tuple[int, int] | None


@dataclass(frozen=True)
class RunReleases:
    """The releases of a run.

    Attributes:
        run: Its name.
        lines: In order of their first.
        releases: How many there are in all lines.
        mixed: A line's releases need not follow one another.
    """

    run: str
    lines: list[Line]
    releases: int
    mixed: bool


def by_run(releases: Sequence[Release]) -> list[RunReleases]:
    """Releases by run, in order of each run's first; equal ones in a row are one line."""
    runs: dict[str, list[Release]] = {}
    for release in releases:
        runs.setdefault(release.run, []).append(release)
    return [_of_run(run, own) for run, own in runs.items()]


def _of_run(run: str, releases: list[Release]) -> RunReleases:
    groups = [list(equal) for _, equal in groupby(releases, _alike)]
    mixed = len(groups) > _MOST_LINES
    if mixed:
        alike: dict[Hashable, list[Release]] = {}
        for release in releases:
            alike.setdefault(_alike(release), []).append(release)
        groups = list(alike.values())
    return RunReleases(run, [_line(group) for group in groups], len(releases), mixed)


def _alike(release: Release) -> Hashable:
    noise = release.mechanism, release.bound, release.sigma, release.multiplier, release.sampling
    return release.release, noise, sums_in(release), release.to


def _line(group: list[Release]) -> Line:
    shops = [release.shops for release in group if release.shops is not None]
    return Line(
        first=group[0],
        last=group[-1],
        releases=len(group),
        sums=sum(map(sums_in, group)),
        shops=(min(shops), max(shops)) if shops else None,
    )


def sums_in(release: Release) -> int:
    """Private sums that a release consists of."""
    return sum(int(part[-1]) for part in release.parts)


def equal_caps(caps: Sequence[Cap]) -> list[tuple[Cap, list[str]]]:
    """Caps of a run that differ by the release's name alone, with these names."""
    same: dict[Hashable, tuple[Cap, list[str]]] = {}
    for cap in caps:
        same.setdefault((cap.run, cap.bound, cap.interactions), (cap, []))[1].append(cap.release)
    return list(same.values())


def growth(releases: Sequence[Release]) -> dict[tuple[str, str], float]:
    """By (run, release): how much the epsilon of what was charged grew with it; empty where unknown."""
    grown: dict[tuple[str, str], float] = {}
    before = 0.0
    for release in releases:
        if release.epsilon_after is None:
            return {}
        name = release.run, release.release or "?"
        grown[name] = grown.get(name, 0.0) + max(0.0, release.epsilon_after - before)
        before = release.epsilon_after
    return grown


def equal_members(members: Sequence[Member]) -> list[list[Member]]:
    """Shops one by one; of many, those with the same figures together."""
    if len(members) <= _MOST_SHOPS:
        return [[member] for member in members]
    same: dict[Hashable, list[Member]] = {}
    for member in members:
        figures = member.epsilon, member.statements, member.answered, member.sequence
        same.setdefault(figures, []).append(member)
    return list(same.values())


def without_keys(parties: Sequence[Party]) -> list[tuple[str, list[str]]]:
    """By role, names of parties whose key is not stated."""
    roles: dict[str, list[str]] = {}
    for party in parties:
        if party.key is None:
            roles.setdefault(party.role, []).append(party.name)
    return list(roles.items())
