import pytest

from hansa.errors import UsageError
from hansa_server.home import ServerHome, plain_name
from hansa_server.settings import (
    ServerSettings,
    Training,
    network_for,
    read_settings,
    settings_text,
    training_with,
)


def test_what_is_written_reads_back(home: ServerHome) -> None:
    wanted = ServerSettings(
        network=network_for("league.example.org", 8001, False),
        training=Training(dp="local", epsilon=0.5, delta=1e-7, settings={"vocabulary": 500, "nearness": 0.5}),
    )
    home.settings.write_text(settings_text(wanted))
    assert read_settings(home.settings) == wanted


@pytest.mark.parametrize(
    ("given", "address", "listen"),
    [
        ("league.example.org", "league.example.org:8443", "0.0.0.0:8443"),
        ("league.example.org:443", "league.example.org:443", "0.0.0.0:443"),
        ("127.0.0.1:9443", "127.0.0.1:9443", "127.0.0.1:9443"),
        ("localhost", "localhost:8443", "127.0.0.1:8443"),
    ],
)
def test_addresses(given: str, address: str, listen: str) -> None:
    network = network_for(given, 8000, True)
    assert (network.address, network.listen) == (address, listen)


@pytest.mark.parametrize("given", ["", "a:b", "a:0", "a:70000", "a b", "a;b", "::1", "http://a"])
def test_what_is_no_address(given: str) -> None:
    with pytest.raises(UsageError, match="give host:port"):
        network_for(given, 8000, True)


@pytest.mark.parametrize("dp", ["central", "none"])
def test_no_run_without_privacy_at_the_shop(dp: str, home: ServerHome) -> None:
    with pytest.raises(UsageError, match="only for simulations"):
        training_with(Training(), dp=dp)
    text = home.settings.read_text().replace('dp = "distributed"', f'dp = "{dp}"')
    home.settings.write_text(text)
    with pytest.raises(UsageError, match=r"server.toml: training.dp"):
        read_settings(home.settings)


def test_overrides(home: ServerHome) -> None:
    base = read_settings(home.settings).training
    assert training_with(base, epsilon=1.5, rounds=None) == base.model_copy(update={"epsilon": 1.5})
    with pytest.raises(UsageError, match="--epsilon -1"):
        training_with(base, epsilon=-1.0)


@pytest.mark.parametrize("line", ["version = 2", "unknown = 1", "[network", "[network]\naddress = 'x'"])
def test_a_wrong_file_is_one_line(home: ServerHome, line: str) -> None:
    home.settings.write_text(line)
    with pytest.raises(UsageError, match=r"server\.toml: .*") as error:
        read_settings(home.settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "-a", "a b", "a\n", "ä", "a" * 101])
def test_names_that_name_no_file(name: str) -> None:
    with pytest.raises(UsageError, match="use 1 to 100 letters"):
        plain_name("shop", name)
