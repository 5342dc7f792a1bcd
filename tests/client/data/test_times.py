import polars as pl
import pytest

from hansa.errors import UsageError
from hansa_client.data.times import check_format, seconds

NOON = 1717156800.0  # 2024-05-31T12:00:00Z


@pytest.mark.parametrize(
    ("written", "zone", "expected"),
    [
        ("2024-05-31T12:00:00Z", "Europe/Berlin", NOON),
        ("2024-05-31T14:00+02:00", "UTC", NOON),
        ("2024-05-31 14:00:00+02", "UTC", NOON),
        ("2024-05-31 06:30:00 -0530", "UTC", NOON),
        ("2024-05-31 14:00:00,25", "Europe/Berlin", NOON + 0.25),
        ("2024-05-31", "UTC", NOON - 12 * 3600),
        ("20240531", "UTC", NOON - 12 * 3600),
        ("1717156800", "Europe/Berlin", NOON),
        ("1717156800123", "UTC", NOON + 0.123),
        ("1717156800.5", "UTC", NOON + 0.5),
        ("7", "UTC", 7.0),
        ("99999999", "UTC", 99999999.0),  # eight digits that are no date
        ("2024-02-30", "UTC", None),
        ("31.05.2024", "UTC", None),
        ("1e300", "UTC", None),
        ("nan", "UTC", None),
        ("", "UTC", None),
        (None, "UTC", None),
    ],
)
def test_auto_knows_iso_8601_and_epochs(written, zone, expected):
    assert seconds(pl.Series([written], dtype=pl.String), zone=zone).to_list() == [
        expected if expected is None else pytest.approx(expected)
    ]


def test_formats_and_hours_that_the_clocks_skip_or_repeat():
    column = pl.Series(["31.05.2024 14:00", "1.5.2024 2:00", "31.03.2024 02:30", "27.10.2024 02:30", "x"])
    found = seconds(column, "%d.%m.%Y %H:%M", "Europe/Berlin").to_list()
    assert found == [NOON, 1714521600.0, 1711848600.0, 1729989000.0, None]
    assert seconds(pl.Series(["05/31/24"]), "%m/%d/%y").to_list() == [NOON - 12 * 3600]
    assert seconds(pl.Series([20240531]), "%Y%m%d").to_list() == [NOON - 12 * 3600]


@pytest.mark.parametrize("values", [[[1]], [True], [b"x"]])
def test_columns_that_hold_no_times_hold_none(values):
    assert seconds(pl.Series(values)).to_list() == [None]


@pytest.mark.parametrize(
    ("form", "zone"), [("%H:%M", "UTC"), ("day", "UTC"), ("%Q", "UTC"), ("auto", "Mars/X")]
)
def test_formats_and_zones_are_checked(form, zone):
    with pytest.raises(UsageError, match=r"data\.columns\."):
        check_format(form, zone)


@pytest.mark.parametrize("form", ["auto", "%d.%m.%Y", "%m/%d/%Y %I:%M %p", "%Y-%m-%dT%H:%M:%S%z", "%s"])
def test_usual_formats_are_taken(form):
    check_format(form, "America/New_York")
