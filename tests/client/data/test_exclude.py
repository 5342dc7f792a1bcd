import json

import numpy as np
import pytest

from hansa.cli import main
from hansa.errors import RefusalError, UsageError
from hansa_client.config import Data, ShopSettings
from hansa_client.data import rowcache
from hansa_client.data.exclusions import Exclusions
from hansa_client.data.loading import load_data
from hansa_client.replies import ReplyFolder


@pytest.fixture
def exclude(home, capsys):
    rows = "user_id,item_id,timestamp,n\na,i0,1,1\nb,i1,2,2\n"
    (home.root / "interactions.csv").write_text(rows)

    def call(*arguments):
        code = main(["client", "exclude", "--home", str(home.root), *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def customers(home, incremental=""):
    return load_data(home, ShopSettings(data=Data(incremental=incremental))).customers


def test_who_opts_out_is_gone_from_data_and_caches_and_may_come_back(home, exclude):
    assert customers(home, "n") == ["a", "b"]
    code, out, err = exclude("a")
    assert (code, err) == (0, "")
    assert "1 of 1 are new on the list" in out
    assert "1 entries taken out" in out
    assert "cannot be taken out" in out
    assert "'a'" not in out
    assert customers(home, "n") == ["b"]
    assert b"a" not in home.excluded.read_bytes().split()
    code, out, _ = exclude("--list", "--json")
    assert json.loads(out)["excluded"] == home.excluded.read_text().split()
    assert exclude("a", "--undo")[0] == 0
    assert not rowcache.path_of(home).exists()
    assert customers(home, "n") == ["a", "b"]


def test_a_file_of_customers(home, exclude, tmp_path):
    (tmp_path / "out.txt").write_text("\ufeffa\n\n b \n")
    code, out, _ = exclude("--file", tmp_path / "out.txt", "--json")
    told = json.loads(out)
    assert (code, told["changed"], told["excluded"]) == (0, 2, 2)
    assert "cannot be taken out" in told["note"]
    assert customers(home) == []


def test_how_many_of_them_the_data_have_is_told(home, exclude, tmp_path):
    (tmp_path / "out.txt").write_text("a\n B \nx\n")
    _, out, _ = exclude("--file", tmp_path / "out.txt", "--json")
    assert json.loads(out)["in_data"] is None
    home.settings.write_text("")
    _, out, _ = exclude("--file", tmp_path / "out.txt", "--json")
    assert json.loads(out)["in_data"] == 1
    assert "the data have 1 of them" in exclude("a", "x")[1]
    (home.root / "interactions.csv").unlink()
    code, out, _ = exclude("b")
    assert (code, "the data could not be read" in out) == (0, True)
    assert "b" in Exclusions(home)


def test_releases_that_are_kept_to_be_sent_again_are_dropped(home, exclude):
    kept = ReplyFolder(home.replies), ("r", 1, "plan", "state")
    kept[0].keep(*kept[1], np.zeros((2, 1), np.float32))
    exclude("--list")
    assert kept[0].find(*kept[1]) is not None
    exclude("a")
    assert kept[0].find(*kept[1]) is None


def test_a_list_that_is_gone_while_its_key_is_there_is_an_error_and_not_nobody(home, exclude):
    exclude("a")
    home.excluded.unlink()
    with pytest.raises(UsageError, match=r"missing, and .* says that there was one; restore it"):
        customers(home)
    assert exclude("b")[0] == 2


def test_after_a_restoration_the_operator_says_who_has_opted_out_since(home, exclude, tmp_path):
    (tmp_path / "out.txt").write_text("a\n")
    for told, left in ((["--confirm"], ["a", "b"]), (["--file", tmp_path / "out.txt"], ["b"])):
        home.unconfirmed.touch()
        for not_enough in (["--list"], ["x"], ["x", "--undo"]):
            assert exclude(*not_enough)[0] == 0
            with pytest.raises(RefusalError, match="hansa client exclude --confirm") as refusal:
                customers(home)
            assert refusal.value.reason == "the shop was restored and its operator has to confirm it"
        assert exclude(*told)[0] == 0
        assert customers(home) == left
    assert json.loads(exclude("--confirm", "--json")[1]) == {"confirmed": False, "excluded": 1}


@pytest.mark.parametrize(
    "arguments",
    [[], ["a", "--confirm"], ["--list", "--confirm"], ["a", "--list"], ["--file", "none.txt"], [" "]],
)
def test_wrong_usage_is_one_line(exclude, arguments):
    code, out, err = exclude(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
