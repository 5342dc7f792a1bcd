import json

import pytest

from hansa.cli import main
from hansa_client import rowcache
from hansa_client.config import Data, ShopSettings
from hansa_client.data import load_data


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


@pytest.mark.parametrize("arguments", [[], ["a", "--list"], ["--file", "none.txt"], [" "]])
def test_wrong_usage_is_one_line(exclude, arguments):
    code, out, err = exclude(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
