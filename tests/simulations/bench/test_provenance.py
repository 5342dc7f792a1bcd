"""A digest follows what a module can reach, and only the syntax of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hansa_simulations.bench import provenance
from hansa_simulations.bench.provenance import code_digest


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "ledgerhouse"
    root.mkdir()
    for name, source in {
        "__init__": "",
        "start": "def f():\n    from ledgerhouse import deep\n    return deep.g()\n",
        "deep": "import ledgerhouse.start\ndef g():\n    return 1\n",
        "apart": "x = 1\n",
    }.items():
        (root / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(provenance, "PACKAGES", ("ledgerhouse",))
    yield root
    sys.modules.pop("ledgerhouse", None)


def digest() -> str:
    code_digest.cache_clear()
    return code_digest("ledgerhouse.start")


def test_what_is_reached_counts_and_nothing_else(package: Path) -> None:
    before = digest()
    (package / "apart.py").write_text("x = 2\n")
    assert digest() == before
    (package / "deep.py").write_text("def g():\n    return 2\n")
    assert digest() != before


def test_comments_and_docstrings_do_not_count(package: Path) -> None:
    before = digest()
    (package / "deep.py").write_text(
        '"""About."""\nimport ledgerhouse.start\n\n\ndef g():  # one\n    """It."""\n    return 1\n'
    )
    assert digest() == before


def test_methods_are_reached_from_experiments() -> None:
    reached: list[str] = []
    path = provenance._path

    def spy(name: str) -> Path | None:
        found = path(name)
        if found is not None:
            reached.append(name)
        return found

    code_digest.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "_path", spy)
        code_digest("hansa_simulations.experiment")
    assert {"hansa.models.cooccurrence", "hansa.recommend", "hansa.models.own", "hansa.dp.noise"} <= set(
        reached
    )
    assert not [name for name in reached if name.startswith(("hansa.planner", "hansa_simulations.bench"))]
