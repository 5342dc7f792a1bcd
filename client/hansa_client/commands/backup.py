"""``hansa client backup`` and ``restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa_client.keeping.joining import Home

Passphrase = Annotated[
    str,
    typer.Option(
        metavar="WHERE", help="Where the passphrase is: env:NAME or file:PATH. Default: ask on the terminal."
    ),
]
LEAST = 12
"""Characters of a new passphrase."""


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup; a file that is not there yet.")],
    passphrase: Passphrase = "",
    home: Home = None,
) -> None:
    """Copy keys, ledger, marks, settings and decisions into one encrypted file. The shop may run meanwhile.

    Take one after 'configure', after 'rotate-keys --finish', and after every run: a ledger that is older than
    what the coordinator holds a receipt of cannot be used again. Customers' data and models are not in it.

    Examples:

        hansa client backup corner-0317.backup

        hansa client backup corner.backup --passphrase file:secret.txt
    """
    from hansa_client.home import ShopHome
    from hansa_client.keeping.backup import save

    place = ShopHome.found(home)
    secret = _passphrase(passphrase, new=True)
    names = save(place, file, secret)
    print(f"{file}: {len(names)} files of {place.root}, encrypted; keep the passphrase somewhere else")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of 'hansa client backup'.")],
    home: Annotated[Path, typer.Option("--home", help="A folder that is empty or not there.")],
    passphrase: Passphrase = "",
) -> None:
    """Make a shop's folder from a backup. The shop that was copied must not run any more, anywhere.

    Its ledger is refused until 'hansa client ledger reconcile' has compared it with the last receipt that the
    coordinator holds ('hansa server receipts'). No data are read until 'hansa client exclude' was told who
    has opted out since. Runs that were under way are not continued.

    Examples:

        hansa client restore corner-0317.backup --home corner
    """
    from hansa_client.home import ShopHome
    from hansa_client.keeping import backup

    place = ShopHome.found(home)
    names = backup.restore(file, place, _passphrase(passphrase, new=False))
    print(f"{place.root}: {len(names)} files restored")
    print(
        f"Its ledger is refused until it is reconciled. Get the last receipt from the coordinator\n"
        f"('hansa server receipts', into a file), then\n"
        f"    hansa client ledger reconcile {place.ledger} --receipt FILE\n"
        f"Where there is none: --without-receipt, which counts the whole ceiling as spent, for good\n"
        f"Who has opted out since the backup is not on the list, so the shop reads no data until\n"
        f"    hansa client exclude --file FILE --home {place.root}\n"
        f"or, if nobody has, --confirm in place of --file FILE"
    )
    print("Runs that were under way are over for this shop. Never let the shop that was copied run again.")


def _passphrase(where: str, new: bool) -> str:
    import os
    import sys

    from hansa.errors import UsageError

    kind, _, name = where.partition(":")
    if not where:
        if not sys.stdin.isatty():
            raise UsageError("--passphrase: there is no terminal to ask on; give env:NAME or file:PATH")
        found = str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=new))
    elif kind == "env" and name:
        if name not in os.environ:
            raise UsageError(f"--passphrase: the environment has no {name}; set it for this command")
        found = os.environ[name]
    elif kind == "file" and name:
        try:
            found = Path(name).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise UsageError(f"--passphrase: {name}: {reason}; write the passphrase there") from None
    else:
        raise UsageError("--passphrase: give env:NAME or file:PATH; the passphrase itself would be seen")
    if new and len(found) < LEAST:
        raise UsageError(f"--passphrase: it has fewer than {LEAST} characters; take a longer one")
    return found
