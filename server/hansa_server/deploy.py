"""Flower's SuperLink: the arguments that start it, and its control API on loopback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hansa.errors import HansaError, UsageError
from hansa.quiet import SWITCHES
from hansa_server.bundle import bundle_hash
from hansa_server.home import HOME, ServerHome
from hansa_server.settings import ServerSettings

_RUNS = 100

Config = Mapping[str, str | int | float | bool]
"""A run's configuration."""


def superlink_command(home: ServerHome, settings: ServerSettings) -> list[str]:
    """The arguments that start a SuperLink: on loopback, with TLS, for registered nodes only."""
    return [
        str(Path(sys.executable).with_name("flower-superlink")),
        "--host",
        "127.0.0.1",
        "--port",
        str(settings.network.superlink),
        "--ssl-ca-certfile",
        str(home.authority),
        "--ssl-certfile",
        str(home.certificate),
        "--ssl-keyfile",
        str(home.certificate_key),
        "--enable-supernode-auth",
        "--database",
        str(home.database),
        "--isolation",
        "subprocess",
        "--disable-runtime-dependency-installation",
    ]


def superlink_environment(home: ServerHome) -> dict[str, str]:
    """Its environment; the ServerApp inherits it and finds the coordinator's folder in it."""
    quiet = {name: os.environ.get(name, value) for name, value in SWITCHES.items()}
    found = str(Path(sys.executable).parent)
    path = os.pathsep.join([found, os.environ.get("PATH", os.defpath)])  # it starts others by their names
    return {
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
        **os.environ,
        **quiet,
        "PATH": path,
        "FLWR_HOME": str(home.flower),
        HOME: str(home.root),
    }


@dataclass(frozen=True)
class Node:
    """A registered Flower node.

    Attributes:
        id: Its number.
        name: The shop.
        online: Whether it is connected.
        key: Its public key, PEM.
    """

    id: int
    name: str
    online: bool
    key: bytes


@dataclass(frozen=True)
class FlowerRun:
    """A run as Flower sees it.

    Attributes:
        id: Its number.
        state: ``pending``, ``starting``, ``running``; at its end ``completed``, ``failed`` or ``stopped``.
        details: Of a failure.
    """

    id: int
    state: str
    details: str

    @property
    def going(self) -> bool:
        """Whether it has not finished."""
        return self.state in ("pending", "starting", "running")


def node_key(openssh: str) -> bytes:
    """A node's public key, from OpenSSH's format to PEM.

    Raises:
        UsageError: Not an ECDSA key.
    """
    try:
        key = serialization.load_ssh_public_key(openssh.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"node key: not in OpenSSH's format ({error}); ask for the key card anew") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UsageError("node key: not an ECDSA key; ask for the key card anew")
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


class _RefusedError(HansaError):
    """The SuperLink said no; ``code`` is Flower's."""

    def __init__(self, what: str, response: httpx.Response) -> None:
        said = " ".join(response.text.split())[:300]
        super().__init__(f"{what}: the SuperLink refused ({response.status_code}): {said}")
        try:
            self.code = response.json()["code"]
        except (ValueError, KeyError, TypeError):
            self.code = None


class Control:
    """The control API of a coordinator's SuperLink. Use it as a context.

    Args:
        home: The coordinator's folder.
        settings: Its settings.
    """

    def __init__(self, home: ServerHome, settings: ServerSettings) -> None:
        from flwr.supercore.control import ControlHttpClient
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

        self._address = settings.network.control
        self._client = ControlHttpClient.from_server_address(
            server_address=self._address,
            insecure=False,
            root_certificates=home.authority.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    def answers(self) -> bool:
        """Whether there is a SuperLink."""
        try:
            self.nodes()
        except HansaError:
            return False
        return True

    def nodes(self) -> list[Node]:
        """The nodes that are registered."""
        from flwr.proto.control_pb2 import ListNodesRequest

        with self._explained("list nodes"):
            found = self._client.ListNodes(ListNodesRequest()).nodes_info
        return [
            Node(node.node_id, node.name, node.status == "online", node.public_key)
            for node in found
            if node.status != "unregistered"
        ]

    def register(self, shop: str, key: bytes) -> int:
        """Let a node with this public key (PEM) connect; its number.

        Raises:
            UsageError: Another node had this key before it was removed; Flower takes none twice.
        """
        from flwr.proto.control_pb2 import RegisterNodeRequest
        from flwr.supercore.error import ApiErrorCode

        request = RegisterNodeRequest(public_key=key, name=shop)
        try:
            with self._explained(f"register {shop}"):
                return int(self._client.RegisterNode(request).node_id)
        except _RefusedError as refusal:
            if refusal.code != ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE:
                raise
            raise UsageError(
                f"shop {shop}: this node key was removed, and Flower takes none twice; the shop makes "
                "another one with 'hansa client rotate-keys' and sends its new key card"
            ) from refusal

    def unregister(self, node: int) -> None:
        """Let a node connect no longer."""
        from flwr.proto.control_pb2 import UnregisterNodeRequest

        with self._explained(f"unregister node {node}"):
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node))

    def start(self, bundle: bytes, config: Config) -> int:
        """Start a run; its number.

        Raises:
            HansaError: The SuperLink does not take it.
        """
        from flwr.common.serde import fab_to_proto, user_config_to_proto
        from flwr.proto.control_pb2 import StartRunRequest
        from flwr.supercore.fab import Fab

        request = StartRunRequest(
            fab=fab_to_proto(Fab(bundle_hash(bundle), bundle, {})),
            override_config=user_config_to_proto(dict(config)),
        )
        with self._explained("start a run"):
            answer = self._client.StartRun(request)
        if not answer.HasField("run_id"):
            raise HansaError("the SuperLink did not take the run; see logs/superlink.log")
        return int(answer.run_id)

    def runs(self) -> dict[int, FlowerRun]:
        """The newest runs by number."""
        from flwr.proto.control_pb2 import ListRunsRequest

        with self._explained("look at the runs"):
            found = self._client.ListRuns(ListRunsRequest(limit=_RUNS)).run_dict
        return {
            number: FlowerRun(number, run.status.sub_status or run.status.status, run.status.details)
            for number, run in found.items()
        }

    def stop_all(self) -> None:
        """Stop every run that has not finished."""
        for run in self.runs().values():
            if run.going:
                self.stop(run.id)

    def stop(self, number: int) -> bool:
        """Stop a run; whether it was stopped."""
        from flwr.proto.control_pb2 import StopRunRequest

        with self._explained("stop the run"):
            return bool(self._client.StopRun(StopRunRequest(run_id=number)).success)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPStatusError as error:
            raise _RefusedError(what, error.response) from error
        except httpx.HTTPError as error:
            raise UsageError(
                f"{what}: no SuperLink at {self._address} ({type(error).__name__}); run 'hansa server start'"
            ) from error
