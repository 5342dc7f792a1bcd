"""A copy of what a shop cannot make anew, in one sealed file, and the shop back from it.

In it: keys, ledger, marks of masked rounds, settings, invitation, authority, catalogue, what the operator has
decided, and files inside the shop's folder that ``shop.toml`` names as mapping or password. Not in it:
customers' data, models, logs, accepted plans and kept replies.

**Guarantee:** nothing is spent or masked twice because of a copy. A restored ledger is refused until it is
reconciled, wherever it lies: its mark names no file. Reconciled against a receipt that is newer than the copy
it is refused; without one it is closed for good. Every run that it knows is over
(``hansa_client.rounds.payment``), so that marks of masked rounds that are as old as the copy can allow none
that may have been done before. Customers' opt-outs are as old as the copy: the shop reads no data until its
operator has said who has opted out since (``hansa_client.data.exclusions``). Assumptions: the receipt is the
last that the coordinator got, and the shop that was copied runs no more.
"""

from __future__ import annotations

import io
import shutil
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath

from hansa.dp.ledger import store
from hansa.dp.ledger.beside import Beside, Mark
from hansa.dp.ledger.check import check
from hansa.durable import sync, write_new, write_whole
from hansa.errors import HansaError, UsageError, VerificationError
from hansa.secagg.markers import MarkerFolder
from hansa_client.config import read_settings
from hansa_client.home import ShopHome
from hansa_client.invited import read_invitation
from hansa_client.keeping.joining import card_path
from hansa_client.keeping.sealing import seal, unseal
from hansa_client.keys import load_key

_NO_FILE = 0
"""No file has this inode."""
_DRAFT = ".restoring"


def save(home: ShopHome, path: Path, passphrase: str) -> list[str]:
    """Write a backup; the shop may run meanwhile.

    Args:
        home: The shop's folder.
        path: A file that is not there yet.
        passphrase: Without it the backup is worth nothing, to anybody.

    Returns:
        Names of the files in it, relative to the shop's folder.

    Raises:
        UsageError: It is no shop's folder, something of it cannot be read, or the backup cannot be written.
        VerificationError: The ledger is damaged; nothing was written.
    """
    read_invitation(home)
    load_key(home)
    if not home.ledger.exists():  # from such a backup a shop that has spent could begin at nothing
        raise UsageError(f"{home.ledger}: no ledger to back up; 'hansa client configure' opens it")
    if path.exists():
        raise UsageError(f"{path}: it is there already; give another name")
    try:
        # The ledger comes last: it knows of every run that a mark is of.
        files = {**dict(_plain_files(home)), **_marks(home), **_ledger(home)}
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        write_whole(path, seal(packed.getvalue(), passphrase))
    except OSError as error:
        raise UsageError(
            f"{error.filename or path}: {error.strerror or error}; no backup was made"
        ) from error
    return list(files)


def restore(path: Path, home: ShopHome, passphrase: str) -> list[str]:
    """Make a shop's folder from a backup.

    Args:
        path: The backup.
        home: A folder that is empty or not there.
        passphrase: That of the backup.

    Returns:
        Names of the files, relative to the folder.

    Raises:
        UsageError: The file is no backup, the folder is not empty, or cannot be written.
        VerificationError: The passphrase is another, or the file was changed.
    """
    try:
        sealed = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give a file of 'hansa client backup'") from error
    files = _unpacked(unseal(sealed, passphrase, str(path)), path)
    made = not home.root.exists()
    draft = home.root / _DRAFT
    moved: list[Path] = []
    try:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(home.root.iterdir()):
            raise UsageError(f"{home.root}: not empty; give another --home")
        home.root.chmod(0o700)
        draft.mkdir(mode=0o700)
        for name, content in files.items():
            _make_folders(draft, draft / name)
            write_new(draft / name, content)
        write_new(draft / home.unconfirmed.name, b"")
        for folder in {draft, *((draft / name).parent for name in files)}:
            sync(folder)
        ready = sorted(draft.iterdir(), key=lambda each: each.name == home.invitation.name)
        for each in ready:  # the invitation is the last: now it is a shop
            target = home.root / each.name
            each.rename(target)
            moved.append(target)
        draft.rmdir()
        for folder in (home.ledger.parent, home.pending, home.models, home.vault):
            folder.mkdir(mode=0o700, exist_ok=True)
        sync(home.root)
    except (OSError, HansaError) as error:
        _undo(home, draft, moved, made)
        if isinstance(error, OSError):
            what = f"{error.filename or home.root}: {error.strerror or error}"
            raise UsageError(f"{what}; nothing was restored") from error
        raise
    return list(files)


def _plain_files(home: ShopHome) -> Iterator[tuple[str, bytes]]:
    """Files that are copied as they are."""
    told = read_invitation(home)
    wanted = [
        home.settings, home.invitation, home.authority, home.catalogue, home.roster, home.excluded,
        home.root / "approved-plans", home.root / "rejected", card_path(home, told.shop),
        *(file for file in sorted(home.key.parent.rglob("*")) if file.is_file()),
        *_named(home),
    ]  # fmt: skip
    for file in dict.fromkeys(wanted):
        if file.exists():
            yield file.relative_to(home.root).as_posix(), file.read_bytes()


def _named(home: ShopHome) -> Iterator[Path]:
    """Files that the settings name and that lie in the shop's folder."""
    if not home.settings.exists():
        return
    settings = read_settings(home.settings)
    if settings.catalogue.mapping is not None:
        yield from _inside(home, home.root / settings.catalogue.mapping)
    kind, _, name = settings.data.password.partition(":")
    if kind == "file":
        yield from _inside(home, home.root / name)


def _inside(home: ShopHome, file: Path) -> Iterator[Path]:
    found, root = file.resolve(), home.root.resolve()
    if found.is_relative_to(root) and found.is_file():
        yield home.root / found.relative_to(root)


def _marks(home: ShopHome) -> dict[str, bytes]:
    if not home.markers.exists():
        return {}
    folder = home.markers.relative_to(home.root).as_posix()
    return {f"{folder}/{name}": content for name, content in MarkerFolder(home.markers).copy().items()}


def _ledger(home: ShopHome) -> dict[str, bytes]:
    """The ledger between two entries, its key, and a mark that fits no file."""
    beside = Beside(home.ledger)
    try:
        with store.reading(home.ledger) as base, closing(sqlite3.connect(":memory:")) as copy:
            base.backup(copy)
            copy.text_factory = bytes
            rows = store.rows(copy)
            content = copy.serialize()
        findings = check(rows, key=beside.read_key().public_key())
        identity = str(rows[0].parse().body["ledger"]) if rows else ""
    except (sqlite3.Error, ValueError, KeyError) as error:
        raise VerificationError(f"{home.ledger}: damaged ({error}); no backup was made") from error
    if findings:
        raise VerificationError(f"{home.ledger}: {findings[0]}; no backup was made")
    mark = Mark(identity, rows[-1].sequence, rows[-1].hash, _NO_FILE)
    files = {
        home.ledger: content,
        beside.key_path: beside.key_path.read_bytes(),
        beside.mark_path: mark.line(),
    }
    return {file.relative_to(home.root).as_posix(): content for file, content in files.items()}


def _unpacked(packed: bytes, source: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for name in files:
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or parts[0] == _DRAFT:
            raise VerificationError(f"{source}: names a file outside of a shop's folder")
    return files


def _make_folders(root: Path, file: Path) -> None:
    for folder in reversed(file.relative_to(root).parents[:-1]):
        (root / folder).mkdir(mode=0o700, exist_ok=True)


def _undo(home: ShopHome, draft: Path, moved: list[Path], made: bool) -> None:
    """Take away what a restoration that failed has made, and only that."""
    for each in reversed(moved):
        shutil.rmtree(each) if each.is_dir() else each.unlink(missing_ok=True)
    if draft.exists():
        shutil.rmtree(draft)
    if made and home.root.exists() and not any(home.root.iterdir()):
        home.root.rmdir()
