"""A shop's check-up: what can keep it from taking part, in order, each with what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hansa.errors import HansaError
from hansa_client.config import ShopSettings, read_settings
from hansa_client.home import ShopHome
from hansa_client.setup.doctor_books import books
from hansa_client.setup.doctor_data import look_at_data
from hansa_client.setup.doctor_network import network
from hansa_client.setup.doctor_worth import versions, worth
from hansa_client.setup.findings import Finding, Fleet, State


def examine(home: ShopHome, fleet: Fleet | None = None) -> Iterator[Finding]:
    """All checks in their order; one that breaks is a finding, not an error.

    Args:
        home: The shop's folder.
        fleet: Asks the coordinator about the key; None: what the shop's own node has noted.
    """
    yield from guarded("network", lambda: network(home, fleet))
    yield from guarded("permissions", lambda: permissions(home))
    settings, finding = _settings(home)
    yield finding
    if settings is not None:
        chosen = settings
        yield from guarded("data", lambda: look_at_data(home, chosen))
        yield from guarded("disk", lambda: disk(home))
        yield from guarded("ledger", lambda: books(home, chosen))
        yield from guarded("versions", versions)
        yield from guarded("worth", lambda: worth(home, chosen))


def guarded(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; an error of it as one of them, in words that name no value of a row."""
    try:
        yield from check()
    except HansaError as error:
        yield Finding(name, "fail", str(error), "see the message")
    except OSError as error:
        yield Finding(name, "fail", error.strerror or type(error).__name__, "see the message")
    except Exception as error:  # its text may hold what is in the data
        yield Finding(name, "fail", f"the check itself failed ({type(error).__name__})", "report it")


def permissions(home: ShopHome) -> Iterator[Finding]:
    """Whether others on this machine could read keys, ledger or customers."""
    private = [home.root]
    for folder in (home.key.parent, home.ledger.parent, home.vault, home.replies):
        private += [folder, *folder.glob("*")] if folder.is_dir() else []
    private += [path for path in (home.settings, home.excluded) if path.exists()]
    root_open = bool(home.root.stat().st_mode & 0o077)
    loose = [path for path in private if path.stat().st_mode & 0o077 and path.suffix != ".pub"]
    keys = [path for path in loose if path.parent in (home.key.parent, home.ledger.parent) and path.is_file()]
    if not loose:
        yield Finding("permissions", "ok", "only its owner can read the shop's folder")
    elif root_open or keys:
        names = ", ".join(str(path.relative_to(home.root.parent)) for path in loose[:3])
        fix = f"chmod -R go= {home.root}"
        yield Finding("permissions", "fail", f"others can read {names} ({len(loose)} in all)", fix)
    else:
        yield Finding("permissions", "ok", "the shop's folder is closed to others, with looser files inside")


def disk(home: ShopHome) -> Iterator[Finding]:
    """Whether there is room for models and replies."""
    import shutil

    free = shutil.disk_usage(home.root).free
    state: State = "fail" if free < 100e6 else "warn" if free < 1e9 else "ok"
    fix = "make room: models and replies need some, and a full disk refuses every release"
    yield Finding("disk", state, f"{free / 1e9:.1f} GB free", "" if state == "ok" else fix)


def _settings(home: ShopHome) -> tuple[ShopSettings | None, Finding]:
    try:
        return read_settings(home.settings), Finding("settings", "ok", f"{home.settings.name} can be read")
    except HansaError as error:
        return None, Finding("settings", "fail", str(error), "hansa client configure")
