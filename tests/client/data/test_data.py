import stat

import polars as pl
import pytest

from hansa.errors import UsageError
from hansa_client.config import Data, ShopSettings
from hansa_client.data import rowcache
from hansa_client.data.exclusions import Exclusions, forget
from hansa_client.data.loading import load_data

ROWS = """user_id,item_id,timestamp,n
b,i1,5,1
a,i3,2,2
a,i0,1,3
a,i3,9,4
b,i2,5,5
stranger,unknown,5,6
a,unknown,5,7
,i0,1,8
"""


@pytest.fixture
def filled(home):
    (home.root / "interactions.csv").write_text(ROWS)
    return home


def load(home, **data):
    return load_data(home, ShopSettings(data=Data(**data)))


def histories(data):
    return {name: data.histories.row(at).tolist() for at, name in enumerate(data.customers)}


def test_customers_with_their_items_oldest_first(filled):
    data = load(filled)
    assert histories(data) == {"a": [0, 3], "b": [1, 2]}  # ties in the file's order
    assert data.histories.n_items == 4
    assert data.newest == 9.0
    assert data.report.reading.dropped == {"no customer": 1}
    assert data.report.mapping.unknown == 2
    assert data.report.busiest == pytest.approx(3 / 5)


def test_no_usable_row_is_an_empty_shop_and_no_error(home):
    (home.root / "interactions.csv").write_text("user_id,item_id,timestamp\n")
    data = load(home)
    assert (data.customers, len(data.histories), data.newest) == ([], 0, None)
    assert data.report.mapping.share_known == 1.0


@pytest.mark.parametrize("incremental", ["", "n"])
def test_who_opted_out_is_not_there_until_taken_back(filled, incremental):
    exclusions = Exclusions(filled)
    load(filled, incremental=incremental)
    assert exclusions.add(["a ", "nobody"]) == 2
    assert exclusions.add(["a"]) == 0
    removed = forget(filled, ["a "])["hansa_client.data.rowcache"]
    assert removed == (4 if incremental else 0)
    data = load(filled, incremental=incremental)
    assert list(histories(data)) == ["b"]
    if incremental:
        assert "a" not in pl.read_parquet(rowcache.path_of(filled))["customer"].to_list()
    else:
        assert data.report.excluded == 1
    assert Exclusions(filled).remove(["a"]) == 1
    (filled.root / "vault" / "interactions.parquet").unlink(missing_ok=True)
    assert list(histories(load(filled, incremental=incremental))) == ["a", "b"]


def test_who_opted_out_does_not_come_back_into_the_cache(filled):
    Exclusions(filled).add(["a"])
    load(filled, incremental="n")
    assert "a" not in pl.read_parquet(rowcache.path_of(filled))["customer"].to_list()


def test_only_keyed_hashes_are_on_the_disk(filled):
    exclusions = Exclusions(filled)
    exclusions.add(["alice@example.org"])
    key = filled.root / "keys" / "exclusions.key"
    for path in (filled.excluded, key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"alice" not in filled.excluded.read_bytes()
    assert exclusions.hashes == tuple(filled.excluded.read_text().split())
    assert len(Exclusions(filled)) == 1
    other = key.read_text()
    key.write_text("00" * 32)
    assert "alice@example.org" not in Exclusions(filled)
    key.write_text(other)
    assert "alice@example.org" in Exclusions(filled)


@pytest.mark.parametrize("damage", ["key", "line"])
def test_without_its_key_or_with_a_damaged_list_no_data_is_read(filled, damage):
    Exclusions(filled).add(["a"])
    if damage == "key":
        (filled.root / "keys" / "exclusions.key").unlink()
    else:
        filled.excluded.write_text("alice\n")
    with pytest.raises(UsageError, match="restore"):
        load(filled)
