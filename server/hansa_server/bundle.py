"""The app bundle that Flower wants with every run: configuration alone, the code is the installed wheel.

It is the same for every league with the same version of Hansa, byte for byte, so a shop that approves its
hash can build it itself. Nothing in it is compressed: bytes of a compressor differ by its version.
"""

from __future__ import annotations

import hashlib
import io
import zipfile

from hansa import __version__
from hansa_server.files import rendered

PROJECT = "pyproject.toml"
_CONTENT = ".info/CONTENT"
_DATE = (2024, 10, 1, 0, 0, 0)


def build_bundle() -> bytes:
    """The bundle of this version of Hansa."""
    project = rendered("bundle.toml.j2", release=__version__).encode()
    content = f"{PROJECT},{hashlib.sha256(project).hexdigest()},{8 * len(project)}"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, written in ((PROJECT, project), (_CONTENT, content.encode())):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = 3  # as on Unix, wherever it is built
            entry.external_attr = 0o600 << 16
            archive.writestr(entry, written)
    return buffer.getvalue()


def bundle_hash(bundle: bytes) -> str:
    """What shops know a bundle by: its SHA-256, hex."""
    return hashlib.sha256(bundle).hexdigest()
