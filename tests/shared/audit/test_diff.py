from hansa.audit.diff import diff
from hansa.audit.signing import open_report


def reports(*contents):
    return [open_report(content, "report") for content in contents]


def test_nothing_changed_between_a_report_and_itself(busy):
    content = busy.shop_report("north")
    assert diff(*reports(content, content)) == []


def test_a_later_report_has_another_run_and_less_left(league):
    league.run("spring")
    before = league.shop_report("north")
    league.run("autumn")
    found = {place: (one, other) for place, one, other in diff(*reports(before, league.shop_report("north")))}
    before_left, left = found["budget.left"]
    assert before_left > left
    added = found["runs[run autumn]"]
    assert added[0] is None
    assert added[1]["method"] == "popularity"
    assert not any(place.startswith(("evidence", "runs[run spring]")) for place in found)
