import gzip
import io
from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.errors import UsageError
from hansa.reading import _parsed, read_interactions, read_items

GOOD = "user_id,item_id,timestamp\n007,a,1000\n1,b,2000\n"
SECOND = 1_000_000


@pytest.fixture
def put(tmp_path):
    """Write a file of the folder and return the folder."""

    def write(content, name="interactions.csv"):
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
        return tmp_path

    return write


def parquet(frame):
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def complaint(call, *args, **kwargs):
    with pytest.raises(UsageError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.exit_code == 2
    return text


def test_csv_is_normalised_in_file_order_and_ids_stay_as_they_are(put):
    header = "rating,extra,timestamp,item_id,user_id,domain,quantity,price\n"
    frame = read_interactions(put(header + "4.5,x,7,01,007,ca,2,9.99\n,y,7,1,7,de,,\n"))
    assert frame.to_dict(as_series=False) == {
        "user_id": ["007", "7"],
        "item_id": ["01", "1"],
        "timestamp": [7 * SECOND, 7 * SECOND],
        "shop_id": ["ca", "de"],
        "quantity": [2.0, None],
        "price": [9.99, None],
        "rating": [4.5, None],
    }
    assert dict(frame.schema) == {
        **dict.fromkeys(("user_id", "item_id", "shop_id"), pl.String),
        "timestamp": pl.Int64,
        **dict.fromkeys(("quantity", "price", "rating"), pl.Float64),
    }


def test_shop_id_wins_over_domain(put):
    frame = read_interactions(put("user_id,item_id,timestamp,domain,shop_id\n1,2,3,d,s\n"))
    assert frame["shop_id"].to_list() == ["s"]


def test_extra_columns_come_only_on_request_and_only_if_there(put):
    folder = put("user_id,item_id,timestamp,flag\n1,2,3,true\n")
    assert "flag" not in read_interactions(folder).columns
    assert read_interactions(folder, ("flag", "nothing", "user_id")).columns[3:] == ["flag"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("interactions.csv", b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()),
        ("interactions.csv", (GOOD + "\n\n").encode()),
        ("interactions.csv.gz", gzip.compress(GOOD.encode())),
        ("interactions.csv.gz", gzip.compress(b"\xef\xbb\xbf" + GOOD.encode())),
        (
            "interactions.parquet",
            parquet(
                pl.DataFrame({"user_id": ["007", "1"], "item_id": ["a", "b"], "timestamp": [1000, 2000]})
            ),
        ),
    ],
    ids=["bom and crlf", "blank lines", "gzip", "gzip and bom", "parquet"],
)
def test_every_form_of_the_same_data_reads_the_same(put, name, content):
    frame = read_interactions(put(content, name))
    assert frame.rows() == [("007", "a", 1000 * SECOND), ("1", "b", 2000 * SECOND)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1000", 1000.0),
        (" 1000 ", 1000.0),
        ("-5", -5.0),
        ("1000.25", 1000.25),
        ("1e3", 1000.0),
        ("1970-01-02", 86400.0),
        ("1970-01-01T00:00:01", 1.0),
        ("1970-01-01 00:00:01", 1.0),
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T00:01", 60.0),
        ("1970-01-01 00:01Z", 60.0),
        ("1970-01-01T02:00:00+02:00", 0.0),
        ("1970-01-01T02:00:00.25+0200", 0.25),
        ("1970-01-01 00:00-01:00", 3600.0),
    ],
)
def test_times(put, text, expected):
    frame = read_interactions(put(f"user_id,item_id,timestamp\n1,2,{text}\n1,3,77\n"))
    assert frame["timestamp"].to_list() == [round(expected * SECOND), 77 * SECOND]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([date(1970, 1, 2)]),
        pl.Series([datetime(1970, 1, 2)], dtype=pl.Datetime("ns")),
        pl.Series([datetime(1970, 1, 2)], dtype=pl.Datetime("ms")),
        pl.Series([datetime(1970, 1, 2, tzinfo=UTC)]),
        pl.Series([86400], dtype=pl.UInt32),
        pl.Series([86400.0]),
        pl.Series(["86400"]),
    ],
    ids=lambda column: str(column.dtype),
)
def test_typed_times_in_parquet(put, column):
    frame = pl.DataFrame({"user_id": [1], "item_id": [2], "timestamp": column})
    read = read_interactions(put(parquet(frame), "interactions.parquet"))
    assert read["timestamp"].to_list() == [86400 * SECOND]
    assert read["user_id"].to_list() == ["1"]


moments = st.datetimes(datetime(1, 1, 2), datetime(5000, 1, 1))
offsets = st.none() | st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))


@given(st.lists(st.tuples(moments, offsets, st.sampled_from("T ")), min_size=1, max_size=8))
def test_any_iso_time_means_what_python_says(given_times):
    texts = [m.replace(tzinfo=zone).isoformat(separator) for m, zone, separator in given_times]
    expected = [(m - datetime(1970, 1, 1)) // timedelta(microseconds=1) for m, _, _ in given_times]
    shifts = [zone.utcoffset(None) if zone else timedelta() for _, zone, _ in given_times]
    micros = [e - s // timedelta(microseconds=1) for e, s in zip(expected, shifts, strict=True)]
    assert _parsed(pl.Series(texts)).to_list() == micros


@pytest.mark.parametrize(
    "text", ["yesterday", "", "2020-13-01", "2020-02-30", "31.12.2020", "nan", "inf", "2020-01-01T25:00:00"]
)
def test_bad_time(put, text):
    said = complaint(read_interactions, put(f"user_id,item_id,timestamp\n1,2,3\n1,3,{text}\n"))
    assert "interactions.csv: column 'timestamp', row 2: " in said
    assert "ISO 8601" in said
    assert (repr(text) if text else "no value") in said


@pytest.mark.parametrize("text", ["1600000000000", "1e300", "99999999999999999999"])
def test_milliseconds_are_not_seconds(put, text):
    said = complaint(read_interactions, put(f"user_id,item_id,timestamp\n1,2,{text}\n"))
    assert "column 'timestamp', row 1" in said
    assert "seconds, not milliseconds" in said


def test_integer_milliseconds_in_parquet(put):
    frame = pl.DataFrame({"user_id": [1], "item_id": [2], "timestamp": [1_600_000_000_000]})
    assert "not milliseconds" in complaint(read_interactions, put(parquet(frame), "interactions.parquet"))


@pytest.mark.parametrize("dtype", [pl.Boolean, pl.Time, pl.List(pl.Int64)])
def test_times_of_a_senseless_type(put, dtype):
    frame = pl.DataFrame({"user_id": [1], "item_id": [2], "timestamp": pl.Series([None], dtype=dtype)})
    assert "column 'timestamp', row 1" in complaint(
        read_interactions, put(parquet(frame), "interactions.parquet")
    )


@pytest.mark.parametrize("name", ["user_id", "item_id", "timestamp"])
def test_missing_column(put, name):
    said = complaint(read_interactions, put(GOOD.replace(name, "other")))
    assert f"interactions.csv: no column {name!r}; found " in said
    assert "other" in said


@pytest.mark.parametrize(
    ("row", "column"), [(",b,3", "user_id"), ("1,,3", "item_id"), ('1,"",3', "item_id"), ("1", "item_id")]
)
def test_missing_id(put, row, column):
    said = complaint(read_interactions, put(GOOD + row + "\n"))
    assert f"column {column!r}, row 3: no value; give every row an id" in said


def test_missing_shop(put):
    said = complaint(read_interactions, put("user_id,item_id,timestamp,domain\n1,2,3,ca\n1,3,3,\n"))
    assert "column 'domain', row 2: no value" in said


def test_blank_lines_do_not_shift_row_numbers(put):
    said = complaint(read_interactions, put("user_id,item_id,timestamp\n\n1,2,never\n"))
    assert "row 2" in said


@pytest.mark.parametrize("dtype", [pl.Float64, pl.Boolean, pl.List(pl.Int64)])
def test_ids_of_a_senseless_type(put, dtype):
    frame = pl.DataFrame({"user_id": pl.Series([None], dtype=dtype), "item_id": [2], "timestamp": [3]})
    said = complaint(read_interactions, put(parquet(frame), "interactions.parquet"))
    assert "column 'user_id' holds" in said


def test_categorical_ids(put):
    frame = pl.DataFrame({"user_id": ["x"], "item_id": [2], "timestamp": [3]})
    frame = frame.with_columns(pl.col("user_id").cast(pl.Categorical))
    assert read_interactions(put(parquet(frame), "interactions.parquet"))["user_id"].to_list() == ["x"]


@pytest.mark.parametrize("name", ["quantity", "price", "rating"])
@pytest.mark.parametrize("value", ["much", "nan", "inf", "1,5"])
def test_bad_number(put, name, value):
    said = complaint(read_interactions, put(f'user_id,item_id,timestamp,{name}\n1,2,3,1\n1,3,3,"{value}"\n'))
    assert f"column {name!r}, row 2: {value!r}; write a number or leave it empty" in said


def test_negative_quantity_is_refused_and_a_negative_price_is_not(put):
    head = "user_id,item_id,timestamp,price,quantity\n1,2,3,-1,0\n"
    assert read_interactions(put(head))["price"].to_list() == [-1.0]
    said = complaint(read_interactions, put(head + "1,3,3,1,-2\n"))
    assert "column 'quantity', row 2: '-2'; leave returns out" in said


def test_long_values_are_cut(put):
    said = complaint(read_interactions, put(f"user_id,item_id,timestamp\n1,2,{'x' * 5000}\n"))
    assert len(said) < 400


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        ("", "interactions.csv", "the file is empty"),
        ("\n", "interactions.csv", "the file is empty"),
        ("user_id,item_id,timestamp\n", "interactions.csv", "holds no rows"),
        (gzip.compress(b""), "interactions.csv.gz", "the file is empty"),
        ("", "interactions.parquet", "cannot be read as Parquet"),
        ("PAR1 not really PAR1", "interactions.parquet", "cannot be read as Parquet"),
        (gzip.compress(GOOD.encode() * 999)[:-20], "interactions.csv.gz", "cannot be read as CSV"),
        (gzip.compress(GOOD.encode() * 999)[:12], "interactions.csv.gz", "cannot be read as CSV"),
        (GOOD + "1,2,3,4,5\n", "interactions.csv", "cannot be read as CSV"),
        (GOOD + '1,"2,3\n', "interactions.csv", "cannot be read as CSV"),
        (GOOD.replace("item_id", "user_id"), "interactions.csv", "'user_id' appears twice"),
        (GOOD.encode() + "é,2,3\n".encode("latin-1"), "interactions.csv", "row 3: not UTF-8"),
        (gzip.compress(GOOD.encode() + b"\xff,2,3\n"), "interactions.csv.gz", "row 3: not UTF-8"),
        ("é,user_id\n".encode("latin-1"), "interactions.csv", "the header: not UTF-8"),
        (GOOD.encode("utf-16"), "interactions.csv", "the header: not UTF-8"),
    ],
)
def test_unreadable_file(put, content, name, reason):
    said = complaint(read_interactions, put(content, name))
    assert name in said
    assert reason in said
    assert ";" in said  # the fix follows


def test_no_rows_in_parquet(put):
    frame = pl.DataFrame({"user_id": [1], "item_id": [2], "timestamp": [3]}).clear()
    assert "holds no rows" in complaint(read_interactions, put(parquet(frame), "interactions.parquet"))


def test_folder_and_file_must_exist(tmp_path):
    assert "no such folder" in complaint(read_interactions, tmp_path / "nowhere")
    assert "no interactions file; add one of interactions.parquet" in complaint(read_interactions, tmp_path)
    (tmp_path / "file").touch()
    assert "not a folder" in complaint(read_interactions, tmp_path / "file")


def test_two_interactions_files(put):
    put(GOOD)
    said = complaint(read_interactions, put(gzip.compress(GOOD.encode()), "interactions.csv.gz"))
    assert "both interactions.csv and interactions.csv.gz" in said


def test_items(put):
    folder = put("price,item_id,extra,brand,title,category\n1.5,007,x,,Milk,dairy\n,7,y,b,,\n", "items.csv")
    items = read_items(folder)
    assert items is not None
    assert items.to_dict(as_series=False) == {
        "item_id": ["007", "7"],
        "title": ["Milk", None],
        "category": ["dairy", None],
        "brand": [None, "b"],
        "price": [1.5, None],
    }


def test_no_items(put):
    assert read_items(put(GOOD)) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("item_id,title\na,x\nb,y\na,z\n", "column 'item_id', row 3: 'a' is already in row 1"),
        ("id,title\na,x\n", "no column 'item_id'"),
        ("item_id,title\n,x\n", "column 'item_id', row 1: no value"),
        ("item_id,price\na,cheap\n", "column 'price', row 1: 'cheap'"),
        ("item_id,title\n", "holds no rows"),
        ("item_id,title\na,\xe9\n".encode("latin-1"), "row 1: not UTF-8"),
    ],
)
def test_bad_items(put, content, reason):
    said = complaint(read_items, put(content, "items.csv"))
    assert "items.csv: " in said
    assert reason in said


def test_nested_item_details(put):
    frame = pl.DataFrame({"item_id": ["a"], "title": [["x", "y"]]})
    assert "column 'title' holds" in complaint(read_items, put(parquet(frame), "items.parquet"))
