"""``hansa bench secagg``: what masking costs a shop and the coordinator, against sending the vector bare."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hansa.errors import VerificationError
from hansa.records import Answer, answer_to_content
from hansa.rng import system_generator
from hansa_server.sums import TableSum
from hansa_simulations.bench import timing
from hansa_simulations.bench.masked_round import (
    CUSTOMERS,
    ROWS,
    STAGES,
    UPLOAD,
    WIDTH,
    Clock,
    League,
    MaskedRound,
)
from hansa_simulations.parallel import single_threaded

SHOPS, ENTRIES = (10, 100), (100_000, 10_000_000)
WATCHED = 3
SMALL = 1_000
"""Entries of the vectors whose sum is checked."""
PLAIN, MASKED, LOST = "plain float32", "masked", "masked, some lost"


def measure(shops: Sequence[int], entries: Sequence[int], repeats: int) -> timing.Document:
    """Check small sums of every number of shops, and time all sizes.

    Raises:
        UsageError: No secure aggregation is possible of so many shops or numbers.
        VerificationError: A sum was wrong.
    """
    for count in shops:
        for size in entries:
            _ = League(count, size).plan  # refused before anything takes long
    peaks = {size: peaks_of(size) for size in entries}
    cases: list[dict[str, Any]] = []
    with single_threaded():
        for count in shops:
            check(count)
            timing.say(f"{count} shops, {SMALL:,} entries: the sums of the survivors are exact")
            for size in entries:
                cases += _Case(League(count, size)).rows(repeats, peaks[size])
    shape = {"customers": CUSTOMERS, "rows": ROWS, "width": WIDTH, "watched": WATCHED, "small": SMALL}
    return timing.document("secagg", cases, threads=1, repeats=repeats, exact=list(shops), **shape)


def check(shops: int, entries: int = SMALL) -> None:
    """Whether a masked sum is that of the survivors' whole numbers, with everybody and with some lost.

    Raises:
        VerificationError: It is not.
    """
    league = League(shops, entries)
    for lost in ([], lost_of(league)):
        with tempfile.TemporaryDirectory() as folder:
            turn = MaskedRound(league, (), lost, Path(folder), every=True)
            total = turn.run()
        if len(turn.parts) != shops - len(lost) or (total != sum(turn.parts.values())).any():
            raise VerificationError(f"secure aggregation: {shops} shops, {len(lost)} lost: the sum is wrong")


def lost_of(league: League) -> list[str]:
    """A tenth of the shops, the last ones, as far as the threshold allows."""
    most = league.shops - league.plan.threshold
    return list(league.members)[league.shops - min(max(1, league.shops // 10), most) :]


def peaks_of(entries: int) -> dict[str, float]:
    """Most megabytes of a shop and of the coordinator, each beyond public state, in a process of its own."""
    code = f"from hansa_simulations.bench import secagg; secagg.print_peaks({entries})"
    found: dict[str, float] = json.loads(timing.alone(code))
    return found


def print_peaks(entries: int) -> None:
    """The same of this process, which should be a fresh one (Linux)."""
    with tempfile.TemporaryDirectory() as folder, single_threaded():
        for size in (SMALL, entries):  # a first round for what libraries keep for themselves
            league = League(SHOPS[0], size)
            _ = league.members, league.parameters
            turn = MaskedRound(
                league, list(league.members)[:1], (), Path(folder) / str(size), clock=Clock(memory=True)
            )
            turn.run()
    print(json.dumps(turn.clock.peaks))


@dataclass
class _Case:
    """One size: turns of the same vectors sent bare, masked, and masked with some shops lost."""

    league: League
    clocks: dict[str, list[Clock]] = field(default_factory=lambda: {MASKED: [], LOST: []})
    bare: dict[str, list[float]] = field(default_factory=lambda: {"shop": [], "coordinator": []})

    def rows(self, repeats: int, peaks: Mapping[str, float]) -> list[dict[str, Any]]:
        """The document's cases."""
        shops, lost = self.league.shops, lost_of(self.league)
        turns: dict[str, Callable[[], float]] = {PLAIN: self._plain, MASKED: lambda: self._masked(MASKED, [])}
        if lost:
            turns[LOST] = lambda: self._masked(LOST, lost)
        timing.say(f"{shops} shops, {self.league.entries:,} entries")
        timing.interleave(turns, repeats)
        facts = {"items": self.league.entries, "shops": shops, "bits": self.league.bits}
        whole, some = self.clocks[MASKED][1:], self.clocks[LOST][1:]  # without the warm-up
        last = whole[-1]
        found = [
            self._row("shop", PLAIN, self.bare["shop"][1:], facts),
            self._row("shop", MASKED, _shop_totals(whole), facts)
            | {
                "stages": _shop_stages(whole),
                "sent": last.sent,
                "received": last.received,
                "peak_mb": peaks["shop"],
            },
            self._row("coordinator", PLAIN, self.bare["coordinator"][1:], facts),
        ]
        for name, clocks, missing in ((MASKED, whole, 0), (LOST, some, len(lost))):
            if clocks:
                totals = [sum(clock.server.values()) for clock in clocks]
                found.append(
                    self._row("coordinator", name, totals, facts)
                    | {
                        "lost": missing,
                        "stages": {
                            stage: statistics.median(clock.server[stage] for clock in clocks)
                            for stage in STAGES
                        },
                        "peak_mb": peaks["coordinator"],
                    }
                )
        return found

    def _row(self, side: str, way: str, seconds: Sequence[float], facts: Mapping[str, Any]) -> dict[str, Any]:
        median, baseline = statistics.median(seconds), statistics.median(self.bare[side][1:])
        return {
            "name": f"{side}, {way}",
            **facts,
            "seconds": median,
            "ratio": median / baseline,
            "baseline": f"{side}, {PLAIN}",
            "range": [min(seconds), max(seconds)],
        }

    def _plain(self) -> float:
        league = self.league
        mechanism = league.release.shared_mechanism
        table = (league.whole(league.contributions(0)) * mechanism.quantum).astype(np.float32)
        table = table.reshape(league.release.rows, WIDTH)
        started = time.perf_counter()
        answer_to_content(Answer(True, release=table))
        self.bare["shop"].append(time.perf_counter() - started)
        started = time.perf_counter()
        total = TableSum(league.plan, league.release, system_generator())
        for _ in range(league.shops):
            total.add(Answer(True, release=table))
        total.finish(league.shops)
        self.bare["coordinator"].append(time.perf_counter() - started)
        return self.bare["shop"][-1] + self.bare["coordinator"][-1]

    def _masked(self, name: str, lost: Sequence[str]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            turn = MaskedRound(self.league, list(self.league.members)[:WATCHED], lost, Path(folder))
            turn.run()
        self.clocks[name].append(turn.clock)
        return float(statistics.median(_shop_totals([turn.clock])) + sum(turn.clock.server.values()))


def _shop_totals(clocks: Sequence[Clock]) -> list[float]:
    """Seconds of each shop under the clock, all stages together."""
    return [sum(shop) for clock in clocks for shop in zip(*clock.shops.values(), strict=True)]


def _shop_stages(clocks: Sequence[Clock]) -> dict[str, float]:
    """Medians by stage and part of the upload, and of the upload as a whole."""

    def median(*parts: str) -> float:
        shops = (
            sum(shop) for clock in clocks for shop in zip(*(clock.shops[part] for part in parts), strict=True)
        )
        return float(statistics.median(shops))

    found = {stage: median(*(UPLOAD if stage == "upload" else (stage,))) for stage in STAGES}
    return found | {f"upload: {part}": median(part) for part in UPLOAD}


def text(found: timing.Document) -> list[str]:
    """The document as Markdown."""
    rows = found["cases"]
    shops = [row for row in rows if row["name"] == f"shop, {MASKED}"]
    bare = {(row["name"], row["shops"], row["items"]): row["seconds"] for row in rows if PLAIN in row["name"]}
    servers = [row for row in rows if row["name"].startswith("coordinator, masked")]
    parts = [f"upload: {part}" for part in UPLOAD]
    return [
        "# Secure aggregation",
        "",
        f"`hansa bench secagg`: n shops sum a table of d numbers, {found['width']} columns wide; a shop "
        f"has {found['customers']} customers, each with an influence on {found['rows']} rows. Milliseconds, "
        f"medians of {found['repeats']} interleaved turns and, for a shop, {found['watched']} shops. Plain "
        "float32 is the same vector sent bare: packed, and at the coordinator checked and added up in "
        "float64.",
        "",
        "All n shops really go through all stages, and the coordinator really takes n vectors of full length "
        f"and removes all masks: nothing is multiplied. Only {found['watched']} shops form and mask a vector "
        "of their own; the others send one of these again, which costs the coordinator as much. With "
        f"{found['small']:,} numbers all shops form their own, and the sum is exactly that of the survivors' "
        f"whole numbers, with everybody there and with some lost (n {', '.join(map(str, found['exact']))}). "
        "Not counted: the network, Flower, forming contributions, and the ledger's charge.",
        "",
        "## One shop",
        "",
        "Signing, marks on the disk before each stage and keeping secrets between stages included. The "
        "upload's keys: opening envelopes, agreeing on masks and hashing the public state.",
        "",
        *timing.table(
            ("n", "d", *STAGES[:2], "**upload**", *UPLOAD, *STAGES[3:], "all", "plain", "x plain"),
            (
                [
                    *_size(row),
                    *(_ms(row["stages"][stage]) for stage in (*STAGES[:2], "upload", *parts, *STAGES[3:])),
                    *_beside(row, bare),
                ]
                for row in shops
            ),
        ),
        "",
        "## The coordinator",
        "",
        "Lost: shops that drop out after sharing, before their vector arrives; the coordinator then takes "
        "off their masks with every survivor.",
        "",
        *timing.table(
            ("n", "d", "lost", *STAGES, "all", "plain", "x plain"),
            (
                [
                    *_size(row),
                    str(row["lost"]),
                    *(_ms(row["stages"][stage]) for stage in STAGES),
                    *_beside(row, bare),
                ]
                for row in servers
            ),
        ),
        "",
        "## Bytes of one shop",
        "",
        "Sent / received: names, keys, shares, signatures and the vector, without Flower's framing. The "
        "public state, 4 d bytes, comes with the request to upload, as it does without masks.",
        "",
        *timing.table(
            ("n", "d", "bits", *STAGES, "beyond plain"),
            (
                [
                    *_size(row),
                    str(row["bits"]),
                    *(f"{row['sent'][stage]:,} / {row['received'][stage]:,}" for stage in STAGES),
                    f"{sum(row['sent'].values()) + sum(row['received'].values()) - 4 * row['items']:+,}",
                ]
                for row in shops
            ),
        ),
        "",
        "## Peak memory",
        "",
        f"In a process of its own, n {SHOPS[0]}, beyond what was there before the round, the public state "
        "among it; the coordinator's includes one vector that comes in.",
        "",
        *timing.table(
            ("d", "a shop, MB", "the coordinator, MB"),
            (
                [f"{size:,}", f"{shop:.0f}", f"{server:.0f}"]
                for size, shop, server in dict.fromkeys(
                    (row["items"], row["peak_mb"], other["peak_mb"])
                    for row in shops
                    for other in servers
                    if other["items"] == row["items"]
                )
            ),
        ),
        "",
        timing.machine_line(found),
    ]


def _size(row: Mapping[str, Any]) -> list[str]:
    return [str(row["shops"]), f"{row['items']:,}"]


def _beside(row: Mapping[str, Any], bare: Mapping[tuple[str, int, int], float]) -> list[str]:
    plain = bare[row["baseline"], row["shops"], row["items"]]
    return [_ms(row["seconds"]), _ms(plain), f"{row['ratio']:.1f}"]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"
