import stat
import tomllib

import pytest

from hansa.cli import main
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import UsageError
from hansa.figures import default_delta
from hansa_client.config import ShopSettings, read_settings
from hansa_client.data.loading import load_data
from hansa_client.setup.configuring import Configuring
from hansa_client.setup.proposals import propose_columns, propose_csv, propose_format
from hansa_client.setup.settings_file import TEMPLATE

GERMAN = "Kundennummer;Artikelnr;Datum;Menge\nK1;M-0;31.05.2024 14:00;1,0\nK2;grün;01.06.2024 14:00;1,0\n"


@pytest.fixture
def german(invited):
    (invited.root / "verkauf.csv").write_bytes(GERMAN.encode("cp1252"))
    return invited


def configure(home, *arguments):
    return main(["client", "configure", "--home", str(home.root), *map(str, arguments)])


def test_the_template_holds_every_field_at_its_default():
    written = tomllib.loads(TEMPLATE)
    settings = ShopSettings.model_validate(written)
    assert settings == ShopSettings()
    known = settings.model_dump(exclude={"catalogue": {"mapping"}})

    def names(table, prefix=""):
        for name, value in table.items():
            yield from names(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]

    assert set(names(written)) == set(names(known))


def test_a_german_export_is_recognised(german, capsys):
    assert configure(german, "--path", german.root / "verkauf.csv", "--catalogue-key", "sku") == 0
    settings = read_settings(german.settings)
    data = settings.data
    assert str(data.path) == "verkauf.csv"
    assert (data.separator, data.encoding) == (";", "cp1252")
    assert (data.columns.customer, data.columns.item) == ("Kundennummer", "Artikelnr")
    assert (data.columns.time, data.columns.quantity) == ("Datum", "Menge")
    assert data.columns.time_format == "%d.%m.%Y %H:%M"
    assert settings.approvals.bundles == ("1" * 64,)
    said = capsys.readouterr().out
    assert "2 rows read, 2 used" in said
    assert "50.0% of the interactions" in said
    assert stat.S_IMODE(german.settings.stat().st_mode) == 0o600
    ledger = LedgerFile(german.ledger)
    assert (ledger.ceiling.epsilon, ledger.ceiling.delta) == (8.0, 1e-5)
    assert ledger.entries()[0].body["shop"] == "corner"


def test_again_it_changes_what_is_asked_for_and_keeps_the_operators_comments(german, capsys):
    configure(german, "--path", german.root / "verkauf.csv")
    with german.settings.open("a") as file:
        file.write("# mine\n")
    before = german.settings.read_text()
    (german.root / "verkauf.csv").unlink()  # it is not even looked at
    assert configure(german, "--epsilon", 6, "--dp", "local", "--dp", "distributed") == 0
    after = german.settings.read_text()
    changed = set(after.splitlines()) - set(before.splitlines())
    assert [line.split()[:3] for line in sorted(changed)] == [
        ["dp", "=", '["local",'],
        ["epsilon", "=", "6.0"],
    ]
    assert all("#" in line for line in changed)  # what it means stays beside it
    assert after.endswith("# mine\n")
    assert [entry.kind for entry in LedgerFile(german.ledger).entries()] == ["open", "ceiling"]
    assert "ceiling 8 -> 6" in capsys.readouterr().out


def test_again_nothing_is_proposed_anew_for_the_same_source(german):
    (german.root / "v.csv").write_text(GERMAN)
    configure(
        german, "--path", german.root / "v.csv", "--separator", ";", "--quantity", "", "--encoding", "cp1252"
    )
    assert configure(german, "--timezone", "Europe/Berlin") == 0
    data = read_settings(german.settings).data
    assert (data.encoding, data.columns.quantity, data.columns.timezone) == ("cp1252", "", "Europe/Berlin")


def test_delta_cannot_change(german, capsys):
    configure(german, "--path", german.root / "verkauf.csv")
    before = german.settings.read_text()
    assert configure(german, "--delta", "1e-6") == 2
    assert "budget.delta" in capsys.readouterr().err
    assert german.settings.read_text() == before
    assert LedgerFile(german.ledger).ceiling.delta == 1e-5


def test_delta_follows_the_number_of_customers_until_there_is_a_ledger(german, capsys):
    assert configure(german, "--path", german.root / "verkauf.csv", "--customers", "1000000") == 0
    delta = read_settings(german.settings).budget.delta
    assert delta == default_delta(1_000_000) == LedgerFile(german.ledger).ceiling.delta < 1e-6
    assert "by the number of customers" in capsys.readouterr().out
    assert configure(german, "--customers", "5000000") == 0
    assert read_settings(german.settings).budget.delta == delta
    assert "above 1 / customers" in capsys.readouterr().out


def test_a_delta_is_not_proposed_over_one_that_is_given_and_has_a_most(german, capsys):
    source = ["--path", german.root / "verkauf.csv"]
    assert configure(german, *source, "--customers", "200000", "--delta", "1e-5") == 2
    error = capsys.readouterr().err
    assert "budget.delta: 1e-05 is above 1 / customers, 5e-06" in error
    assert error.count("\n") == 1
    assert not german.ledger.exists()
    assert configure(german, *source, "--customers", "200000", "--delta", "4e-6") == 0
    assert LedgerFile(german.ledger).ceiling.delta == 4e-6


def test_delta_that_is_nowhere_said_is_that_of_the_customers(german):
    german.settings.write_text("[budget]\ncustomers = 1000000\n")
    assert read_settings(german.settings).budget.delta == default_delta(1_000_000)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--path", "none.csv"], "data.path"),
        (["--customer", "Kunde"], "data.columns.customer"),
        (["--time-format", "%Q"], "data.columns.time_format"),
        (["--plans", "never"], "approvals.plans"),
        (["--dp", "central"], "approvals.dp"),
        (["--epsilon", "-1"], "budget.epsilon"),
        (["--kind", "sql", "--url", "postgresql://u:hunter2@h/d", "--table", "t"], "data.password"),
        (["--kind", "sql"], "url"),
        (["--catalogue-key", "ean"], "catalogue.key"),
        (["--mapping", "none.csv"], "catalogue.mapping"),
    ],
)
def test_what_is_wrong_is_one_line_and_writes_nothing(german, capsys, arguments, said):
    given = [] if arguments[0] == "--path" else ["--path", german.root / "verkauf.csv"]
    assert configure(german, *given, *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert "hunter2" not in error
    assert not german.settings.exists()
    assert not german.ledger.exists()


def test_without_an_invitation_there_is_nothing_to_configure(home, capsys):
    assert configure(home) == 2
    assert "hansa client init" in capsys.readouterr().err


def test_on_a_terminal_what_is_not_said_is_asked(german):
    (german.root / "odd.csv").write_text("x,y,z\nc,i0,03/04/2024\n")
    answers = {"csv": "csv", "File": "odd.csv", "ceiling": "2.5", "delta": "1e-6", "round figure": "500000"}
    answers |= {"customer": "x", "item": "y", "time,": "z", "Format": "%m/%d/%Y"}
    asked, proposals = [], {}

    def ask(question, proposal):
        asked.append(question)
        proposals[question] = proposal
        (answer,) = [said for part, said in answers.items() if part in question][:1]
        return answer

    settings = Configuring(german, {}, ask).run()
    assert (settings.data.columns.customer, settings.data.columns.time_format) == ("x", "%m/%d/%Y")
    assert (settings.budget.epsilon, settings.budget.delta, settings.budget.customers) == (2.5, 1e-6, 500_000)
    assert proposals["Lifetime delta, which can never be changed"] == repr(default_delta(500_000))
    assert "%d/%m/%Y or %m/%d/%Y" in asked[-1]


def test_without_a_terminal_what_is_unclear_is_an_error_with_the_option(invited):
    (invited.root / "odd.csv").write_text("user_id,y,timestamp\nc,i0,03/04/2024\n")
    path = {"data.path": "odd.csv"}
    with pytest.raises(UsageError, match="found 'user_id', 'y', 'timestamp'; give --item NAME"):
        Configuring(invited, path).run()
    with pytest.raises(UsageError, match=r"could be %d/%m/%Y or %m/%d/%Y; give --time-format"):
        Configuring(invited, {**path, "data.columns.item": "y"}).run()


def test_a_table_takes_the_place_of_a_query(postgres, invited, monkeypatch, capsys):
    monkeypatch.setenv("HANSA_TEST_PASSWORD", postgres.password)
    postgres.run(
        "DROP TABLE IF EXISTS sales",
        "CREATE TABLE sales (customer_id int, sku text, bought_at timestamptz, qty int)",
        "INSERT INTO sales VALUES (1, 'M-0', now(), 1)",
    )
    given = ["--kind", "sql", "--url", postgres.reader, "--password", "env:HANSA_TEST_PASSWORD"]
    assert configure(invited, *given, "--query", "SELECT * FROM sales", "--catalogue-key", "sku") == 0
    assert configure(invited, "--table", "sales") == 0
    data = read_settings(invited.settings).data
    assert (data.table, data.query) == ("sales", "")
    assert (data.columns.customer, data.columns.time) == ("customer_id", "bought_at")
    assert postgres.password not in invited.settings.read_text() + capsys.readouterr().out


def test_a_full_reading_finds_what_was_deleted(invited, capsys):
    data = invited.root / "x.csv"
    data.write_text("user_id,item_id,timestamp,n\na,i0,1,1\nb,i0,2,2\n")
    assert configure(invited, "--path", data, "--incremental", "n") == 0
    data.write_text("user_id,item_id,timestamp,n\nb,i0,2,2\n")
    settings = read_settings(invited.settings)
    assert load_data(invited, settings).customers == ["a", "b"]
    assert configure(invited, "--reread") == 0
    assert "1 rows read" in capsys.readouterr().out
    assert load_data(invited, settings).customers == ["b"]


def test_columns_are_proposed_by_their_names():
    found = ["Bestell-Nr", "Kunden_ID", "EAN", "Bestelldatum", "Stück", "Preis"]
    assert propose_columns(found) == {
        "customer": "Kunden_ID",
        "item": "EAN",
        "time": "Bestelldatum",
        "quantity": "Stück",
    }
    assert propose_columns(["a", "b"]) == {}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["2024-05-31", None, ""], ["auto"]),
        ([1717156800], ["auto"]),
        (["31.05.2024 14:00"], ["%d.%m.%Y %H:%M"]),
        (["31.05.24"], ["%d.%m.%y"]),
        (["05/31/2024 02:00 PM"], ["%m/%d/%Y %I:%M %p"]),
        (["03/04/2024"], ["%d/%m/%Y", "%m/%d/%Y"]),
        (["03/04/2024", "13/04/2024"], ["%d/%m/%Y"]),
        (["2024-05-31", "soon"], ["auto"]),
        (["soon"], []),
        ([], ["auto"]),
    ],
)
def test_formats_are_proposed_by_the_first_rows(values, expected):
    assert propose_format(values) == expected


@pytest.mark.parametrize(
    ("separator", "encoding"), [(";", "cp1252"), ("\t", "utf-8"), ("|", "utf-16"), (",", "utf-8")]
)
def test_separator_and_encoding_are_proposed(tmp_path, separator, encoding):
    rows = [["id", "größe, cm"], ["1", "a, b"], ["2", "c"]]
    text = "\n".join(
        separator.join(f'"{value}"' if separator in value else value for value in row) for row in rows
    )
    (tmp_path / "x.csv").write_bytes(text.encode(encoding))
    assert propose_csv(tmp_path / "x.csv") == (separator, encoding)
