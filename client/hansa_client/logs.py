"""What a shop's processes write down: lines that tell the operator what happened, and nothing of customers.

**Guarantee:** once ``set_up`` has been called, no handler of this process, Hansa's or a library's, sees the
text or the traceback of an exception, a message of a library, or an argument that is neither a number nor a
short plain name. Records are reduced where they are made, so that a handler that a library adds later
changes nothing. What remains is up to Hansa's own lines: constant messages whose arguments are public (names
of shops and runs, rounds, reasons); a test reads the source for that. What a library writes past Python's
logging is not seen here.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from hansa.errors import RefusalError, UsageError
from hansa_client.config import Logs, read_settings
from hansa_client.home import ShopHome

FILE = "hansa.log"
"""In ``ShopHome.logs``; older ones are ``hansa.log.1`` and so on."""
FIELDS = ("shop", "run", "round", "kind", "reason")
"""What a line may say besides, by ``extra``."""
WITHHELD = "a message of a library, which is not kept"

_OWN = {"hansa", "hansa_client", "hansa_server", "hansa_simulations"}
_PLAIN = re.compile(r"[A-Za-z0-9 ._:/'(),;-]{1,200}")
_HEARD = "httpx"  # Hansa listens to the figures of its records; they are about the coordinator


def set_up(home: ShopHome, foreground: bool = False) -> None:
    """Log to the shop's file and to stderr from now on. Safe to call again, e.g. after a library's import.

    Args:
        home: The shop's folder; its ``[logs]`` say how much is kept.
        foreground: Whether somebody follows stderr: everything goes there, too, not only warnings.
    """
    try:
        settings = read_settings(home.settings).logs
    except UsageError:  # whoever needs the settings will say so
        settings = Logs()
    logging.raiseExceptions = False  # it would print the arguments of what cannot be written
    logging.setLogRecordFactory(SafeRecord)
    logging.captureWarnings(True)
    for known in list(logging.root.manager.loggerDict.values()):
        if isinstance(known, logging.Logger) and known.name != _HEARD:
            known.handlers.clear()
            known.propagate = True
    lines: list[logging.Handler] = [LogFile(home.logs / FILE, settings), logging.StreamHandler(sys.stderr)]
    for handler, form in zip(lines, (JsonLines(), PlainLines()), strict=True):
        handler.setFormatter(form)
        handler.addFilter(_worth_a_line)
    lines[1].setLevel(logging.INFO if foreground else logging.WARNING)
    logging.root.handlers[:] = lines
    logging.root.setLevel(logging.WARNING)
    for name in _OWN:
        logging.getLogger(name).setLevel(logging.INFO)
    sys.excepthook = _uncaught
    sys.unraisablehook = lambda raised: _died("an object", raised.exc_type)
    threading.excepthook = lambda raised: _died("a thread", raised.exc_type)


class SafeRecord(logging.LogRecord):
    """A record whose message is safe to write, whoever made it and whoever writes it.

    Attributes:
        error: Name of the type of an exception that came with it; else None.
    """

    def __init__(
        self,
        name: str,
        level: int,
        pathname: str,
        lineno: int,
        msg: object,
        args: Any,
        exc_info: Any,
        func: str | None = None,
        sinfo: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, level, pathname, lineno, msg, args, None, func)
        if name == "__main__":
            self.name = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", name)
        own = str(self.name).split(".")[0] in _OWN
        self.error = _type_of(exc_info)
        self.msg = _written(msg, self.args) if own else WITHHELD
        if name != _HEARD:
            self.args = ()

    def getMessage(self) -> str:  # noqa: N802 - logging's name
        """The safe message."""
        return str(self.msg)


class JsonLines(logging.Formatter):
    """A record as one line of JSON with known fields only."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return json.dumps(_fields(record), ensure_ascii=True)


class PlainLines(logging.Formatter):
    """A record as one line for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields = _fields(record)
        more = "".join(f" {name}={value}" for name, value in fields.items() if name not in _HEAD)
        return f"{fields['time']} {fields['level']} {fields['logger']}: {fields['message']}{more}"


class LogFile(logging.Handler):
    """A file that several processes append whole lines to; the one that fills it moves it aside.

    Args:
        path: The file; its folder is made if need be.
        settings: How much is kept.
    """

    def __init__(self, path: Path, settings: Logs) -> None:
        super().__init__()
        self._path, self._settings = path, settings

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line; on a full disk it is lost."""
        try:
            self._write((self.format(record) + "\n").encode())
        except OSError:
            self.handleError(record)

    def _write(self, line: bytes) -> None:
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        turn = os.open(self._path.with_name(f".{self._path.name}.turn"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(turn, fcntl.LOCK_EX)
            if self._size() + len(line) > self._settings.megabytes * 1e6:
                self._move_aside()
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(file, line)
            finally:
                os.close(file)
        finally:
            os.close(turn)

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def _move_aside(self) -> None:
        if not self._size():
            return
        for number in range(self._settings.files - 1, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        self._path.unlink(missing_ok=True)  # where one file is all that is kept

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


_HEAD = ("time", "level", "logger", "message")


def _fields(record: logging.LogRecord) -> dict[str, object]:
    found: dict[str, object] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname,
        "logger": safe(record.name),
        "message": record.getMessage(),
        "process": record.process,
    }
    for name in FIELDS:
        if name in vars(record):
            found[name] = safe(vars(record)[name])
    error = getattr(record, "error", None)
    return found if error is None else {**found, "error": error}


def safe(value: object) -> int | float | str | None:
    """What may be written of a value: a number, a short plain name, a refusal's reason, else its type."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, RefusalError):
        value = value.reason  # what the coordinator is told, too
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return type(value).__name__


def _written(msg: object, args: Any) -> str:
    if not isinstance(msg, str):
        return str(safe(msg))
    line = msg
    if args:
        try:
            if isinstance(args, Mapping):
                line = msg % {name: safe(value) for name, value in args.items()}
            else:
                line = msg % tuple(map(safe, args))
        except (TypeError, ValueError, KeyError):  # a number was wanted
            line = msg
    return " ".join(line.split())


def _type_of(exc_info: Any) -> str | None:
    if isinstance(exc_info, tuple):
        exc_info = exc_info[0]
    elif isinstance(exc_info, BaseException):
        exc_info = type(exc_info)
    return exc_info.__name__ if isinstance(exc_info, type) else None


def _worth_a_line(record: logging.LogRecord) -> bool:
    return record.getMessage() != WITHHELD or record.levelno >= logging.WARNING


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _died("the process", kind)


def _died(what: str, kind: type[BaseException]) -> None:
    logging.getLogger(__name__).error("%s has ended: %s", what, kind.__name__)
