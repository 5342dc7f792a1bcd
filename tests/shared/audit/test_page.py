"""The page of a report: every field, missing ones shown, nothing from outside, nothing injected."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from hansa.audit.document import Accuracy, Attack, Party, Refusal, Report, Statement
from hansa.audit.making import make_report
from hansa.audit.page import left_text, moment_text, number_text, render, span_text
from hansa.audit.signing import open_report, report_hash

SECTIONS = [name for name in Statement.model_fields if name != "kind"]
VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> & $x^2$ {{ 7 * 7 }} ‮txt"


class Page(HTMLParser):
    """What a reader finds: tags in order, ids, text by section, and whether everything was closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.ids, self.text, self.open, self.problems = [], [], {None: ""}, [], []
        self.section = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = found.get("id")
            self.text.setdefault(self.section, "")

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text[self.section] = self.text.get(self.section, "") + data

    @property
    def all_text(self):
        return "".join(self.text.values())

    def values(self, attribute):
        return [found[attribute] for _, found in self.tags if attribute in found]


def attack(bound=0.8, **more):
    fields = {
        "attack": "door", "method": "cooccurrence", "dp": "local", "claimed": 1.0, "delta": 1e-5,
        "confidence": 0.99, "trials": 20_000, "figures": {"tpr_at_0.001": 0.03}, "broken": bound > 1,
        "words": "The strongest test of the door.",
    }  # fmt: skip
    return Attack(bound=bound, **{**fields, **more})


def accuracy(**more):
    names = ("alone", "model", "pooled", "popularity", "shared")
    metrics = {name: {"ndcg@10": 0.1 + 0.01 * n, "hr@10": None} for n, name in enumerate(names)}
    fields = {
        "scenario": "journey", "protocol": "last20", "seeds": [0], "deviations": None, "gain_kept": 0.5,
        "worse_than_alone": 1, "customers": 2416, "shops": 111,
    }  # fmt: skip
    return Accuracy(metrics=metrics, **{**fields, **more})


@pytest.fixture(scope="module")
def full(busy):
    """A shop's report with everything that a report can have."""
    material = replace(
        busy.shop_material("east"),
        contact="privacy@east.example",
        overlap=2,
        declared=["the vocabulary: best sellers by exact counts"],
        accuracy=accuracy(),
        attacks=[attack(), attack(2.0)],
        parties=[Party(role="shop", name="east", key="ab" * 32)],
    )
    return make_report(material)


def page_of(content):
    return render(open_report(content, "report"), report_hash(content))


def changed(content, change):
    """The page of a report of which fields were changed; nothing of it is checked."""
    document = json.loads(content)
    change(document["statement"])
    return render(Report.model_validate_json(json.dumps(document)), "0" * 64)


@pytest.mark.parametrize("source", ["full", "bare", "league"])
def test_every_section_is_there_and_the_page_is_sound(source, full, busy):
    content = {
        "full": lambda: full,
        "bare": lambda: busy.shop_report("north"),
        "league": busy.league_report,
    }[source]()
    page = Page(page_of(content))
    assert page.problems == []
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    headed = [found["id"] for tag, found in page.tags if tag == "section" and "id" in found]
    assert set(SECTIONS) <= set(headed)
    assert all(len(page.text[name].strip()) > 20 for name in headed)
    assert {found["href"][1:] for tag, found in page.tags if tag == "a"} <= set(page.ids)


def test_it_names_the_document_and_says_what_it_claims(full):
    content, report = full, open_report(full, "report")
    page = Page(page_of(content))
    assert page.text[None].count(report_hash(content)) == 1  # on the first page
    assert report_hash(content) in page.text["evidence"]
    assert report.statement.guarantee.claim in page.text[None]
    assert report.signature.value in page.text["evidence"]
    assert "hansa audit verify audit-report.json" in page.text["verify"]


def test_nothing_is_loaded_and_nothing_runs(full):
    text = page_of(full)
    page = Page(text)
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    tags = {tag for tag, _ in page.tags}
    assert tags.isdisjoint({"script", "link", "iframe", "object", "embed", "img", "form", "base", "image"})
    assert page.values("src") == []
    assert all(value.startswith("#") for value in page.values("href") + page.values("xlink:href"))
    assert all(place.startswith("#") for place in re.findall(r"url\(\"?([^)]*)\)", text))
    policy = next(found["content"] for tag, found in page.tags if "http-equiv" in found)
    assert policy.startswith("default-src 'none'")


def test_plots_have_words_and_tables_have_heads(full):
    page = Page(page_of(full))
    plots = [found for tag, found in page.tags if found.get("role") == "img"]
    assert len(plots) == 6  # the bar of the budget, budget, spend, profile, attacks, accuracy
    assert all(len(found["aria-label"]) > 20 for found in plots)
    tables = [tag for tag, _ in page.tags if tag == "table"]
    assert len([tag for tag, _ in page.tags if tag == "caption"]) == len(tables)
    assert all("scope" in found for tag, found in page.tags if tag == "th")


def test_what_is_none_is_missing_and_what_is_empty_is_none(busy):
    content = busy.shop_report("north")
    page = Page(page_of(content))
    missing = {"identity": "Contact", "tuning": "data", "empirical": "", "accuracy": "", "unit": "Overlap"}
    for name, word in missing.items():
        assert re.search(rf"{word}\s*missing", page.text[name]), name
    assert not re.search(r"\bNone\b(?! of it)", page.all_text)
    assert re.search(r"Restarts\s*none", page.text["budget"])
    assert re.search(r"Parties\s*none", page.text["identity"])


def test_all_fields_that_may_be_missing_can_be(full):
    """Every None that the form allows, at once."""

    def forget(statement):
        for section in ("identity", "guarantee", "budget"):
            for name, field in Statement.model_fields[section].annotation.model_fields.items():
                if type(None) in getattr(field.annotation, "__args__", ()):
                    statement[section][name] = None
        for run in statement["runs"]:
            run |= dict.fromkeys(
                ("accepted", "asked_by", "plan", "method", "items", "customers", "shops", "epsilon"), None
            )
        for release in statement["releases"]:
            release |= dict.fromkeys(
                ("time", "round", "release", "bound", "sigma", "to", "epsilon_after"), None
            )
            release |= {"multiplier": None, "sampling": None, "parts": [], "mechanism": "unknown"}
        for trust in statement["trust"]:
            trust["dp"] = None
        statement["accounting"] |= {"order": None, "cross_check": None}

    page = Page(changed(full, forget))
    assert page.problems == []
    assert not re.search(r"\bNone\b(?! of it)", page.all_text)
    assert page.all_text.count("missing") > 40
    assert "No limit is stated" in page.text[None]


def test_an_empty_statement_is_a_page(full):
    def empty(statement):
        for name in ("trust", "runs", "releases", "members", "risks", "empirical"):
            statement[name] = []
        statement["guarantee"] |= {"profile": [], "overlaps": []}
        statement["unit"]["caps"] = []
        statement["protection"] = {"covered": [], "not_covered": []}
        statement["identity"] |= {"parties": [], "libraries": {}}
        statement["budget"] |= {"history": [], "changes": [], "refusals": [], "restarts": []}
        statement["tuning"]["declared"] = []
        statement["accuracy"] |= {"metrics": {}, "seeds": []}
        for name, value in statement["evidence"].items():
            statement["evidence"][name] = [] if isinstance(value, list) else None

    page = Page(changed(full, empty))
    assert page.problems == []
    assert all("none" in page.text[name] for name in ("runs", "releases", "trust", "risks", "empirical"))


def _poison(value):
    """Every free text becomes hostile."""
    if isinstance(value, dict):
        return {name: _poison(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_poison(each) for each in value]
    if isinstance(value, str) and not re.fullmatch("[0-9a-f]{32,}", value):
        return HOSTILE
    return value


def test_hostile_text_stays_text(full):
    clean = Page(page_of(full))

    def poison(statement):
        for name in [name for name in statement if name not in ("kind", "evidence")]:
            parts = [release["parts"] for release in statement["releases"]]
            statement[name] = _poison(statement[name])
            for release, kept in zip(statement["releases"], parts, strict=True):
                release["parts"] = kept
        for ledger in statement["evidence"]["ledgers"]:
            ledger["shop"] = HOSTILE
        statement["evidence"]["omitted"] = [HOSTILE]
        statement["identity"]["libraries"] = {HOSTILE: HOSTILE}
        statement["runs"][0]["settings"] = {HOSTILE: HOSTILE}
        statement["empirical"][0]["figures"] = {HOSTILE: HOSTILE}
        statement["accuracy"]["metrics"] = {HOSTILE: {"ndcg@10": 0.1, HOSTILE: 0.2}}

    text = changed(full, poison)
    page = Page(text)
    assert page.problems == []
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in clean.tags}
    assert not any(name.startswith("on") for _, found in page.tags for name in found)
    assert "<script>alert(1)</script>" in page.all_text  # shown as what it is
    assert "{{ 7 * 7 }}" in page.all_text
    assert "‮" not in text  # what turns text around is shown as a code
    assert "\\u202e" in page.all_text
    style = text[text.index("<style>") : text.index("</style>")]
    assert "alert" not in style


def test_equal_reports_give_equal_pages(full):
    assert page_of(full) == page_of(full)


def test_thousands_of_releases_and_shops_stay_readable(full):
    short = len(page_of(full))

    def grow(statement):
        release, moment = statement["releases"][-1], statement["budget"]["history"][-1]
        for number in range(100, 5100):
            statement["releases"].append({**release, "number": number, "round": number})
            statement["budget"]["history"].append({**moment, "number": number})
        for number in range(2000):
            statement["budget"]["refusals"].append(
                Refusal(
                    number=number, time="2026-01-01", shop=None, run=f"r{number}", reason="no"
                ).model_dump()
            )

    text = changed(full, grow)
    assert len(text) < short + 400_000
    page = Page(text)
    assert "to 5,099 (5,001)" in page.text["releases"]
    assert "and 1,701 more" in page.text["budget"]


def test_a_refuted_claim_is_on_the_first_page(full):
    page = Page(page_of(full))
    assert "✗ refuted" in page.text[None]
    assert "1 of 2 attacks" in page.text[None]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.0, "1"), (0.12345678, "0.1235"), (12345.678, "12,346"), (1e-5, "1e-5"), (2.5e9, "2.5e9"),
     (1.23456e-12, "1.235e-12"), (-0.5, "-0.5"), (3.9999999, "4"), (123456.0, "123,456")],
)  # fmt: skip
def test_numbers_have_four_digits(value, text):
    assert number_text(value) == text


def test_a_rest_is_rounded_down():
    assert left_text(4.1868) == "4.186"
    assert left_text(0.00004) == "0"
    assert left_text(0.3) == "0.3"
    assert left_text(None) is None


def test_times_are_readable_and_others_stay():
    assert moment_text("2026-03-04T01:02:03.456+02:00") == "2026-03-03 23:02 UTC"
    assert moment_text("2026-03-04T01:02:03") == "2026-03-04 01:02"
    assert moment_text("yesterday") == "yesterday"
    assert span_text(3, 3) == 3
    assert span_text(3, 1200) == "3 to 1,200"


def _chromium():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return found
    complain = pytest.fail if os.environ.get("HANSA_REQUIRE") == "1" else pytest.skip
    complain("chromium is not installed")


def test_a_browser_shows_and_prints_it_without_a_network(full, tmp_path):
    browser, page = _chromium(), tmp_path / "audit-report.html"
    page.write_text(page_of(full), encoding="utf-8")
    common = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--proxy-server=127.0.0.1:9", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
    ]  # fmt: skip

    def run(*options):
        done = subprocess.run(
            [*common, *options, page.as_uri()], capture_output=True, timeout=120, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
        console = [line for line in done.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line]
        assert console == []  # nothing was refused, nothing failed to load
        return done.stdout.decode("utf-8", errors="replace")

    shown = Page(run("--dump-dom"))
    assert set(SECTIONS) <= set(shown.ids)
    run("--no-pdf-header-footer", "--print-to-pdf=page.pdf")
    pages = len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes()))
    assert 4 < pages < 20
    run("--screenshot=page.png", "--window-size=1000,1400")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
