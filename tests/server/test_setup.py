from pathlib import Path

import pytest

from hansa.cli import main
from hansa.errors import UsageError
from hansa_server.home import ServerHome
from hansa_server.settings import ServerSettings, network_for
from hansa_server.setup import League, read_catalogue, set_up


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("item_id\na\nb\na\n", "already in"),
        ("code\na\nb\n", "no column 'item_id'"),
        ("item_id\na\n", "takes 2 or more"),
        ("item_id\na\n\n,\n", "items.csv"),
    ],
)
def test_a_catalogue_that_cannot_be_used(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "items.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=problem):
        read_catalogue(path)


def test_init_says_what_is_next(catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "new"
    words = f"--league grocers --catalogue {catalogue} --host localhost --customers 1000 --home {place}"
    assert main(["server", "init", *words.split()]) == 0
    said = capsys.readouterr().out
    assert "40 items" in said
    assert "next: hansa server start" in said
    assert main(["server", "init", *words.split()]) == 2
    assert "already; give another --home" in capsys.readouterr().err


def test_what_is_there_is_kept(home: ServerHome, catalogue: Path) -> None:
    before = {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()}
    settings = ServerSettings(network=network_for("localhost", 8000, True))
    with pytest.raises(UsageError, match="give another --home"):
        set_up(home, League("grocers", catalogue, settings))
    assert before == {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", ["start", "stop", "status", "roster", "train", "stop-run", "renew"])
def test_no_folder_is_one_line(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["server", command, "--home", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "make it with 'hansa server init'" in said
    assert said.count("\n") == 1
