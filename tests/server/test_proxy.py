"""What passes the proxy, and what does not: nginx with the SuperLink behind it."""

from __future__ import annotations

import http.client
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.superlink.routers.control.router import router as control_router
from flwr.superlink.routers.fleet.router import router as fleet_router

from hansa.errors import UsageError
from hansa_server.home import ServerHome
from hansa_server.proxy import PATHS, nginx_binary, proxy_text, write_proxy
from hansa_server.settings import read_settings

REFUSED = ("/v1/fleet/register-node", "/v1/fleet/unregister-node")


Ask = Callable[..., tuple[int, str]]
PROTOBUF = {"content-type": "application/x-protobuf"}


def _ask(
    address: str,
    authority: Path,
    path: str,
    method: str = "POST",
    body: bytes = b"",
    length: int | None = None,
) -> tuple[int, str]:
    """Status and text of an answer; the path goes out as it stands."""
    context = ssl.create_default_context(cafile=str(authority))
    host, _, port = address.partition(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=20)
    try:
        headers = {**PROTOBUF, "content-length": str(len(body) if length is None else length)}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        assert "1." not in answer.headers["server"]  # no version
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


@pytest.fixture
def ask(league: ServerHome) -> Ask:
    """Somebody on a shop's side of the proxy, who trusts the league's authority."""
    address = read_settings(league.settings).network.address
    return lambda path, **how: _ask(address, league.authority, path, **how)


def test_every_path_of_flowers_fleet_is_either_listed_or_refused() -> None:
    known = {route.path for route in fleet_router.routes}
    assert {*PATHS, *REFUSED} == {path if path.startswith("/v1") else f"/v1/fleet{path}" for path in known}


@pytest.mark.parametrize("path", PATHS)
def test_what_a_node_needs_passes(ask: Ask, path: str) -> None:
    status, text = ask(path)
    assert status not in (403, 404, 502)
    assert "nginx" not in text  # the SuperLink itself has answered


@pytest.mark.parametrize("path", PATHS)
def test_only_by_post(ask: Ask, path: str) -> None:
    assert {ask(path, method=method)[0] for method in ("GET", "PUT", "DELETE", "OPTIONS")} == {403}


def test_no_path_of_the_control_api_passes(ask: Ask) -> None:
    paths = [route.path for route in control_router.routes]
    assert len(paths) > 10
    for path in paths:
        full = path if path.startswith("/v1") else f"/v1/control{path}"
        assert ask(full)[0] == 403, full


@pytest.mark.parametrize(
    "path",
    [
        *REFUSED,
        "/",
        "/docs",
        "/openapi.json",
        "/health",
        "/v1/runtime/acquire-task",
        "/v1/responses",
        "/v1/fleet",
        "/v1/fleet/",
        "/v1/fleet/anything",
        "/v1/fleet/get-run/",
        "/v1/fleet/get-run?x=1",
        "/v1/fleet//get-run",
        "/v1/fleet/get%2Drun",
        "/v1/fleet/get-run%00",
        "/v1/fleet/get-run;x",
        "/V1/fleet/get-run",
        "/v1/FLEET/get-run",
        "/v1/fleet/Get-Run",
        "/v1/fleet/%2e%2e/control/list-nodes",
        "/v1/fleet/..%2fcontrol/list-nodes",
        "/v1/fleet/get-run/../../control/list-nodes",
        "/v1/control/start-run/../../fleet/get-run",
        "/v1/CONTROL/list-nodes",
        "/v1/%63ontrol/list-nodes",
        "//v1/control/list-nodes",
        "/v1/fleet/register%2Dnode",
        "/v1/fleet/Register-Node",
    ],
)
def test_nothing_else_passes(ask: Ask, path: str) -> None:
    assert ask(path)[0] in (400, 403)


def test_too_much_is_refused_before_the_superlink_sees_it(ask: Ask) -> None:
    assert ask("/v1/fleet/push-object", length=65 * 2**20)[0] == 413


def test_who_does_not_trust_the_authority_does_not_connect(league: ServerHome, home: ServerHome) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        _ask(read_settings(league.settings).network.address, home.authority, "/v1/fleet/get-run")


def test_a_superlink_of_another_authority_gets_nothing(
    league: ServerHome, home: ServerHome, tmp_path: Path
) -> None:
    """The proxy verifies whom it talks to."""
    settings = read_settings(home.settings)
    foreign = read_settings(league.settings).network.superlink
    network = settings.network.model_copy(update={"superlink": foreign})
    write_proxy(home, settings.model_copy(update={"network": network}))
    process = subprocess.Popen(
        [str(nginx_binary()), "-e", "stderr", "-p", str(tmp_path), "-c", str(home.proxy)]
    )
    try:
        end = time.monotonic() + 20
        while True:
            try:
                status, _ = _ask(network.address, home.authority, "/v1/fleet/get-run")
                break
            except ConnectionRefusedError:
                assert time.monotonic() < end
                time.sleep(0.1)
        assert status == 502
        assert "certificate verify error" in (home.logs / "nginx.log").read_text()
    finally:
        process.terminate()
        process.wait()


def test_no_body_is_logged_or_put_on_the_disk(league: ServerHome, ask: Ask) -> None:
    ask("/v1/fleet/get-run", body=b"a customer's basket " * 10_000)
    assert "/v1/fleet/get-run" in (league.logs / "access.log").read_text()
    for path in [*league.logs.iterdir(), *(league.state / "nginx").rglob("*")]:
        assert path.is_dir() or b"a customer's basket" not in path.read_bytes(), path


def test_folders_that_nginx_cannot_take(home: ServerHome) -> None:
    with pytest.raises(UsageError, match="nginx cannot take this name"):
        write_proxy(ServerHome(home.root / "a;b"), read_settings(home.settings))


def test_the_superlink_is_on_loopback_only(home: ServerHome) -> None:
    settings = read_settings(home.settings)
    assert f"server 127.0.0.1:{settings.network.superlink};" in proxy_text(home, settings)
