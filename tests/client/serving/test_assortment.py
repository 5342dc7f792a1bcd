import polars as pl
import pytest

from hansa.errors import UsageError
from hansa.schema import Catalogue
from hansa_client.config import CatalogueMapping
from hansa_client.serving.assortment import Assortment


@pytest.fixture
def plain(catalogue):
    return Assortment.plain(catalogue)


def test_plain_codes_are_the_catalogues(plain) -> None:
    assert plain.position("i07") == 7
    assert plain.code(7) == "i07"
    assert plain.title(7) == "Title 7"
    assert plain.sold.all()


def test_an_unknown_code_names_those_that_begin_with_it_and_no_others(plain) -> None:
    with pytest.raises(UsageError, match=r"begin with it: i10, i11, i12, \.\.\.; give"):
        plain.position("i1")
    for wrong in ("j07", "07", "i07x", ""):
        with pytest.raises(UsageError) as error:
            plain.position(wrong)
        assert "begin" not in str(error.value)


def test_a_mapping_file_says_what_is_sold(serving_home, catalogue) -> None:
    (serving_home.root / "map.csv").write_text("code,item_id\n007,i03\n008,i03\nx,i05\ny,gone\n")
    found = Assortment.read(serving_home, CatalogueMapping(mapping="map.csv"), catalogue)
    assert (found.position("007"), found.position("008"), found.position("x")) == (3, 3, 5)
    assert found.code(3) == "007"
    assert found.sold.nonzero()[0].tolist() == [3, 5]
    assert found.code(4) == "i04"
    with pytest.raises(UsageError, match="means no item"):
        found.position("y")


def test_a_column_of_the_catalogue_holds_the_codes(serving_home) -> None:
    details = pl.DataFrame({"gtin": [None, "4000417025005", "96385074"], "sku": ["a", " b ", ""]})
    catalogue = Catalogue(("i00", "i01", "i02"), details)
    found = Assortment.read(serving_home, CatalogueMapping(key="gtin"), catalogue)
    assert found.position("04000417025005") == found.position("4000417-025005") == 1
    assert found.code(1) == "4000417025005"  # as the catalogue spells it
    assert found.sold.tolist() == [False, True, True]
    with pytest.raises(UsageError, match="begin with it: 96385074;"):
        found.position("9638")
    assert Assortment.read(serving_home, CatalogueMapping(key="sku"), catalogue).position("b") == 1
    with pytest.raises(UsageError, match="'size'"):
        Assortment.read(serving_home, CatalogueMapping(key="size"), catalogue)
    with pytest.raises(UsageError, match=r"none\.csv"):
        Assortment.read(serving_home, CatalogueMapping(mapping="none.csv"), catalogue)


def test_a_category_is_a_whole_or_a_part(plain) -> None:
    assert plain.category("food").sum() == 40
    assert plain.category("Food|Milk").nonzero()[0].tolist() == list(range(1, 60, 3))
    assert plain.category("milk").sum() == 20
    with pytest.raises(UsageError, match=r"some begin with it: food\|bread, food\|milk"):
        plain.category("Foo")
    with pytest.raises(UsageError, match=r"of it$"):
        plain.category("shoes")
    with pytest.raises(UsageError, match="has no categories"):
        Assortment.plain(Catalogue(("a",))).category("x")


def test_without_titles_items_are_called_by_their_codes() -> None:
    assert Assortment.plain(Catalogue(("a", "b"))).title(1) == "b"
