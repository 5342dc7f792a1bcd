import pytest

from hansa_simulations.paper_league import PaperLeague, busy_league


@pytest.fixture
def league(tmp_path):
    return PaperLeague(tmp_path)


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """Two runs of two methods, a refusal and a changed ceiling."""
    return busy_league(tmp_path_factory.mktemp("league"))
