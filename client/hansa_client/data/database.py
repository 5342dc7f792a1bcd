"""A database through SQLAlchemy: read only, streamed, and silent about secrets.

Tested with PostgreSQL (psycopg) and SQLite. A user that may only read is enough, and advised. SQLite is
opened read-only; in PostgreSQL the transaction is read-only, so that no query can write. Of a
driver's errors only their kind is told: their texts hold addresses, passwords or values of rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from hansa.errors import UsageError
from hansa_client.config import Data
from hansa_client.data.cleaning import Chunk, Kind
from hansa_client.data.passwords import secret
from hansa_client.data.sources import CHUNK, Mark, field_of, listed, missing

if TYPE_CHECKING:
    from sqlalchemy import ColumnClause, Connection, Engine, FromClause

_AT_ONCE = 10_000
_AS_TEXT = ("date", "timestamp", "timestamptz", "time", "timetz", "interval")  # infinity is no datetime
_STATES = {
    "28": "the user or its password is wrong: data.url, data.password",
    "3D": "no such database: data.url",
    "42P01": "no such table or view: data.table, data.query",
    "42703": "no such column: data.query",
    "42501": "the user may not read it: GRANT SELECT ON it TO the user",
    "42601": "the query is no valid SELECT: data.query",
    "25006": "the query would write: data.query must only read",
    "57014": "it took too long: raise the server's statement_timeout",
    "08": "the connection broke: try again",
    "53": "the server is out of resources: try again later",
}


class SqlSource:
    """See ``Source``.

    Args:
        data: The section ``data`` of ``shop.toml``.
        root: The shop's folder; a relative path of SQLite's file starts there.

    Raises:
        UsageError: The address is none, or holds a password.
    """

    def __init__(self, data: Data, root: Path) -> None:
        self._data = data
        self._engine = _engine(data, root)
        self._place = f"table {data.table}" if data.table else "data.query"

    def columns(self) -> list[str]:
        """See ``Source``."""
        with self._connected() as connection:
            return self._columns(connection)

    def head(self, rows: int) -> list[dict[str, object]]:
        """See ``Source``."""
        from sqlalchemy import select, text

        with self._connected() as connection:
            found = connection.execute(select(text("*")).select_from(self._from(connection)).limit(rows))
            return [{str(name): value for name, value in row.items()} for row in found.mappings()]

    def chunks(self, columns: Mapping[str, str], since: Mark | None) -> Iterator[Chunk]:
        """See ``Source``."""
        from sqlalchemy import column, literal, select
        from sqlalchemy.sql.elements import quoted_name
        from sqlalchemy.types import NullType

        with self._connected() as connection:
            names = self._columns(connection)
            for role, name in columns.items():
                if name not in names:
                    raise missing(field_of(role), name, self._place, names)
            named: dict[str, ColumnClause[Any]] = {
                role: column(quoted_name(name, quote=True)) for role, name in columns.items()
            }
            wanted = [found.label(role) for role, found in named.items()]
            asked = select(*wanted).select_from(self._from(connection))
            if since is not None:
                asked = asked.where(named["mark"] >= literal(self._value(since), NullType()))
            rows = connection.execution_options(stream_results=True, max_row_buffer=_AT_ONCE).execute(asked)
            start = 1
            for part in rows.partitions(CHUNK):
                values = zip(*part, strict=True)
                roles = {
                    role: [_as_text(value) for value in found]
                    for role, found in zip(columns, values, strict=True)
                }
                frame = pl.DataFrame(roles, schema=dict.fromkeys(roles, pl.String))
                kind: Kind = "number" if "mark" in columns and _counts(part, list(columns)) else "text"
                yield Chunk(frame.with_row_index("row", offset=start), self._place, marks=kind)
                start += len(part)

    def _columns(self, connection: Connection) -> list[str]:
        from sqlalchemy import select, text

        rows = connection.execute(select(text("*")).select_from(self._from(connection)).limit(0))
        return [str(name) for name in rows.keys()]  # noqa: SIM118

    def _from(self, connection: Connection) -> FromClause:
        from sqlalchemy import inspect, table, text
        from sqlalchemy.sql.elements import quoted_name

        if self._data.query:
            # A comment at its end must not swallow the bracket; a colon is no parameter.
            query = self._data.query.strip().rstrip(";").replace(":", "\\:")
            return text(f"(\n{query}\n) AS shop_query")  # type: ignore[return-value]
        name, schema = self._data.table, None
        looked = inspect(connection)
        known = [*looked.get_table_names(), *looked.get_view_names()]
        if name not in known and "." in name:
            schema, _, name = name.partition(".")
            try:
                known = [*looked.get_table_names(schema), *looked.get_view_names(schema)]
            except Exception:  # SQLite has no such schema
                known = []
        if name not in known and not looked.has_table(name, schema):
            raise UsageError(
                f"shop.toml: data.table: no table or view {self._data.table!r} that this user sees; found "
                f"{listed(known)}; write one of these"
            )
        quoted = None if schema is None else quoted_name(schema, quote=True)
        return table(quoted_name(name, quote=True), schema=quoted)

    def _value(self, since: Mark) -> object:
        if since.kind == "text":
            return since.value
        exact = Decimal(since.value)
        if exact == exact.to_integral_value():
            return int(exact)
        return float(exact) if self._engine.dialect.name == "sqlite" else exact

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with self._engine.connect() as connection:
                if self._engine.dialect.name == "postgresql":
                    connection = connection.execution_options(postgresql_readonly=True)
                yield connection
        except UsageError:
            raise
        except ModuleNotFoundError:
            raise _no_driver(self._engine.dialect.name) from None
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise UsageError(f"shop.toml: data: {_told(error)}") from None
        finally:
            self._engine.dispose()


def _engine(data: Data, root: Path) -> Engine:
    from sqlalchemy import create_engine, event
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(data.url)
    except (SQLAlchemyError, ValueError):
        raise UsageError(
            "shop.toml: data.url: no address of a database; write e.g. "
            "postgresql://reader@host:5432/shop or sqlite:///shop.sqlite"
        ) from None
    if url.password is not None or any("pass" in name.lower() for name in url.query if name != "passfile"):
        raise UsageError(
            "shop.toml: data.url: it holds a password; take it out and write data.password = 'env:NAME' or "
            "'file:PATH'"
        )
    password = secret(data.password, root)
    if url.get_backend_name() == "sqlite":
        return _sqlite(url.database, root)
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        engine = create_engine(
            url.set(password=password) if password is not None else url, hide_parameters=True
        )
    except ModuleNotFoundError:
        raise _no_driver(url.get_backend_name()) from None
    except (SQLAlchemyError, TypeError, ValueError):
        raise UsageError(f"shop.toml: data.url: {url.drivername} is unknown; write e.g. postgresql") from None
    if engine.dialect.name == "postgresql":
        event.listen(engine, "connect", _plain_times)
    return engine


def _sqlite(database: str | None, root: Path) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    if not database or database == ":memory:":
        raise UsageError("shop.toml: data.url: SQLite needs a file; write sqlite:///shop.sqlite")
    path = root / database
    if not path.is_file():
        raise UsageError(f"shop.toml: data.url: no file {path}; write the path of SQLite's file")

    def connect() -> sqlite3.Connection:
        base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=30, uri=True)
        base.text_factory = lambda content: content.decode("utf-8", "replace")
        return base

    return create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)


def _plain_times(connection: Any, _: object) -> None:
    """Dates and times as PostgreSQL writes them, in UTC: Python's know no infinity and no year 12000."""
    from psycopg.types.string import TextLoader

    for name in _AS_TEXT:
        connection.adapters.register_loader(name, TextLoader)
    connection.execute("SET TIME ZONE 'UTC'")
    connection.execute("SET datestyle TO ISO")
    connection.commit()


def _counts(part: Sequence[Any], roles: list[str]) -> bool:
    """Whether the incremental column holds numbers, by what came rather than by its text."""
    at = roles.index("mark")
    return all(isinstance(row[at], int | float | Decimal) for row in part if row[at] is not None)


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, Decimal) and value.is_finite():
        return format(value.normalize(), "f")
    if isinstance(value, datetime | date):
        return value.isoformat(*([" "] if isinstance(value, datetime) else []))
    return str(value)


def _no_driver(name: str) -> UsageError:
    return UsageError(
        f"shop.toml: data.url: the driver for {name} is not installed; pip install 'hansa[postgres]' for "
        "PostgreSQL"
    )


def _told(error: BaseException) -> str:
    """What went wrong in words of our own."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None) or ""
    for start in (state, state[:2]):
        if start in _STATES:
            return f"the database refuses ({start}); {_STATES[start]}"
    said = str(cause).lower()
    for part, fix in _PHRASES.items():
        if part in said:
            return f"the database refuses; {fix}"
    code = f" ({state or type(cause).__name__})"
    return f"the database cannot be read{code}; check data.url, data.table and data.query with its own client"


_PHRASES = {
    "password authentication failed": _STATES["28"],
    "no password supplied": "it asks for a password: data.password",
    "role ": "no such user: data.url",
    "database ": _STATES["3D"],
    "resolve host": "no such host: data.url",
    "name or service not known": "no such host: data.url",
    "connection refused": "nothing listens there: data.url, or start the server",
    "timeout": "no answer in time: data.url, or a firewall",
    "no such table": _STATES["42P01"],
    "no such column": _STATES["42703"],
    "syntax error": _STATES["42601"],
    "readonly": _STATES["25006"],
    "not a database": "the file is no SQLite database: data.url",
    "unable to open": "the file cannot be opened: data.url, and who may read it",
    "locked": "another program holds the file: try again",
}
