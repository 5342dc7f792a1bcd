import os
import threading

import pytest

from hansa_server.proxy import nginx_binary
from hansa_simulations.loopback.league import loopback_league
from hansa_simulations.loopback.postgres import binaries


@pytest.fixture(scope="module")
def league(tmp_path_factory):
    """A league of four shops that is set up, behind nginx; its tests follow each other."""
    missing = [name for name, found in (("nginx", nginx_binary()), ("postgresql", binaries())) if not found]
    if missing:
        complain = pytest.fail if os.environ.get("HANSA_REQUIRE") == "1" else pytest.skip
        complain(f"not installed: {', '.join(missing)}")
    with loopback_league(tmp_path_factory.mktemp("league")) as found:
        found.set_up()
        yield found


@pytest.fixture
def beside():
    """Runs a function in a thread; what it raises is raised at the end of the test."""
    threads, raised = [], []

    def begin(function, *arguments, **settings):
        def run():
            try:
                function(*arguments, **settings)
            except BaseException as error:
                raised.append(error)

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return threads[-1]

    yield begin
    for thread in threads:
        thread.join(300)
    if raised:
        raise raised[0]
