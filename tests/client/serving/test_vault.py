import stat
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.errors import UsageError, VerificationError
from hansa.modelfile import model_bytes
from hansa_client.config import read_settings
from hansa_client.serving.vault import in_use, receive_model, roll_back, use, versions


@pytest.fixture(scope="module")
def plan(league_plan):
    return league_plan("popularity", run="autumn")


def state(value=1.0):
    return {"counts": np.full((60, 1), value, dtype=np.float32)}


def names(home):
    return [version.name for version in versions(home)]


def test_a_model_is_kept_as_it_came(serving_home, plan, make_card) -> None:
    receive_model(serving_home, make_card(state(), plan), state())
    (version,) = versions(serving_home)
    np.testing.assert_array_equal(version.load()["counts"], state()["counts"])
    assert version.method.name == "popularity"
    assert {path.name for path in version.folder.iterdir()} == {"model.safetensors", "card.json"}
    assert (version.folder / "model.safetensors").read_bytes() == model_bytes(state())
    for path in version.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_model_again_changes_nothing_and_mends_a_damaged_file(serving_home, plan, make_card) -> None:
    card = make_card(state(), plan)
    receive_model(serving_home, card, state())
    receive_model(serving_home, card, state())
    (version,) = versions(serving_home)
    (version.folder / "model.safetensors").write_bytes(b"else")
    with pytest.raises(VerificationError, match="another file than was received"):
        version.load()
    receive_model(serving_home, card, state())
    assert version.load()["counts"][0, 0] == 1


def test_a_version_is_never_overwritten(serving_home, plan, make_card) -> None:
    receive_model(serving_home, make_card(state(), plan), state())
    for card, content in [
        (make_card(state(2), plan), state(2)),
        (make_card(state(), plan, run="other"), state()),
    ]:
        with pytest.raises(VerificationError, match="is here already"):
            receive_model(serving_home, card, content)
    assert versions(serving_home)[0].load()["counts"][0, 0] == 1


def hours_from_now(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def test_what_the_coordinator_has_not_signed_is_refused(serving_home, plan, make_card) -> None:
    card = make_card(state(), plan)
    foreign = card.signed(Ed25519PrivateKey.generate())
    for wrong, content, says in [
        (foreign, state(), "not signed"),
        (card.model_copy(update={"model": "v2"}), state(), "not signed"),
        (card, state(2), "another than its card names"),
        (card, {"counts": np.full((60, 1), np.nan, dtype=np.float32)}, "not a finite"),
    ]:
        with pytest.raises(VerificationError, match=says):
            receive_model(serving_home, wrong, content)
    assert names(serving_home) == []


def test_what_does_not_fit_is_refused_although_it_is_signed(
    serving_home, plan, make_card, league_plan
) -> None:
    other = state() | {"more": np.ones((1, 1), dtype=np.float32)}
    larger = plan.model_copy(update={"n_items": 61})
    wide = {"counts": np.ones((61, 1), dtype=np.float32)}
    for card, content, says in [
        (make_card(other, plan), other, "where the plan has missing"),
        (make_card(state(), league_plan()), state(), "where the plan has"),
        (make_card(wide, larger), wide, "with 61 items"),
        (make_card(state(), plan, league="else"), state(), "of league else"),
        (make_card(state(), plan, plan="{}"), state(), "no plan that this version"),
        (make_card(state(), plan, created="today"), state(), "no ISO 8601 time"),
        (
            make_card(state(), plan, created="9999-12-31T23:59:59-23:59"),
            state(),
            "ahead of this shop's clock",
        ),
        (make_card(state(), plan, created=hours_from_now(25)), state(), "more than a day ahead"),
        (make_card(state(), plan, model="newest"), state(), "cannot have this name"),
    ]:
        with pytest.raises(VerificationError, match=says):
            receive_model(serving_home, card, content)
    assert not serving_home.models.exists()


def test_a_clock_that_is_a_little_late_takes_what_is_new(serving_home, plan, make_card) -> None:
    receive_model(serving_home, make_card(state(), plan, created=hours_from_now(23)), state())
    assert names(serving_home) == ["v1"]


def test_the_newest_are_kept_and_the_pinned_one(serving_home, plan, make_card) -> None:
    for day in (1, 2):
        receive_model(serving_home, make_card(state(day), plan, f"v{day}", day), state(day))
    use(serving_home, "v1")
    for day in (3, 4):
        receive_model(serving_home, make_card(state(day), plan, f"v{day}", day), state(day))
    assert names(serving_home) == ["v4", "v3", "v1"]  # keep = 2, and what is pinned
    use(serving_home, "newest")
    receive_model(serving_home, make_card(state(2), plan, "v2", 2), state(2))
    assert names(serving_home) == ["v4", "v3", "v2"]  # asked for again: it stays until the next comes
    receive_model(serving_home, make_card(state(5), plan, "v5", 5), state(5))
    assert names(serving_home) == ["v5", "v4"]


def test_the_newest_is_so_by_the_signed_date(serving_home, plan, make_card) -> None:
    early = make_card(state(1), plan, "b", created="2025-11-01T12:00:00+02:00")
    late = make_card(state(2), plan, "a", created="2025-11-01T11:00:00")  # UTC where nothing is said
    for card, value in ((late, 2), (early, 1)):
        receive_model(serving_home, card, state(value))
    assert names(serving_home) == ["a", "b"]


def test_pinning_and_rolling_back_keep_the_comments(serving_home, plan, make_card) -> None:
    assert in_use(serving_home) is None
    with pytest.raises(UsageError, match="no version before"):
        roll_back(serving_home)
    for day in (1, 2):
        receive_model(serving_home, make_card(state(day), plan, f"v{day}", day), state(day))
    assert in_use(serving_home).name == "v2"
    assert roll_back(serving_home).name == "v1"
    assert read_settings(serving_home.settings).serving.model == "v1"
    text = serving_home.settings.read_text()
    assert "# our shop" in text
    assert "keep = 2 # not more" in text
    with pytest.raises(UsageError, match="no version before v1"):
        roll_back(serving_home)
    with pytest.raises(UsageError, match="kept: v2, v1"):
        use(serving_home, "v9")
    assert use(serving_home, "newest").name == "v2"


def test_settings_without_a_section_get_one(serving_home, plan, make_card) -> None:
    serving_home.settings.write_text("version = 1\n")
    receive_model(serving_home, make_card(state(), plan), state())
    use(serving_home, "v1")
    assert read_settings(serving_home.settings).serving.model == "v1"


def test_a_receipt_cut_short_leaves_no_version(serving_home, plan, make_card, monkeypatch) -> None:
    def crash(path, content):
        raise OSError("disk full")

    monkeypatch.setattr("hansa_client.serving.vault.write_whole", crash)
    with pytest.raises(OSError, match="disk full"):
        receive_model(serving_home, make_card(state(), plan), state())
    assert list(serving_home.models.iterdir()) == []
