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
    confirm: Annotated[
        bool, typer.Option("--confirm", help="After 'restore': nobody has opted out since the backup.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    home: Home = None,
) -> None:
    """Leave customers out of everything from the next release on, and take them out of what the shop keeps.

    On the disk are keyed hashes only. Names in a command line may end up in the shell's history: --file is
    the better way for more than a test. Releases that are kept to be sent again are dropped: one that is
    still to leave would have the customer in it. How many of them the data have is told here only.

    Examples:

        hansa client exclude --file opted-out.txt

        hansa client exclude K1234

        hansa client exclude K1234 --undo

        hansa client exclude --list

        hansa client exclude --confirm
    """
    from hansa.errors import UsageError
    from hansa_client.data import exclusions as listed
    from hansa_client.data import rowcache
    from hansa_client.data.loading import occurring
    from hansa_client.home import ShopHome

    place = ShopHome.found(home)
    if not place.root.is_dir():
        raise UsageError(f"{place.root}: no shop's folder; give --home")
    exclusions = listed.Exclusions(place)
    named = _named(customers or [], file)
    if list_ + confirm + bool(named) != 1:
        raise UsageError("exclude: give customers, or --file FILE, or --list, or --confirm")
    if confirm:
        asked = listed.confirm(place)
        if json_:
            print(json.dumps({"confirmed": asked, "excluded": len(exclusions)}, indent=2))
        else:
            what = "confirmed" if asked else "nothing to confirm"
            print(f"{what}: {len(exclusions)} customers are left out")
        return
    if list_:
        shown = "\n".join([*exclusions.hashes, f"{len(exclusions)} customers are left out"])
        print(json.dumps({"excluded": list(exclusions.hashes)}, indent=2) if json_ else shown)
        return
    if undo:
        changed, gone, seen = exclusions.remove(named), {}, None
        rowcache.drop(place)  # they are not in it; the next reading asks for everything
    else:
        seen = occurring(place, named)
        changed, gone = exclusions.add(named), listed.forget(place, named)
        if file is not None:
            listed.confirm(place)
    told = {
        "changed": changed,
        "excluded": len(exclusions),
        "in_data": seen,
        "removed": gone,
        "note": "" if undo else _WARNING,
    }
    if json_:
        print(json.dumps(told, indent=2))
    elif undo:
        print(f"{changed} of {len(named)} were on the list and are off it; {len(exclusions)} are left out")
    else:
        rows = sum(gone.values())
        known = "the data could not be read" if seen is None else f"the data have {seen} of them"
        print(
            f"{changed} of {len(named)} are new on the list, {known}; {len(exclusions)} are left out from "
            f"the next release on; {rows} entries taken out of what is kept here\n{_WARNING}"
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
