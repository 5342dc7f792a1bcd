"""Files that keep a service going on a machine: systemd's units and a container's, filled in from templates.

Each package has its templates in ``templates/units``; what both sides share lies in this one's ``templates``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path, PurePosixPath

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from hansa import __version__
from hansa.errors import UsageError

_PLAIN = re.compile(r"/[A-Za-z0-9/._@+-]+")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
_FOLDER = "units/"
_ENDING = ".j2"


def own_program() -> str:
    """The program ``hansa`` of this installation."""
    return str(Path(sys.executable).absolute().with_name("hansa"))


def unit_files(package: str, home: str, program: str, user: str) -> dict[str, str]:
    """The files of one side.

    Args:
        package: ``hansa_client`` or ``hansa_server``.
        home: The folder of the shop or the coordinator: all that the service may write to.
        program: The program ``hansa``.
        user: The system's user that the service runs as; nobody else should use it.

    Returns:
        Content by file name.

    Raises:
        UsageError: A value cannot stand in a unit, or names what the units hide from the service.
    """
    for option, path in (("--home", home), ("--program", program)):
        if not _PLAIN.fullmatch(path):
            raise UsageError(f"{option} {path}: units take an absolute path of letters, digits and ._@+-")
        for hidden in _HIDDEN:
            if PurePosixPath(path).is_relative_to(hidden):
                raise UsageError(
                    f"{option} {path}: the units hide {hidden} from the service; use e.g. /var/lib/hansa for "
                    "the folder and /opt/hansa/bin/hansa for the program"
                )
    if not _USER.fullmatch(user):
        raise UsageError(f"--user {user}: no name of a system's user; use e.g. hansa")
    templates = template_environment(package, "hansa")
    values = {
        "home": home,
        "program": program,
        "user": user,
        "version": __version__,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    return {
        name.removeprefix(_FOLDER).removesuffix(_ENDING): templates.get_template(name).render(values)
        for name in templates.list_templates()
        if name.startswith(_FOLDER) and name.endswith(_ENDING)
    }


def template_environment(*packages: str) -> Environment:
    """The templates of these packages; a value that one needs and does not get is an error.

    They are configuration, not HTML: what goes in is checked before, or written by ``tojson``.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def write_units(files: dict[str, str], out: Path) -> list[Path]:
    """Write the files; what is there already is never changed.

    Raises:
        UsageError: A file of another content is there, or the folder cannot be written.
    """
    paths = {out / name: content for name, content in files.items()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, content in paths.items():
            if path.exists() and path.read_text(encoding="utf-8") != content:
                raise UsageError(
                    f"{path}: differs from what would be written; remove it, or give another --out"
                )
        for path, content in paths.items():
            path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--out {out}: {error.strerror or error}; give a folder that can be written"
        ) from error
    return list(paths)
