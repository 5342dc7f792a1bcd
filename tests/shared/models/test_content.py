import numpy as np
import polars as pl
import pytest

from hansa.models import content as module
from hansa.models.content import LIFT, SHRINKAGE, Content, features
from hansa.models.own import fit_own
from hansa.rng import seeded_generator
from hansa.schema import Catalogue, Histories

SHOES = pl.DataFrame(
    {
        "title": ["Red shoe", "Blue shoe", "Green hat", "Blue hat", None],
        "category": ["shoes", "shoes", "hats", "hats", "hats|sale"],
        "price": [10.0, 11.0, 50.0, None, 52.0],
    }
)


def catalogue(details: pl.DataFrame) -> Catalogue:
    return Catalogue(tuple(map(str, range(len(details)))), details)


def content_of(details: pl.DataFrame) -> Content:
    found = Content.of(catalogue(details))
    assert found is not None
    return found


def kinds(n_items: int, n: int = 3) -> pl.DataFrame:
    return pl.DataFrame({"category": [f"kind {item % n}" for item in range(n_items)]})


def tastes(n: int, n_items: int = 60) -> Histories:
    """Customers who like the items of one kind."""
    rng = seeded_generator(0, "test")
    likes = np.arange(n)[:, None] % 3 == np.arange(n_items) % 3
    users, items = np.nonzero(rng.random((n, n_items)) < np.where(likes, 0.4, 0.03))
    return Histories.from_pairs(users, items, n, n_items)


def test_features_have_length_one_or_none() -> None:
    lengths = np.sqrt((features(SHOES).toarray() ** 2).sum(axis=1))
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    assert features(pl.DataFrame({"title": [None, "!"]}, schema={"title": pl.String})).nnz == 0


def test_neighbours_resemble_and_exclude_the_item_itself() -> None:
    similar = content_of(SHOES).neighbours.toarray()
    assert np.diag(similar).sum() == 0
    assert similar[0].argmax() == 1
    assert similar[2].argmax() == 3
    assert similar[0, 2] == similar[0, 3] == 0, "nothing in common"
    assert similar[4, 2] > 0, "a part of a category counts"
    np.testing.assert_allclose(similar, similar.T, atol=1e-6)


def test_chunks_do_not_change_the_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = content_of(SHOES).neighbours.toarray()
    monkeypatch.setattr(module, "CHUNK_CELLS", 7)
    np.testing.assert_array_equal(whole, content_of(SHOES).neighbours.toarray())


def test_only_the_nearest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEIGHBOURS", 4)
    assert np.diff(content_of(kinds(60)).neighbours.indptr).max() == 4


@pytest.mark.parametrize("details", [pl.DataFrame(), pl.DataFrame({"colour": ["red"] * 5})])
def test_a_catalogue_without_details_says_nothing(details: pl.DataFrame) -> None:
    assert Content.of(Catalogue(tuple("abcde"), details)) is None


def test_an_unknown_item_moves_towards_its_known_neighbours() -> None:
    known = np.array([False, True, True, True, True])
    scores = np.array([[0, 2, -1, 5, 0.5]], dtype=np.float32)
    content = content_of(SHOES)
    placed = content.placement(known).apply(scores, Histories.from_pairs([0], [1], 1, 5))
    similarity = content.neighbours[0, 1]
    assert placed[0, 0] == pytest.approx(LIFT * 2 * similarity / (similarity + SHRINKAGE), rel=1e-5)
    np.testing.assert_array_equal(placed[:, 1:], scores[:, 1:])


def test_unknown_neighbours_teach_nothing() -> None:
    scores = np.array([[1, 2, -1, 5, 0.5]], dtype=np.float32)
    placed = content_of(SHOES).placement(np.zeros(5, dtype=np.bool_)).apply(scores, tastes(1, 5))
    np.testing.assert_array_equal(placed, scores)


def test_resemblance_helps_most_where_customers_are_few() -> None:
    content, known = content_of(kinds(6)), np.array([True] * 5 + [False])
    assert content.placement(known).resemblance == 0
    few, many = (content.placement(known, n).resemblance for n in (20, 2_000))
    assert few > 0.2 > 0.01 > many


def test_a_new_item_finds_those_who_like_its_kind() -> None:
    train = tastes(30)
    new = np.arange(60) >= 54
    train = train.where(~new[train.items])
    own = fit_own(train, content=content_of(kinds(60))).model
    before, after = (scores[:, new] for scores in (fit_own(train).model.score(train), own.score(train)))
    assert np.ptp(before, axis=1).max() < 1e-6, "without content all new items are alike"
    likes = np.arange(30)[:, None] % 3 == np.arange(54, 60) % 3
    assert (after[likes].mean() - after[~likes].mean()) > 2 * after[~likes].std()


def test_known_items_keep_their_scores_and_places() -> None:
    train = tastes(30)
    new = np.arange(60) >= 54
    train = train.where(~new[train.items])
    bare, placed = (fit_own(train, content=given).model for given in (None, content_of(kinds(60))))
    np.testing.assert_array_equal(bare.score(train)[:, ~new], placed.score(train)[:, ~new])
