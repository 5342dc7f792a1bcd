import json
import signal
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hansa.cli import main
from hansa.errors import UsageError
from hansa.transparency import LogHead, read_lines
from hansa_server.home import ServerHome
from hansa_server.journal import Journal, read_log
from hansa_server.publishing import signer

DONE = {"run": "r", "state": "done"}
MODEL = {"run": "r", "model": "r", "sha256": "a" * 64}


@pytest.fixture
def home(tmp_path):
    found = ServerHome(tmp_path)
    found.signer.parent.mkdir()
    key = Ed25519PrivateKey.generate()
    found.signer.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    found.league.write_text("grocers\n")
    return found


def texts(home):
    return home.log.read_text().splitlines()


def test_lines_are_chained_over_journals_and_the_head_is_signed(home):
    first = Journal(home)
    assert first.head() == ""
    first.tell("model", MODEL)
    second = Journal(home)
    second.tell("outcome", DONE)
    lines = read_lines(texts(home))
    assert [(line.sequence, line.kind, line.body) for line in lines] == [
        (1, "model", MODEL),
        (2, "outcome", DONE),
    ]
    head = LogHead.from_json(second.head())
    head.check(signer(home).public_key().public_bytes_raw().hex())
    assert (head.league, head.size, head.hash) == ("grocers", 2, lines[-1].hash)
    assert LogHead.from_json(first.head()).size == 1
    first.tell("model", {**MODEL, "run": "s"})  # after what another process has added
    assert [line.sequence for line in read_log(home.log)] == [1, 2, 3]
    assert LogHead.from_json(first.head()).size == 3
    assert home.log.stat().st_mode & 0o777 == 0o600


def test_what_was_said_is_not_said_again_but_for_another_end(home):
    journal = Journal(home)
    for kind, body in [("model", MODEL), ("outcome", DONE)] * 2:
        journal.tell(kind, body)
    Journal(home).tell("model", MODEL)
    Journal(home).tell("outcome", DONE)
    assert len(texts(home)) == 2
    journal.tell("enrolled", {"run": "r", "enrolled": [], "refused": {}})
    journal.tell("outcome", DONE)
    assert [line.kind for line in read_log(home.log)] == ["model", "outcome", "enrolled", "outcome"]


@pytest.mark.parametrize("cut", [1, 2, 30, 100])
def test_a_line_that_a_crash_has_cut_short_is_removed_and_told(home, caplog, cut):
    journal = Journal(home)
    journal.tell("model", MODEL)
    journal.tell("outcome", DONE)
    whole = home.log.read_bytes()
    home.log.write_bytes(whole[:-cut])
    assert [line.kind for line in read_log(home.log)] == ["model"]
    assert not caplog.records
    again = Journal(home)
    assert "its last line was cut short" in caplog.text
    again.tell("outcome", DONE)
    assert [line.sequence for line in read_lines(texts(home))] == [1, 2]


def test_a_first_line_that_was_cut_short_leaves_an_empty_log(home):
    home.log.write_bytes(b'{"body":\0\0\0')
    journal = Journal(home)
    assert journal.head() == ""
    journal.tell("model", MODEL)
    assert len(read_log(home.log)) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0].replace("aaa", "bbb", 1), *lines[1:]],
        lambda lines: lines[1:],
        lambda lines: [lines[1], lines[0], lines[2]],
        lambda lines: [lines[0], "half of", lines[2]],
        lambda lines: [*lines, ""],
        lambda lines: [*lines[:-1], lines[-1] + "ü"],
    ],
)
def test_a_broken_chain_names_the_line_and_the_fix(home, change):
    journal = Journal(home)
    for kind, body in (("model", MODEL), ("outcome", DONE), ("outcome", {"run": "s", "state": "done"})):
        journal.tell(kind, body)
    home.log.write_text("".join(line + "\n" for line in change(texts(home))))
    with pytest.raises(UsageError, match=r"log.jsonl: line \d of the log: .*; restore it from a backup"):
        Journal(home)
    with pytest.raises(UsageError, match="line"):
        read_log(home.log)


ENDLESS = """
import sys
from pathlib import Path
from hansa_server.home import ServerHome
from hansa_server.journal import Journal

journal, number = Journal(ServerHome(Path(sys.argv[1]))), 0
while True:
    number += 1
    journal.tell("outcome", {"run": f"{sys.argv[2]}-{number}", "state": "x" * 50_000})
"""


def test_a_process_that_is_killed_while_it_writes_leaves_a_log_that_goes_on(home):
    for turn in range(3):
        before = home.log.stat().st_size if home.log.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(home.root), str(turn)])
        while not home.log.exists() or home.log.stat().st_size < before + 200_000:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        lines = len(read_log(home.log))
        assert lines >= 4 * (turn + 1)
        Journal(home).tell("outcome", {"run": f"after {turn}", "state": "done"})
        assert [line.sequence for line in read_log(home.log)] == list(range(1, lines + 2))


def test_the_command_shows_the_head_and_finds_a_broken_chain(tmp_path, capsys):
    (tmp_path / "items.csv").write_text("item_id,title\na,Ale\nb,Beer\n")
    home = ServerHome(tmp_path / "coordinator")
    place = ["--home", str(home.root)]
    given = ["--league", "grocers", "--catalogue", str(tmp_path / "items.csv"), "--host", "localhost"]
    assert main(["server", "init", *given, *place]) == 0
    capsys.readouterr()
    assert main(["server", "log", *place]) == 0
    assert "no line yet" in capsys.readouterr().out
    journal = Journal(home)
    journal.tell("model", MODEL)
    journal.tell("outcome", DONE)
    assert main(["server", "log", *place]) == 0
    last = read_log(home.log)[-1]
    assert f"2 lines, each follows the one before\nhead 2 {last.hash}\n" in capsys.readouterr().out
    assert main(["server", "log", "--json", *place]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["file"], shown["lines"]) == (str(home.log), 2)
    assert shown["head"] == json.loads(journal.head())
    home.log.write_text(home.log.read_text().replace("aaa", "bbb", 1))
    assert main(["server", "log", *place]) == 4
    assert "line 2 of the log" in capsys.readouterr().err
