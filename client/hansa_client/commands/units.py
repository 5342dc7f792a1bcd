"""``hansa client units``: files that keep a shop going on a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def units(
    out: Annotated[Path, typer.Option(help="The folder to write into.")],
    user: Annotated[str, typer.Option(help="The system's user that the services run as.")] = "hansa",
    program: Annotated[
        str | None, typer.Option(metavar="PATH", help="The program hansa. Default: this one.")
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="The shop's folder. Default: $HANSA_SHOP, else the current one.")
    ] = None,
) -> None:
    """Write systemd units (service, nightly export), container and compose files.

    Examples:

        hansa client units --out units --home /var/lib/hansa
    """
    from hansa.units import own_program, unit_files, write_units
    from hansa_client.home import ShopHome

    folder = ShopHome.found(home).root
    for path in write_units(unit_files("hansa_client", str(folder), program or own_program(), user), out):
        print(path)
