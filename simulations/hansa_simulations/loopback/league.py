"""Sets a league up on loopback from empty folders, by the commands that operators would give."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from hansa_simulations.loopback.postgres import PostgreSQL, free_port
from hansa_simulations.loopback.sources import SHOPS, Data, Source, east, make_data, north, south, west

LEAGUE = "grocers"


class CommandError(AssertionError):
    """A command ended in another way than it should have."""


@dataclass
class LoopbackLeague:
    """One coordinator behind nginx, and four shops with a store of data each.

    Attributes:
        folder: For everything; empty or not there.
        customers: Over all shops.
        items: In the catalogue.
        seed: Repeats the data.
        ceiling: Lifetime epsilon of each shop; ``ceilings`` has exceptions by name.
        seconds: What each command took, by its words.
    """

    folder: Path
    customers: int = 600
    items: int = 200
    seed: int = 0
    ceiling: float = 16.0
    ceilings: dict[str, float] = field(default_factory=dict)
    seconds: list[tuple[str, float]] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)

    @property
    def coordinator(self) -> Path:
        """The coordinator's folder."""
        return self.folder / "coordinator"

    def shop(self, name: str) -> Path:
        """A shop's folder."""
        return self.folder / name

    def hansa(self, *arguments: str, expect: int | None = 0, seconds: float = 300.0) -> str:
        """What a command prints on stdout.

        Args:
            arguments: Of ``hansa``.
            expect: The exit code that it must have; None: any.
            seconds: It must end in.

        Raises:
            CommandError: It has another.
        """
        started = time.monotonic()
        done = subprocess.run(
            [str(Path(sys.executable).with_name("hansa")), *arguments],
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=False,
        )
        self.seconds.append((" ".join(arguments[:2]), time.monotonic() - started))
        if expect is not None and done.returncode != expect:
            words = " ".join(arguments)
            raise CommandError(f"hansa {words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout + (done.stderr if expect != 0 else "")

    def server(self, *arguments: str, **how: Any) -> str:
        """A command of the coordinator's."""
        return self.hansa("server", *arguments, "--home", str(self.coordinator), **how)

    def client(self, name: str, *arguments: str, **how: Any) -> str:
        """A command of a shop's."""
        return self.hansa("client", *arguments, "--home", str(self.shop(name)), **how)

    def json(self, text: str) -> Any:
        """What a command with ``--json`` printed."""
        return json.loads(text)

    def stores(self, database: PostgreSQL) -> Data:
        """Make every shop's own store of data, as they have been before anybody heard of Hansa."""
        data = make_data(self.folder / "generated", self.customers, self.items, self.seed)
        for name in SHOPS:
            (self.folder / "stores" / name).mkdir(parents=True)
        place = self.folder / "stores"
        self.sources = {
            "west": west(place / "west", data),
            "north": north(place / "north", data),
            "east": east(place / "east", data, database),
            "south": south(place / "south", data),
        }
        data.catalogue.write_csv(self.folder / "stores" / "catalogue.csv")
        return data

    def found(self) -> None:
        """The coordinator: from nothing to a running server."""
        self.server(
            *("init", "--league", LEAGUE, "--host", f"localhost:{free_port()}"),
            *("--superlink", str(free_port()), "--catalogue", str(self.folder / "stores" / "catalogue.csv")),
            *("--customers", "1000", "--threshold", "3", "--colluders", "1", "--epsilon", "4"),
        )
        self.server("start")

    def join(self, name: str) -> None:
        """One shop: from an invitation to a running client."""
        invitation = self.folder / f"{name}.invite"
        self.server("invite", name, "--out", str(invitation))
        self.client(name, "init", str(invitation))
        ceiling = self.ceilings.get(name, self.ceiling)
        self.client(
            name,
            *("configure", *self.sources[name].options, "--customers", "300", "--epsilon", f"{ceiling:g}"),
            *("--delta", "1e-5", "--dp", "distributed", "--dp", "local", "--plan-epsilon", "8"),
        )
        self.server("admit", str(self.shop(name) / f"{name}.keys.json"))
        self.client(name, "start")

    def vouch(self) -> None:
        """Every operator has compared the fingerprints, and approves the roster."""
        roster = self.folder / "roster.json"
        self.server("roster", "--out", str(roster))
        for name in SHOPS:
            self.client(name, "approvals", "roster", str(roster), "--vouch", ",".join(SHOPS))

    def set_up(self) -> None:
        """All of it."""
        self.found()
        for name in SHOPS:
            self.join(name)
        self.vouch()

    def stop(self) -> None:
        """Stop what runs, whatever state it is in."""
        for name in SHOPS:
            if self.shop(name).exists():
                self.client(name, "stop", expect=None)
        if self.coordinator.exists():
            self.server("stop", expect=None)
        for folder in (self.coordinator, *map(self.shop, SHOPS)):
            self.kill(folder)

    def processes(self, folder: Path, without: str = "") -> list[psutil.Process]:
        """Those that have a folder in their arguments or environment, but the ones called ``without``."""
        wanted, found = str(folder), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                said = process.cmdline() + list(process.environ().values())
                ours = any(word == wanted or word.startswith(f"{wanted}/") for word in said)
                if ours and process.pid != os.getpid() and not (without and without in process.name()):
                    found.append(process)
        return found

    def kill(self, folder: Path, without: str = "") -> int:
        """``kill -9`` the processes of a folder, see ``processes``; how many there were."""
        found = self.processes(folder, without)
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(found, timeout=10)
        return len(found)

    def wait(self, what: str, holds: Any, seconds: float = 120.0) -> Any:
        """Wait until ``holds()`` gives something true, and give it.

        Raises:
            CommandError: It does not.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError, ValueError):
                found = holds()
                if found:
                    return found
            time.sleep(0.3)
        raise CommandError(f"not within {seconds:g} s: {what}")

    def outcome(self, run: str) -> dict[str, Any]:
        """How a run ended."""
        path = self.coordinator / "runs" / run / "outcome.json"
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def rounds(self, run: str) -> list[dict[str, Any]]:
        """The lines of a run's record."""
        path = self.coordinator / "runs" / run / "rounds.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def charges(self, name: str) -> list[dict[str, Any]]:
        """The charges in a shop's ledger, by its own command."""
        file = self.shop(name) / "ledger" / "ledger.sqlite"
        shown = json.loads(self.hansa("client", "ledger", "show", str(file), "--json"))
        return [entry["body"] for entry in shown["entries"] if entry["kind"] == "charge"]


@contextmanager
def loopback_league(folder: Path, **settings: Any) -> Iterator[LoopbackLeague]:
    """A league whose stores are there, coordinator and shops not set up yet; stopped at the end."""
    with ExitStack() as stack:
        database = stack.enter_context(PostgreSQL("the-owners-own"))
        league = LoopbackLeague(folder, **settings)
        stack.callback(league.stop)
        league.stores(database)
        yield league
