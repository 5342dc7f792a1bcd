import stat
from pathlib import Path

import polars as pl
import pytest

from hansa.errors import UsageError
from hansa_client.config import CatalogueMapping, ShopSettings
from hansa_client.data.catalogue import gtin, load_catalogue, map_items


def rows(*items):
    times = [float(at) for at in range(len(items))]
    return pl.DataFrame({"customer": ["c"] * len(items), "item": items, "time": times})


def mapped(home, *items, **mapping):
    chosen = ShopSettings(catalogue=CatalogueMapping(**mapping))
    return map_items(rows(*items), load_catalogue(home), chosen, home)


def test_the_catalogue_keeps_all_its_columns(home):
    catalogue = load_catalogue(home)
    assert catalogue.item_ids == ("i0", "i1", "i2", "i3")
    assert catalogue.details["gtin"].to_list() == ["4006381333931", "96385074", "036000291452", None]
    assert catalogue.details["price"].to_list() == [4.5, 6.0, 30.0, None]


@pytest.mark.parametrize(
    ("content", "said"),
    [("title\nx\n", "item_id"), ("item_id\na\na\n", "twice"), ("item_id,b\n,1\n", "empty"), (None, "init")],
)
def test_a_damaged_catalogue_is_refused(home, content, said):
    home.catalogue.unlink() if content is None else home.catalogue.write_text(content)
    with pytest.raises(UsageError, match=said):
        load_catalogue(home)


def test_codes_by_column_in_the_interactions_order(home):
    found, report = mapped(home, "B-3", "M-0", "B-3", "m-0", "X", key="sku")
    assert found["item"].to_list() == [3, 0, 3]
    assert found["time"].to_list() == [0.0, 1.0, 2.0]
    assert (report.interactions, report.unknown, report.codes, report.unknown_codes) == (5, 2, 4, 2)
    assert report.share_known == pytest.approx(0.6)


def test_unknown_codes_go_to_a_local_file_and_nowhere_else(home):
    _, report = mapped(home, "a", "b", "b", "i0")
    assert report.file.read_text() == "code,interactions\nb,2\na,1\n"
    assert stat.S_IMODE(report.file.stat().st_mode) == 0o600
    assert [line for line in report.lines() if "'b'" in line or " b," in line] == []
    _, report = mapped(home, "i0")
    assert report.file is None
    assert not (home.vault / "unknown-items.csv").exists()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("4006381333931", "04006381333931"),
        ("04006381333931", "04006381333931"),
        ("400-6381 333931", "04006381333931"),
        ("4006381333931.0", "04006381333931"),
        ("96385074", "00000096385074"),
        ("036000291452", "00036000291452"),
        ("36000291452", "00036000291452"),  # a spreadsheet took the zero
        ("4006381333932", None),  # check digit
        ("4.00638E+12", None),
        ("123456", None),
        ("0000000000000000096385074", None),
        ("٤٠٠٦٣٨١٣٣٣٩٣١", None),
        ("", None),
    ],
)
def test_gtins_are_compared_as_14_digits_with_their_check_digit(code, expected):
    assert gtin(code) == expected


def test_gtin_mapping(home):
    found, report = mapped(home, "04006381333931", "36000291452", "4006381333932", "96385074", key="gtin")
    assert found["item"].to_list() == [0, 2, 1]
    assert report.unknown_codes == 1


def test_a_mapping_file(home):
    (home.root / "map.csv").write_text("\ufeffcode;x\n")
    with pytest.raises(UsageError, match=r"catalogue\.mapping.*'code;x'"):
        mapped(home, "1", mapping=Path("map.csv"))
    (home.root / "map.csv").write_text("\ufeffitem_id,code\ni3,1\ni3, 2 \nnew,3\ni3,1\n,\n")
    found, report = mapped(home, "1", "2", "3", "i3", mapping=Path("map.csv"))
    assert found["item"].to_list() == [3, 3]
    assert (report.unknown, report.strangers) == (2, 1)


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"key": "ean"}, r"catalogue\.key.*'ean'.*'gtin', 'sku'"),
        ({"key": "title"}, r"catalogue\.key: title 'Mug' is ambiguous, items 'i0' and 'i3'"),
        ({"mapping": Path("none.csv")}, r"catalogue\.mapping.*none\.csv"),
        ({"mapping": Path("two.csv")}, r"two\.csv, line 3: code '1' is ambiguous"),
    ],
)
def test_a_wrong_mapping_is_one_line(home, mapping, said):
    home.catalogue.write_text(home.catalogue.read_text().replace("Bulb", "Mug"))
    (home.root / "two.csv").write_text("code,item_id\n1,i0\n1,i1\n")
    with pytest.raises(UsageError, match=said):
        mapped(home, "1", **mapping)
