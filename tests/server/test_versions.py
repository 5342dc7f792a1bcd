import json
from pathlib import Path

import pytest

from hansa.cli import main
from hansa.errors import UsageError
from hansa.plan import Plan
from hansa.rng import seeded_generator
from hansa_server.home import ServerHome
from hansa_server.planning import plan_run
from hansa_server.publishing import publish
from hansa_server.settings import Training
from hansa_server.versions import version, versions


def _publish(home: ServerHome, run: str) -> Plan:
    plan, _ = plan_run(Training(customers=1000, dp="local", method="popularity"), run, 3, 40, None)
    state = plan.learner.initial_state(seeded_generator(0, run))
    publish(home, "grocers", plan, state, [["b", "a"], ["c", "a"]])
    return plan


def _exit(home: ServerHome, *words: str) -> int:
    return main(["server", "models", *words, "--home", str(home.root)])


def test_versions_with_plan_and_shops(home: ServerHome, capsys: pytest.CaptureFixture[str]) -> None:
    plan = _publish(home, "run-1")
    _publish(home, "run-2")
    assert [one.card.model for one in versions(home)] == ["run-1", "run-2"]
    one = version(home, "run-1")
    assert (one.plan, one.shops, one.problem) == (plan, ["a", "b", "c"], "")
    assert _exit(home, "verify") == 0
    assert _exit(home, "show", "run-1", "--json") == 0
    shown = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert shown["rounds"] == [["b", "a"], ["c", "a"]]
    assert shown["sha256"] == one.card.sha256
    with pytest.raises(UsageError, match="no such version"):
        version(home, "run-3")


@pytest.mark.parametrize("changed", ["model", "card", "gone", "name"])
def test_what_was_changed_afterwards_is_found(
    home: ServerHome, changed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _publish(home, "run-1")
    folder = home.models / "run-1"
    model, card = folder / "model.safetensors", folder / "card.json"
    if changed == "model":
        content = bytearray(model.read_bytes())
        content[-1] ^= 1
        model.write_bytes(content)
    elif changed == "card":
        card.write_text(card.read_text().replace('"grocers"', '"bakers"'))
    elif changed == "gone":
        model.unlink()
    else:
        _moved(folder)
    assert _exit(home, "verify") == 4
    assert "run-1" in capsys.readouterr().err
    assert _exit(home, "list") == 0
    assert "signed" not in capsys.readouterr().out.replace("not signed", "")


def _moved(folder: Path) -> None:
    folder.rename(folder.with_name("run-9"))
