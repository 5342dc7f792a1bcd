"""Makes a coordinator's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hansa.errors import UsageError
from hansa.reading import read_item_file
from hansa_server.authority import make_authority, make_certificate, server_names
from hansa_server.bundle import build_bundle
from hansa_server.files import make_private, write_private
from hansa_server.home import ServerHome, plain_name
from hansa_server.proxy import write_proxy
from hansa_server.settings import ServerSettings, settings_text


@dataclass(frozen=True)
class League:
    """What a new coordinator's folder is made for.

    Attributes:
        name: The league's name.
        catalogue: CSV file of the public catalogue.
        settings: What goes into ``server.toml``.
    """

    name: str
    catalogue: Path
    settings: ServerSettings


def set_up(home: ServerHome, league: League) -> int:
    """Make a coordinator's folder: keys, certificates, settings, catalogue, proxy configuration, bundle.

    Returns:
        How many items the catalogue has.

    Raises:
        UsageError: There is one already, or the catalogue cannot be used.
    """
    plain_name("--league", league.name)
    if home.settings.exists() or home.authority_key.exists():
        raise UsageError(f"{home.root}: a coordinator's folder already; give another --home")
    content, items = read_catalogue(league.catalogue)
    make_private(home.root)
    home.root.chmod(0o700)
    make_authority(home, league.name)
    make_certificate(home, server_names(league.settings.network.host))
    write_private(home.signer, _new_signer())
    write_private(home.catalogue, content)
    write_private(home.league, league.name + "\n")
    for folder in (home.shops, home.runs, home.models, home.logs, home.flower):
        make_private(folder)
    write_private(home.bundle, build_bundle())
    write_proxy(home, league.settings)
    write_private(home.settings, settings_text(league.settings))  # last: the folder is complete
    return items


def read_catalogue(path: Path) -> tuple[bytes, int]:
    """The bytes of a catalogue and the number of its items, once it is checked.

    Raises:
        UsageError: It cannot be used.
    """
    if path.suffix != ".csv" or not path.is_file():
        raise UsageError(
            f"--catalogue {path}: give a CSV file with a column item_id, and title if there is one"
        )
    content = path.read_bytes()
    items = len(read_item_file(path))
    if items < 2:
        raise UsageError(f"--catalogue {path}: {items} items; it takes 2 or more")
    return content, items


def _new_signer() -> bytes:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
