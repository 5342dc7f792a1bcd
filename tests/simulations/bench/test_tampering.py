from hansa_simulations.bench import tampering


def test_every_change_is_refused_and_counted():
    found = tampering.measure(60, 60, 20, seed=1)
    assert [case["items"] for case in found["cases"]] == [60, 30, 30, 60, 30, 30, 20, 20]
    for case in found["cases"]:
        assert case["refused"] == case["items"], case["unseen"]
    assert "| 60 | 60 |" in "\n".join(tampering.text(found))


def test_an_unseen_change_would_be_counted(monkeypatch):
    monkeypatch.setattr(tampering, "_byte", lambda content, random: content)
    found = tampering.measure(3, 2, 1, seed=1)
    assert found["cases"][0]["refused"] == 0
    assert found["cases"][0]["unseen"] == ["nothing"] * 3
