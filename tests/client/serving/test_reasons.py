import numpy as np

from hansa_client.serving.reasons import Parts, Reason, popular, reasons

HAD = np.array([10, 11, 12])
LISTED = np.array([1, 2])


def title(item):
    return f"T{item}"


def told(parts, had=HAD, listed=LISTED):
    return [reason.text(title) for reason in reasons(had, listed, parts)]


def column(*values):
    return np.array(values, dtype=np.float32)[:, None].repeat(2, axis=1)


def both(value):
    return np.full(2, value, dtype=np.float32)


def test_the_items_that_add_most_are_named() -> None:
    parts = Parts(own=both(3.0), league=None, own_added=column(0.9, 2.0, 0.1))
    assert told(parts) == ["because of T11 and T10 (own knowledge)"] * 2
    parts = Parts(own=both(3.0), league=None, own_added=column(0.3, 2.0, -0.1))
    assert told(parts) == ["because of T11 (own knowledge)"] * 2


def test_what_both_add_is_added_up() -> None:
    parts = Parts(both(1.0), both(1.2), column(1.0, 0.0, 0.1), column(0.0, 0.2, 1.0))
    assert told(parts) == ["because of T12 and T10 (own and the league's knowledge)"] * 2
    parts = Parts(both(0.2), both(1.2), column(0.2, 0.0, 0.0), column(0.0, 0.2, 1.0))
    assert told(parts) == ["because of T12 (the league's knowledge)"] * 2


def test_popularity_is_the_reason_where_it_carries_more() -> None:
    own = Parts(own=both(3.0), league=None, own_added=column(0.2, 0.2, 0.2))
    assert told(own) == ["popular here"] * 2
    league = Parts(own=None, league=both(3.0), league_added=column(0.2, 0.2, 0.2))
    assert told(league) == ["popular in the league"] * 2
    assert told(Parts(both(3.0), both(1.0), column(0, 0, 0), column(0, 0, 0))) == ["popular here"] * 2
    assert told(Parts(both(2.0), both(1.5)))[0] == "popular here and in the league"


def test_nothing_is_a_reason_for_itself() -> None:
    parts = Parts(own=both(3.0), league=None, own_added=column(0.9, 2.0, 0.1))
    assert told(parts, listed=np.array([11, 2])) == [
        "because of T10 (own knowledge)",
        "because of T11 and T10 (own knowledge)",
    ]
    alone = Parts(own=both(3.0)[:1], league=None, own_added=column(2.0)[:, :1])
    assert told(alone, had=np.array([11]), listed=np.array([11])) == ["had before"]


def test_each_item_has_its_own_reason() -> None:
    added = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]], dtype=np.float32)
    assert told(Parts(both(2.0), None, added)) == [
        "because of T10 (own knowledge)",
        "because of T11 (own knowledge)",
    ]


def test_without_history_there_is_popularity() -> None:
    none = np.empty(0, dtype=np.int64)
    assert [reason.because for reason in reasons(none, LISTED, Parts(both(1.0), None))] == [(), ()]
    assert popular(None, 1.0) == Reason((), "league", "popular in the league")
    assert Reason((3,), "own").text(title, "goes with") == "goes with T3 (own knowledge)"
