"""``server.toml``: where a coordinator is reached and what its runs are."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hansa.config import read_toml
from hansa.errors import UsageError
from hansa_server.files import rendered

MethodName = Literal["popularity", "dpsgd", "cooccurrence", "hybrid", "subspace", "dpals"]
DEFAULT_PORT = 8443

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252})")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Network(_Section):
    """Where the coordinator is reached.

    Attributes:
        address: ``host:port`` that shops connect to: the proxy's. Invitations name it.
        listen: ``ip:port`` that the proxy listens on.
        superlink: Port of Flower's SuperLink, on 127.0.0.1 only.
        proxy: Whether ``start`` runs nginx; without, another proxy must do what ``nginx.conf`` says.
    """

    address: str
    listen: str
    superlink: int = Field(default=8000, ge=1, le=65535)
    proxy: bool = True

    @field_validator("address", "listen")
    @classmethod
    def _address(cls, value: str) -> str:
        parse_address(value)
        return value

    @property
    def host(self) -> str:
        """The host that shops connect to."""
        return parse_address(self.address)[0]

    @property
    def control(self) -> str:
        """``host:port`` of the SuperLink."""
        return f"127.0.0.1:{self.superlink}"


class Training(_Section):
    """What a run is, unless ``hansa server train`` says otherwise.

    Attributes:
        method: The method.
        dp: Who must be trusted: ``distributed`` masks sums and shares noise, ``local`` trusts nobody.
        epsilon: Of a whole run, for one customer of one shop.
        delta: At which it is stated; 0: min(1e-5, customers^-1.1).
        rounds: 0: as many as the method takes.
        customers: Declared upper bound on all shops' customers, a public round figure; 0: not declared yet.
        threshold: Of ``distributed``: fewest shops in a sum; 0: chosen from the number of shops.
        colluders: Of ``distributed``: most shops that may side with the coordinator; 0: chosen likewise.
        trim: Of ``local``: share of the shops cut at each end of every coordinate; 0: none.
        timeout: Seconds that shops have for a round.
        settings: Hyperparameters of the method that differ from the recommended ones.
    """

    method: MethodName = "cooccurrence"
    dp: Literal["distributed", "local"] = "distributed"
    epsilon: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    delta: float = Field(default=0.0, ge=0, lt=1)
    rounds: int = Field(default=0, ge=0)
    customers: int = Field(default=0, ge=0)
    threshold: int = Field(default=0, ge=0)
    colluders: int = Field(default=0, ge=0)
    trim: float = Field(default=0.0, ge=0, lt=0.5)
    timeout: float = Field(default=300.0, gt=0, le=86_400)
    settings: dict[str, float | int | str] = {}


class ServerSettings(_Section):
    """All of ``server.toml``."""

    version: Literal[1] = 1
    network: Network
    training: Training = Training()


def parse_address(text: str, port: int | None = None) -> tuple[str, int]:
    """Host and port of ``host:port``; ``port`` where there is none.

    Raises:
        ValueError: It is not one.
    """
    host, colon, number = text.partition(":")
    if not colon and port is not None:
        number = str(port)
    if not _HOST.fullmatch(host) or not number.isdigit() or not 0 < int(number) < 65_536:
        raise ValueError(f"{text!r}: give host:port, a host name or an IPv4 address and a port")
    return host, int(number)


def network_for(given: str, superlink: int, proxy: bool) -> Network:
    """The addresses of a coordinator that shops reach at ``given`` (``host`` or ``host:port``).

    Raises:
        UsageError: It is no address.
    """
    try:
        host, port = parse_address(given, DEFAULT_PORT)
    except ValueError as error:
        raise UsageError(f"--host {error}") from error
    anywhere = "127.0.0.1" if host == "localhost" or is_loopback(host) else "0.0.0.0"
    return Network(address=f"{host}:{port}", listen=f"{anywhere}:{port}", superlink=superlink, proxy=proxy)


def is_loopback(host: str) -> bool:
    """Whether this is an IP address of the machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def training_with(base: Training, **overrides: object) -> Training:
    """Run settings with those overrides that are not None.

    Raises:
        UsageError: One of them is out of range; ``central`` and ``none`` are among these.
    """
    chosen = {name: value for name, value in overrides.items() if value is not None}
    if chosen.get("dp") in ("central", "none"):
        raise UsageError(
            f"--dp {chosen['dp']}: only for simulations, shops refuse it; use distributed or local"
        )
    try:
        return Training(**{**base.model_dump(), **chosen})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UsageError(f"--{name} {chosen.get(name, '')}: {first['msg']}") from error


def settings_text(settings: ServerSettings) -> str:
    """``server.toml`` with every field explained."""
    return rendered("server.toml.j2", **settings.model_dump())


def read_settings(path: Path) -> ServerSettings:
    """Read ``server.toml``.

    Raises:
        UsageError: It is missing or has a wrong value; the message names the field.
    """
    return read_toml(path, ServerSettings, "give --home, or make it with 'hansa server init'")
