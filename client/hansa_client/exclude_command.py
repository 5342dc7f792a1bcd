"""``hansa client exclude``: customers who opt out, or want to be erased."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[
    Path | None, typer.Option("--home", help="The shop's folder. Default: $HANSA_SHOP, or the current one.")
]
_WARNING = (
    "What has left before stays: the league's models hold it under the privacy that it had then, and it "
    "cannot be taken out. Erase the customer in the shop's own database, exports and backups yourself."
)


def exclude(
    customers: Annotated[
        list[str] | None, typer.Argument(metavar="[CUSTOMER]...", help="As the shop's data name them.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="Or a file with one customer a line.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the list: keyed hashes, no names.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take customers off the list again.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    home: Home = None,
) -> None:
    """Leave customers out of everything from the next release on, and take them out of what the shop keeps.

    On the disk are keyed hashes only. Names in a command line may end up in the shell's history: --file is
    the better way for more than a test.

    Examples:

        hansa client exclude --file opted-out.txt

        hansa client exclude K1234

        hansa client exclude K1234 --undo

        hansa client exclude --list
    """
    from hansa.errors import UsageError
    from hansa_client import rowcache
    from hansa_client.exclusions import Exclusions, forget
    from hansa_client.home import ShopHome

    place = ShopHome.found(home)
    if not place.root.is_dir():
        raise UsageError(f"{place.root}: no shop's folder; give --home")
    exclusions = Exclusions(place)
    named = _named(customers or [], file)
    if list_ == bool(named):
        raise UsageError("exclude: give customers, or --file FILE, or --list")
    if list_:
        shown = "\n".join([*exclusions.hashes, f"{len(exclusions)} customers are left out"])
        print(json.dumps({"excluded": list(exclusions.hashes)}, indent=2) if json_ else shown)
        return
    if undo:
        changed, gone = exclusions.remove(named), {}
        rowcache.drop(place)  # they are not in it; the next reading asks for everything
    else:
        changed, gone = exclusions.add(named), forget(place, named)
    told = {
        "changed": changed,
        "excluded": len(exclusions),
        "removed": gone,
        "note": "" if undo else _WARNING,
    }
    if json_:
        print(json.dumps(told, indent=2))
    elif undo:
        print(f"{changed} of {len(named)} were on the list and are off it; {len(exclusions)} are left out")
    else:
        rows = sum(gone.values())
        print(
            f"{changed} of {len(named)} are new on the list; {len(exclusions)} are left out from the next "
            f"release on; {rows} entries taken out of what is kept here\n{_WARNING}"
        )


def _named(customers: list[str], file: Path | None) -> list[str]:
    from hansa.errors import UsageError

    named = [name for name in customers if name.strip()]
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text in UTF-8"
            raise UsageError(f"--file {file}: {reason}; write one customer a line") from None
        named += [line for line in lines if line.strip()]
    return named
