import gzip
import sqlite3
import stat

import polars as pl
import pytest

from hansa.errors import UsageError
from hansa_client.config import Columns, Data, ShopSettings
from hansa_client.data import rowcache
from hansa_client.data.connectors import read_interactions
from hansa_client.data.database import SqlSource

NOON = 1717156800.0  # 2024-05-31T12:00:00Z


def settings(**data):
    columns = data.pop("columns", {})
    return ShopSettings(data=Data(columns=Columns(**columns), **data))


def read(home, **data):
    anew = data.pop("anew", False)
    return read_interactions(home, settings(**data), anew=anew)


GERMAN = {
    "path": "verkauf.csv",
    "separator": ";",
    "encoding": "cp1252",
    "columns": {
        "customer": "Kundennr",
        "item": "Artikel",
        "time": "Datum",
        "quantity": "Menge",
        "time_format": "%d.%m.%Y %H:%M",
        "timezone": "Europe/Berlin",
    },
}
GERMAN_ROWS = [
    "Kundennr;Artikel;Datum;Menge",
    "0007;Tasse grün;31.05.2024 14:00;1,5",
    " 8 ;M-0;31.05.2024 14:00;1.000,00",
    "9;M-0;31.05.2024 14:00;-1,00",
    "9;M-0;31.05.2024 14:00;0,00",
    ";M-0;31.05.2024 14:00;1",
    "9;;31.05.2024 14:00;1",
    "9;M-0;gestern;1",
    "9;M-0;;1",
    "9;M-0;31.05.2024 14:00;viele",
    "9;M-0;31.05.2024 14:00;",
    "9;M-0;31.05.2024 14:00;1;too;many",
    "",
    "9;M-0;31.05.2024 14:00",
]


@pytest.mark.parametrize("packed", [False, True])
def test_csv_in_the_shops_own_words(home, packed):
    content = "\r\n".join(GERMAN_ROWS).encode("cp1252")
    (home.root / "verkauf.csv").write_bytes(gzip.compress(content) if packed else content)
    rows, report = read(home, **GERMAN)
    assert rows.rows() == [("0007", "Tasse grün", NOON), ("8", "M-0", NOON)]
    assert report.rows == 12
    assert report.kept == 2
    assert report.dropped == {
        "damaged row": 1,
        "no customer": 1,
        "no item": 1,
        "no time": 1,
        "time not readable": 1,
        "no quantity": 2,
        "quantity not readable": 1,
        "returned or none bought": 2,
    }
    assert report.first["returned or none bought"] == "verkauf.csv, line 4"
    assert report.first["damaged row"] == "verkauf.csv, line 12"
    assert "gestern" not in "\n".join(report.lines())


def test_a_folder_of_csv_files_is_read_below_and_in_the_order_of_names(home):
    for name, who in (("b/2.csv", "two"), ("a.csv", "one"), ("c.csv.gz", "three"), (".hidden.csv", "no")):
        path = home.root / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = f"\ufeffuser_id,item_id,timestamp\n{who},x,1\n".encode()
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    rows, report = read(home, path="in")
    assert rows["customer"].to_list() == ["one", "two", "three"]
    assert report.rows == 3


def test_whatever_is_in_a_row_the_reading_goes_on(home):
    wild = b'user_id,item_id,timestamp\n\xff\xfe,x,1\na,"never ends,1\nb,x,2\n\x00,x,3\n' + b"y" * 200_000
    (home.root / "interactions.csv").write_bytes(wild + b"\nc,x,4\n")
    rows, report = read(home)
    assert report.kept == len(rows)
    assert "damaged row" in report.dropped


def test_a_parquet_folder_with_typed_columns(home):
    from datetime import UTC, date, datetime

    folder = home.root / "lake" / "2024" / "05"
    folder.mkdir(parents=True)
    when = datetime(2024, 5, 31, 12, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "k": [1.0, 2.0, None, 3.0],
            "i": [10, 20, 30, None],
            "t": [when, None, when, when],
            "q": [1, 2, 3, 4],
        }
    )
    frame.write_parquet(folder / "a.parquet")
    other = pl.DataFrame({"k": ["4", " "], "i": ["x", "x"], "t": [date(2024, 5, 31)] * 2, "q": [0.5, 1.0]})
    other.write_parquet(home.root / "lake" / "z.parquet")
    columns = {"customer": "k", "item": "i", "time": "t", "quantity": "q"}
    rows, report = read(home, kind="parquet", path="lake", columns=columns)
    assert rows.rows() == [("1", "10", NOON), ("4", "x", NOON - 12 * 3600)]
    assert report.dropped == {"no customer": 2, "no item": 1, "no time": 1}
    assert report.first["no time"] == "2024/05/a.parquet, row 2"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"path": "no.csv"}, ["data.path", "no.csv"]),
        ({"path": "empty"}, ["data.path", "no file *.csv"]),
        ({"encoding": "klingon"}, ["data.encoding", "klingon"]),
        ({"columns": {"customer": "Kunde"}}, ["data.columns.customer", "'user_id', 'item_id', 'timestamp'"]),
        ({"separator": ";"}, ["data.columns.customer", "perhaps data.separator"]),
        ({"columns": {"quantity": "menge"}}, ["data.columns.quantity"]),
        ({"incremental": "id"}, ["data.incremental"]),
        ({"columns": {"time_format": "%H"}}, ["data.columns.time_format"]),
        ({"columns": {"timezone": "Mars"}}, ["data.columns.timezone"]),
        ({"path": "none.csv"}, ["no header"]),
        ({"path": "cut.csv"}, ["cut.csv", "cannot be read"]),
        ({"kind": "parquet", "path": "interactions.csv"}, ["interactions.csv", "cannot be read"]),
        ({"kind": "sql", "url": "nonsense", "table": "t"}, ["data.url"]),
        ({"kind": "sql", "url": "sqlite://", "table": "t"}, ["data.url"]),
        ({"kind": "sql", "url": "sqlite:///no.db", "table": "t"}, ["data.url", "no.db"]),
        ({"kind": "sql", "url": "sqlite:///cut.csv", "table": "t"}, ["no SQLite database"]),
    ],
)
def test_what_the_operator_can_mend_is_one_line_with_the_field(home, data, said):
    (home.root / "interactions.csv").write_text("user_id,item_id,timestamp\nsecret,x,1\n")
    (home.root / "empty").mkdir()
    (home.root / "none.csv").write_text("")
    (home.root / "cut.csv").write_bytes(gzip.compress(b"user_id,item_id,timestamp\n" * 9)[:30])
    with pytest.raises(UsageError) as caught:
        read(home, **data)
    for part in said:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("row", ["alice,i0,2024-05-31", "alice@example.org,i0,may", "alice,i0,17"])
def test_a_file_without_a_header_tells_nothing_of_its_first_row(home, row):
    (home.root / "interactions.csv").write_text(row + "\n")
    with pytest.raises(UsageError, match=r"the first line of interactions\.csv looks like a row") as caught:
        read(home)
    assert "alice" not in str(caught.value)


# SQLite

SQLITE = {
    "kind": "sql",
    "url": "sqlite:///shop.db",
    "columns": {"customer": 'who "is"', "item": "it;em", "time": "at"},
}


@pytest.fixture
def shop_db(home):
    base = sqlite3.connect(home.root / "shop.db")
    base.execute('CREATE TABLE "or""der s" (id INTEGER, "who ""is""", "it;em", at)')
    base.executemany(
        'INSERT INTO "or""der s" VALUES (?, ?, ?, ?)',
        [(1, 7, "x", 1717156800), (2, 8.0, "y", "2024-05-31 12:00"), (3, None, "z", 1), (4, "n", "z", "bad")],
    )
    base.execute('INSERT INTO "or""der s" VALUES (5, CAST(x\'ff41\' AS TEXT), "x", 1)')
    base.commit()
    yield base
    base.close()


def test_sqlite_is_read_with_names_quoted_and_any_value(home, shop_db):
    rows, report = read(home, **SQLITE, table='or"der s')
    assert rows.rows() == [("7", "x", NOON), ("8", "y", NOON)]
    assert report.dropped == {"damaged row": 1, "no customer": 1, "time not readable": 1}
    assert report.first["no customer"] == 'table or"der s, row 3'


def test_a_query_is_the_operators_own(home, shop_db):
    query = 'SELECT *, \':x 100%\' AS note FROM "or""der s" WHERE id < 3; -- mine'
    rows, _ = read(home, **SQLITE, query=query.replace("; -- mine", " -- mine"))
    assert len(rows) == 2
    rows, _ = read(home, **SQLITE, query=query.replace(" -- mine", ""))
    assert len(rows) == 2


@pytest.mark.parametrize(
    "query", ['DELETE FROM "or""der s"', "SELECT 1) AS q; DROP TABLE x; --", "SELECT nope"]
)
def test_sqlite_cannot_be_written_to(home, shop_db, query):
    with pytest.raises(UsageError, match=r"shop\.toml: data"):
        read(home, **SQLITE, query=query)
    assert shop_db.execute('SELECT COUNT(*) FROM "or""der s"').fetchone() == (5,)


def test_sqlite_is_opened_read_only(home, shop_db):
    source = SqlSource(settings(**SQLITE, table="x").data, home.root)
    with source._engine.connect() as connection, pytest.raises(Exception, match="readonly"):
        connection.exec_driver_sql('DELETE FROM "or""der s"')


def test_a_missing_table_lists_those_there_are(home, shop_db):
    with pytest.raises(UsageError, match=r"no table or view 'sales'.*der s"):
        read(home, **SQLITE, table="sales")


# PostgreSQL


@pytest.fixture
def orders(postgres):
    postgres.run(
        'DROP SCHEMA IF EXISTS "Shop" CASCADE',
        'CREATE SCHEMA "Shop"',
        'CREATE TABLE "Shop"."Order Lines" (id bigserial, "Kunde" bigint, sku text, bought timestamptz, '
        "qty numeric)",
        'INSERT INTO "Shop"."Order Lines" ("Kunde", sku, bought, qty) VALUES '
        "(1, 'M-0', '2024-05-31 14:00+02', 1.5), (2, 'M-0', 'infinity', 1), (3, NULL, now(), 1), "
        "(4, 'P-1', '12024-01-01', 1), (5, 'P-1', '2024-05-31 12:00:00.25+00', 'NaN'), "
        "(6, 'P-1', '2024-05-31 12:00:00.25+00', 2), (7, 'P-1', '2024-05-31 12:00+00', -2)",
    )
    return postgres


def pg(postgres, **changed):
    columns = {"customer": "Kunde", "item": "sku", "time": "bought", "quantity": "qty"}
    return {
        "kind": "sql",
        "url": postgres.reader,
        "password": "env:HANSA_TEST_PASSWORD",
        "table": "Shop.Order Lines",
        "columns": columns,
        **changed,
    }


@pytest.fixture(autouse=True)
def password(monkeypatch, request):
    if "postgres" in request.fixturenames or "orders" in request.fixturenames:
        monkeypatch.setenv("HANSA_TEST_PASSWORD", request.getfixturevalue("postgres").password)


def test_postgresql_is_read_by_a_user_that_may_only_read(home, orders):
    rows, report = read(home, **pg(orders))
    assert sorted(rows.rows()) == [("1", "M-0", NOON), ("6", "P-1", NOON + 0.25)]
    assert report.dropped == {
        "no item": 1,
        "time not readable": 2,
        "no quantity": 1,
        "returned or none bought": 1,
    }


def test_names_and_queries_of_postgresql_hold_any_character(home, orders):
    odd = 'a "b" %s :c'
    quoted = odd.replace('"', '""')
    orders.run(
        f'CREATE TABLE "Shop"."{quoted}" ("{quoted}" text, sku text, bought text, qty text)',
        f"INSERT INTO \"Shop\".\"{quoted}\" VALUES ('x%', 'M-0', '2024-05-31 12:00', '1')",
    )
    columns = {"customer": odd, "item": "sku", "time": "bought", "quantity": "qty"}
    rows, _ = read(home, **pg(orders, table=f"Shop.{odd}", columns=columns))
    assert rows.rows() == [("x%", "M-0", NOON)]
    query = f'SELECT "{quoted}"::text AS k, * FROM "Shop"."{quoted}" WHERE sku LIKE \'%-0\' -- ;'
    rows, _ = read(home, **pg(orders, table="", query=query, columns={**columns, "customer": "k"}))
    assert rows.rows() == [("x%", "M-0", NOON)]


def test_postgresql_is_streamed_in_a_read_only_transaction(home, orders, monkeypatch):
    many = "SELECT g AS \"Kunde\", 'M-0' AS sku, now() AS bought, 1 AS qty FROM generate_series(1, 30000) g"
    monkeypatch.setattr("hansa_client.data.database.CHUNK", 1000)
    data = settings(**pg(orders, table="", query=many)).data
    sizes = [len(chunk.rows) for chunk in SqlSource(data, home.root).chunks({"customer": "Kunde"}, None)]
    assert sizes == [1000] * 30
    orders.run(
        "DROP SEQUENCE IF EXISTS counted",
        "CREATE SEQUENCE counted",
        "GRANT ALL ON SEQUENCE counted TO PUBLIC",
    )
    writes = "SELECT nextval('counted') AS \"Kunde\", 'M-0' AS sku, now() AS bought, 1 AS qty"
    with pytest.raises(UsageError, match="the query would write"):
        read(home, **pg(orders, table="", query=writes))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"table": "Shop.nothing"}, "data.table: no table or view 'Shop.nothing'.*'Order Lines'"),
        ({"table": "", "query": "SELECT * FROM nothing"}, "data.table, data.query"),
        ({"table": "", "query": "SELEC 1"}, "data.query"),
        ({"password": "file:pw"}, "data.password"),
        ({"password": "env:NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE"),
        ({"password": ""}, "data.password"),
        ({"columns": {"customer": "kunde"}}, "data.columns.customer.*'Kunde'"),
    ],
)
def test_errors_of_postgresql_name_the_field_and_no_secret(home, orders, changed, said):
    (home.root / "pw").write_text("wrong-Secret")
    with pytest.raises(UsageError, match=said) as caught:
        read(home, **pg(orders, **changed))
    assert "\n" not in str(caught.value)
    for secret in ("wrong-Secret", orders.password, "127.0.0.1", "SELEC 1"):
        assert secret not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_an_address_with_a_password_or_nobody_behind_it_is_refused(home, postgres):
    with pytest.raises(UsageError, match="it holds a password") as caught:
        read(home, **pg(postgres, url="postgresql://u:hunter2@localhost/x"))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(UsageError, match="nothing listens there"):
        read(home, **pg(postgres, url="postgresql://u@127.0.0.1:1/x"))


# Only what is new


def test_incremental_reading_asks_for_newer_rows_only(home, orders):
    data = pg(orders, incremental="id")
    _, report = read(home, **data)
    assert (report.anew, report.rows, report.fresh) == (True, 7, 7)
    orders.run(
        'DELETE FROM "Shop"."Order Lines" WHERE "Kunde" = 1',
        'INSERT INTO "Shop"."Order Lines" ("Kunde", sku, bought, qty) VALUES (8, \'P-1\', \'2024-06-01\', 1)',
    )
    second, report = read(home, **data)
    assert (report.anew, report.rows, report.fresh) == (False, 8, 2)  # the last one again, and the new one
    assert sorted(second["customer"].to_list()) == ["1", "6", "8"]
    assert report.dropped["returned or none bought"] == 1
    again, report = read(home, **data, anew=True)  # what was deleted is gone only now
    assert sorted(again["customer"].to_list()) == ["6", "8"]
    assert stat.S_IMODE(rowcache.path_of(home).stat().st_mode) == 0o600


def test_incremental_by_time_finds_more_rows_of_the_same_moment(home, orders):
    data = pg(orders, incremental="bought")
    orders.run('DELETE FROM "Shop"."Order Lines" WHERE "Kunde" IN (2, 3, 4)')
    read(home, **data)
    more = "(9, 'P-1', '2024-05-31 12:00:00.25+00', 2)"
    orders.run(f'INSERT INTO "Shop"."Order Lines" ("Kunde", sku, bought, qty) VALUES {more}')
    rows, report = read(home, **data)
    assert sorted(rows["customer"].to_list()) == ["1", "6", "9"]
    assert (report.rows, report.fresh) == (5, 3)


@pytest.mark.parametrize("kind", ["csv", "parquet", "sqlite"])
@pytest.mark.parametrize("mark", ["number", "text", "time"])
def test_incremental_reading_of_files(home, kind, mark):
    made = {"number": [9, 10], "text": ["2024-01-09", "2024-01-10"]}
    data = {"incremental": "n", "kind": kind, "path": f"in.{kind}"}
    if kind == "sqlite":
        data = {"incremental": "n", "kind": "sql", "url": "sqlite:///in.sqlite", "table": "t"}

    def write(rows):
        values = made.get(mark) or [f"2024-01-01 00:00:0{k}" for k in (1, 2)]
        frame = pl.DataFrame(
            {"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": [1, 2], "n": values}
        ).head(rows)
        if mark == "time" and kind == "parquet":
            frame = frame.with_columns(pl.col("n").str.to_datetime())
        path = home.root / f"in.{kind}"
        if kind == "csv":
            frame.write_csv(path)
        elif kind == "parquet":
            frame.write_parquet(path)
        else:
            base = sqlite3.connect(path)
            base.execute("CREATE TABLE IF NOT EXISTS t (user_id, item_id, timestamp, n)")
            base.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", frame.rows()[rows - 1 :])
            base.commit()
            base.close()

    write(1)
    assert read(home, **data)[1].rows == 1
    write(2)
    rows, report = read(home, **data)
    assert rows["customer"].to_list() == ["a", "b"]
    assert (report.rows, report.fresh, report.anew) == (2, 2, False)
    assert read(home, **data)[1].fresh == 1


def test_a_cache_of_another_source_or_damaged_is_not_used(home):
    (home.root / "interactions.csv").write_text("user_id,item_id,timestamp,n\na,x,1,1\n")
    data = {"incremental": "n"}
    read(home, **data)
    assert not read(home, **data)[1].anew
    assert read(home, **data, columns={"item": "n"})[1].anew
    rowcache.path_of(home).write_bytes(b"PAR1 no")
    rows, report = read(home, **data)
    assert report.anew
    assert len(rows) == 1
    read(home)  # without the setting nothing is kept
    assert not rowcache.path_of(home).exists()
