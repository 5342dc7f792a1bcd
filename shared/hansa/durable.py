"""Files that are on the disk as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """A file that is there as a whole or not at all, on the disk when this returns, for its owner alone."""
    draft = path.with_name(path.name + ".draft")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file for its owner alone, on the disk when this returns.

    What a crash has left of an unfinished line before it is cut off.
    """
    new = not path.exists()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "ab") as file:
        cut_unfinished(path)
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync(path.parent)


def cut_unfinished(path: Path) -> int:
    """Cut off what follows the last newline of a file; how many bytes that was."""
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0 or (file.seek(-1, os.SEEK_END), file.read(1))[1] == b"\n":
            return 0
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        os.fsync(file.fileno())
    return size - whole


def write_new(path: Path, content: bytes) -> None:
    """A new file for its owner alone, on the disk when this returns.

    Raises:
        FileExistsError: It is there.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
