from decimal import Decimal

import polars as pl
import pytest

from hansa_client.data.cleaning import bought, text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1", True),
        ("1,5", True),
        ("1.234,50", True),
        ("1,234.50", True),
        ("1'000", True),
        (" 2 ", True),
        ("+3", True),
        ("1e3", True),
        (".5", True),
        ("0", False),
        ("0,00", False),
        ("0.000", False),
        ("0e5", False),
        ("-1", False),
        ("1,00-", False),
        ("-0,5", False),
        ("two", None),
        ("3 pieces", None),
        ("1-2", None),
        ("", None),
        (None, None),
    ],
)
def test_only_the_sign_of_a_quantity_matters(written, expected):
    assert bought(pl.Series([written], dtype=pl.String)).to_list() == [expected]


def test_quantities_that_are_numbers_already():
    assert bought(pl.Series([1.5, 0.0, -1.0, float("nan"), None])).to_list() == [
        True,
        False,
        False,
        None,
        None,
    ]
    assert bought(pl.Series([Decimal("0.5"), Decimal("-1")])).to_list() == [True, False]


def test_ids_are_text_as_the_shop_writes_it():
    assert text(pl.Series(["007", " a ", "", "NULL", None])).to_list() == ["007", "a", None, None, None]
    assert text(pl.Series([12.0, 0.5, None, float("nan")])).to_list() == ["12", "0.5", None, None]
    assert text(pl.Series([2**60])).to_list() == [str(2**60)]
    assert text(pl.Series([[1]])).to_list() == [None]
    assert text(pl.Series([b"x"])).to_list() == ["x"]
