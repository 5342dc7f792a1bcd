"""A PostgreSQL of one's own on loopback, gone when it is stopped."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from hansa.errors import UsageError


def binaries() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``; None where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    on_path = shutil.which("initdb")
    return found[0].parent if found else Path(on_path).resolve().parent if on_path else None


class PostgreSQL:
    """A cluster in a temporary folder, on a free port of loopback; its owner is ``owner`` with a password.

    As root the folder belongs to the user ``postgres``, since the server refuses root.

    Args:
        password: The owner's.

    Raises:
        UsageError: PostgreSQL is not installed.
    """

    def __init__(self, password: str) -> None:
        found = binaries()
        if found is None:
            raise UsageError("PostgreSQL is not installed; install the package postgresql")
        self._bin, self.password, self.port = found, password, free_port()

    def __enter__(self) -> PostgreSQL:
        self.folder = Path(tempfile.mkdtemp(prefix="hansa-postgres-"))
        secret = self.folder / "password"
        secret.write_text(self.password)
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            for path in (self.folder, secret):
                os.chown(path, user.pw_uid, user.pw_gid)
        data = str(self.folder / "data")
        self._run(
            "initdb", "-D", data, "-U", "owner", "--auth=scram-sha-256", f"--pwfile={secret}", "-E", "UTF8"
        )
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "-D", data, "-w", "-l", str(self.folder / "log"), "-o", options, "start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, user: str = "owner", password: str | None = None) -> str:
        """How SQLAlchemy reaches it."""
        secret = "" if password is None else f":{password}"
        return f"postgresql+psycopg://{user}{secret}@127.0.0.1:{self.port}/postgres"

    def _run(self, program: str, *arguments: str) -> None:
        as_owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        done = subprocess.run(
            [*as_owner, str(self._bin / program), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            check=False,
        )
        if done.returncode:
            raise UsageError(f"{program} failed: {done.stderr.strip()[-300:]}")


def free_port() -> int:
    """A port of loopback that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
