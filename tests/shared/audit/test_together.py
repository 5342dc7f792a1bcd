import shutil
from hashlib import sha256

from hansa.audit.making import make_report
from hansa.audit.together import compare
from hansa.audit.verify import verify
from hansa.dp.ledger.file import LedgerFile


def held_together(*contents):
    verdicts = [verify(content, f"report {number}") for number, content in enumerate(contents, start=1)]
    assert [verdict.findings for verdict in verdicts] == [[]] * len(contents)
    return compare(verdicts)


def test_honest_parties_do_not_contradict_each_other(league):
    league.run("spring")
    early = league.shop_report("north")
    league.run("autumn", method="cooccurrence")
    reports = [early, league.league_report(), *(league.shop_report(shop) for shop in league.ledgers)]
    assert held_together(*reports) == []


def test_a_shop_that_rolled_back_is_found(league):
    league.run("spring")
    league.run("autumn", epsilon=3.0)
    cut = league.shop_material("north")
    cut = make_report(type(cut)(**{**vars(cut), "evidence": earlier(cut.evidence, 3)}))
    found = held_together(cut, league.league_report())
    assert any("statement of north" in line and "it was cut" in line for line in found)
    assert any("a receipt proves entry" in line for line in found)


def earlier(evidence, entries):
    ledger = evidence.ledgers[0]
    rows = ledger.rows[:entries]
    named = "".join(row.text for row in rows)
    plans = [plan for plan in evidence.plans if sha256(plan.encode()).hexdigest() in named]
    kept = ledger.model_copy(update={"rows": rows})
    return evidence.model_copy(update={"ledgers": [kept], "plans": plans})


def test_a_shop_with_two_histories_is_found(league, tmp_path):
    league.run("spring")
    fork = tmp_path / "fork"
    fork.mkdir()
    for file in league.ledgers["north"].path.parent.glob("north.*"):
        shutil.copy2(file, fork / file.name)
    league.run("autumn")
    honest, federation = league.shop_report("north"), league.league_report()
    other = LedgerFile(fork / "north.sqlite")
    other.reconcile(other.receipt())
    for reason in ("no", "still no"):
        other.refuse("summer", reason)
    league.ledgers["north"] = other
    forked = league.shop_report("north")
    assert any("two histories" in line for line in held_together(honest, forked))
    assert any("two histories" in line for line in held_together(forked, federation))


def test_a_coordinator_that_shows_two_histories_is_found(league):
    league.run("spring", shops=("east",))
    east, federation = league.shop_report("east"), league.league_report()
    league.log.clear()
    league.statements.clear()
    league.plans.clear()
    league.run("autumn", shops=("west",))
    west, other = league.shop_report("west"), league.league_report()
    assert any("coordinator showed two histories" in line for line in held_together(east, west))
    assert any("it has two histories" in line for line in held_together(east, other))
    assert any("the coordinator has two histories" in line for line in held_together(federation, other))


def test_a_log_that_went_back_is_found_in_one_shop_s_ledger(league):
    league.run("spring")
    league.log.clear()
    league.run("autumn")
    report = league.shop_report("east")
    assert any("went back" in line for line in held_together(report, league.shop_report("west")))
