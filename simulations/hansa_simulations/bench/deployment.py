"""A real league on loopback: how long its first run takes, a round, and what its processes hold."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from threading import Event, Thread
from time import monotonic
from typing import Any

import psutil

from hansa_simulations.bench import timing
from hansa_simulations.loopback.league import LoopbackLeague, loopback_league
from hansa_simulations.loopback.sources import SHOPS

ROLES = {
    "SuperLink": "flower-superlink",
    "ServerApp": "flwr-serverapp",
    "nginx": "nginx",
    "shop: supervisor": "hansa_client.runtime.processes",
    "shop: node": "children node",
    "shop: executor": "children executor",
}
"""What a process is, by what its command line holds."""


def measure(runs: int, customers: int, items: int) -> timing.Document:
    """Set a league of four shops up and run both DP models, watching what its processes hold.

    Args:
        runs: Runs of each DP model that count.
        customers: Over all shops.
        items: In the catalogue.
    """
    with tempfile.TemporaryDirectory(prefix="hansa-deployment-") as folder:
        place = Path(folder)
        with loopback_league(place, customers=customers, items=items, ceiling=1000.0) as league:
            started = monotonic()
            league.set_up()
            timing.say(f"set up in {monotonic() - started:.0f} s")
            watch, trained, first = Watch(league), {}, 0.0
            with watch.running():
                for number in range(runs):
                    for dp in ("distributed", "local"):
                        run = f"{dp}-{number + 1}"
                        begun = monotonic()
                        league.server("train", "--run", run, "--dp", dp, seconds=900)
                        trained[run] = monotonic() - begun
                        first = first or monotonic() - started
                        timing.say(f"run {run} in {trained[run]:.0f} s")
            for name in SHOPS:
                league.client(name, "recommend", "--user", league.sources[name].customer, "--k", "5")
            return _document(league, trained, first, watch, customers, items)


class Watch:
    """Looks at the memory of a league's processes again and again."""

    def __init__(self, league: LoopbackLeague) -> None:
        self._folders = [league.coordinator, *map(league.shop, SHOPS)]
        self._league = league
        self.peaks: dict[tuple[str, int], float] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While the block runs."""
        ended = Event()
        thread = Thread(target=self._look, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _look(self, ended: Event) -> None:
        while not ended.wait(1.0):
            for folder in self._folders:
                for process in self._league.processes(folder):
                    with contextlib.suppress(psutil.Error):
                        said = " ".join(process.cmdline())
                        role = next((role for role, word in ROLES.items() if word in said), None)
                        if role is not None:
                            held = process.memory_info().rss / 2**20
                            key = role, process.pid
                            self.peaks[key] = max(held, self.peaks.get(key, 0.0))


def text(found: timing.Document) -> list[str]:
    """The measurements in Markdown."""
    setup, runs, memory = (
        [case for case in found["cases"] if case["kind"] == kind] for kind in ("command", "run", "memory")
    )
    return [
        "# A league on loopback",
        "",
        f"A coordinator behind nginx, four shops (CSV, Parquet, PostgreSQL, SQLite), {found['customers']:,} "
        f"customers, {found['items']:,} items, all on one machine. "
        f"{found['seconds_to_first_model']:.0f} s of commands from empty folders to the first model at "
        "every shop, first run included. Written by `hansa bench deployment --out benchmarks`.",
        "",
        timing.machine_line(found),
        "",
        "## The set-up",
        "",
        *timing.table(
            ["command", "times", "seconds each"],
            [[case["name"], str(case["items"]), f"{case['seconds']:.1f}"] for case in setup],
        ),
        "",
        "## Runs",
        "",
        "A round is a release of every shop; under `distributed` it takes five exchanges of messages. A node "
        "asks for work once in `network.poll` and answers at a multiple of `network.pace`, both one second.",
        "",
        *timing.table(
            ["DP model", "rounds", "runs", "seconds a run", "seconds a round"],
            [
                [
                    case["name"],
                    str(case["rounds"]),
                    str(case["items"]),
                    f"{case['seconds']:.0f}",
                    f"{case['round']:.1f} ± {case['round_sd']:.1f}",
                ]
                for case in runs
            ],
        ),
        "",
        "## Memory",
        "",
        *timing.table(
            ["process", "of them", "largest peak, MB"],
            [[case["name"], str(case["items"]), f"{case['megabytes']:.0f}"] for case in memory],
        ),
    ]


def _document(
    league: LoopbackLeague,
    trained: dict[str, float],
    first: float,
    watch: Watch,
    customers: int,
    items: int,
) -> timing.Document:
    cases: list[dict[str, Any]] = []
    for name in dict.fromkeys(words for words, _ in league.seconds if words != "server train"):
        taken = [seconds for words, seconds in league.seconds if words == name]
        cases.append(_case("command", name, len(taken), mean(taken)))
    for dp in ("distributed", "local"):
        of_runs = {run: seconds for run, seconds in trained.items() if run.startswith(dp)}
        lines = [line for run in of_runs for line in league.rounds(run) if "round" in line]
        spent = [line["seconds"] for line in lines]
        cases.append(
            {
                **_case("run", dp, len(of_runs), mean(of_runs.values())),
                "rounds": len(lines) // len(of_runs),
                "round": mean(spent),
                "round_sd": stdev(spent),
            }
        )
    for role in ROLES:
        peaks = [peak for (found, _), peak in watch.peaks.items() if found == role]
        if peaks:
            cases.append({**_case("memory", role, len(peaks), None), "megabytes": max(peaks)})
    return timing.document(
        "deployment", cases, 1, customers=customers, items=items, seconds_to_first_model=first
    )


def _case(kind: str, name: str, items: int, seconds: float | None) -> dict[str, Any]:
    return {"kind": kind, "name": name, "items": items, "seconds": seconds, "ratio": None, "baseline": None}
