"""Check-up of the way to the coordinator: clock, name, certificate, proxy, key. It only connects outwards."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import cast

from hansa_client.home import ShopHome
from hansa_client.invited import read_invitation
from hansa_client.runtime.notes import CONTACT, read_note
from hansa_client.setup.findings import Finding, Fleet, State

SECONDS = 5.0
_SKEW_WARN, _SKEW_FAIL = 60.0, 300.0  # Flower's nodes are refused 300 s off, with 5 s of grace
_SOON = 30 * 86_400.0
FLEET, CONTROL = "/v1/fleet/get-run", "/v1/control/list-runs"
_BAD_CERTIFICATE = {
    10: ("it has expired", "ask the coordinator to renew it"),
    9: ("it is not valid yet", "set this machine's clock"),
    62: ("it is for another name", "ask the coordinator for an invitation with the right address"),
    18: ("another authority signed it", "compare fingerprints: this may be somebody else"),
    19: ("another authority signed it", "compare fingerprints: this may be somebody else"),
    20: ("another authority signed it", "compare fingerprints: this may be somebody else"),
}


@dataclass
class _Seen:
    """What a look at the proxy told."""

    tls: Finding
    expires: float | None = None
    answers: dict[str, int] = field(default_factory=dict)
    clock: float | None = None


def network(home: ShopHome, fleet: Fleet | None = None, now: float | None = None) -> Iterator[Finding]:
    """Clock, DNS, TLS, proxy and key, in this order.

    Args:
        home: The shop's folder.
        fleet: See ``hansa_client.setup.doctor.examine``.
        now: The time; None: of this machine.
    """
    if not home.invitation.exists():
        yield Finding("invitation", "fail", "there is none", "hansa client init INVITATION")
        return
    told = read_invitation(home)
    host, _, port = told.address.rpartition(":")
    dns = _dns(host, int(port))
    seen = _look(home, host, int(port)) if dns.state == "ok" else None
    yield _clock(seen, time.time() if now is None else now)
    yield dns
    if seen is not None:
        yield seen.tls
        yield _proxy(seen, told.address)
    yield _key(home, fleet)


def _dns(host: str, port: int) -> Finding:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError:
        return Finding("dns", "fail", f"{host} has no address", "check the name, and this machine's resolver")
    return Finding("dns", "ok", f"{host} is {', '.join(sorted(found)[:3])}")


def _look(home: ShopHome, host: str, port: int) -> _Seen:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=home.authority.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return _Seen(
            Finding("tls", "fail", "authority.pem is no certificate", "hansa client init INVITATION")
        )
    try:
        with (
            socket.create_connection((host, port), SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            certificate = cast(dict[str, str], secured.getpeercert())
            expires = float(ssl.cert_time_to_seconds(certificate["notAfter"]))
    except ssl.SSLCertVerificationError as error:
        known = ("its certificate is not accepted", "ask the coordinator")
        what, fix = _BAD_CERTIFICATE.get(error.verify_code, known)
        return _Seen(Finding("tls", "fail", f"the certificate of {host}:{port}: {what}", fix))
    except ssl.SSLError:
        return _Seen(Finding("tls", "fail", f"{host}:{port} speaks no TLS", "check the port"))
    except OSError as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or "no answer"
        fix = "is the coordinator up, and does a firewall let this port out?"
        return _Seen(Finding("tls", "fail", f"{host}:{port}: {reason}", fix))
    seen = _Seen(_expiry(expires), expires)
    for path in (FLEET, CONTROL):
        _ask(seen, context, host, port, path)
    return seen


def _expiry(expires: float) -> Finding:
    day = datetime.fromtimestamp(expires, UTC).date()
    if expires - time.time() < _SOON:
        return Finding("tls", "warn", f"the certificate ends on {day}", "ask the coordinator to renew it")
    return Finding("tls", "ok", f"signed by the league's authority, for this name, until {day}")


def _ask(seen: _Seen, context: ssl.SSLContext, host: str, port: int, path: str) -> None:
    """An empty request without a key: the proxy passes it on or not; nothing of the shop is in it."""
    connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
    try:
        connection.request("POST", path, body=b"")
        answer = connection.getresponse()
        seen.answers[path] = answer.status
        seen.clock = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (OSError, http.client.HTTPException, TypeError, ValueError):
        pass
    finally:
        connection.close()


def _clock(seen: _Seen | None, now: float) -> Finding:
    if seen is None or seen.clock is None:
        return Finding("clock", "warn", "the coordinator told no time to compare with", "see below")
    off = abs(now - seen.clock)
    state: State = "fail" if off > _SKEW_FAIL else "warn" if off > _SKEW_WARN else "ok"
    fix = "" if state == "ok" else "set the clock (timedatectl set-ntp true): keys are refused when it is off"
    return Finding("clock", state, f"{off:.0f} s from the coordinator's", fix)


def _proxy(seen: _Seen, address: str) -> Finding:
    fleet, control = seen.answers.get(FLEET), seen.answers.get(CONTROL)
    if fleet is None and control is None:
        return Finding("proxy", "fail", f"{address} answers no request", "ask the coordinator")
    if fleet in (502, 503, 504):
        return Finding("proxy", "fail", "nothing runs behind the proxy", "ask the coordinator to start it")
    if fleet in (None, 403, 404, 405):
        fix = "ask the coordinator: its proxy must pass /v1/fleet/ on"
        return Finding("proxy", "fail", f"the shops' path is closed ({fleet})", fix)
    if control not in (None, 403, 404, 405):
        fix = "tell the coordinator: whoever reaches it can start runs; it should be closed"
        return Finding("proxy", "warn", f"the control path is open to shops ({control})", fix)
    return Finding("proxy", "ok", "passes the shops' path on, and refuses the control path")


def _key(home: ShopHome, fleet: Fleet | None) -> Finding:
    if not home.key.exists() or not home.node_key.exists():
        return Finding("key", "fail", "the shop has no keys", "hansa client init INVITATION")
    admitted = None if fleet is None else fleet(home)
    contact = read_note(home.state / CONTACT).get("contact")
    if admitted or (admitted is None and isinstance(contact, float | int)):
        when = (
            ""
            if admitted
            else f", last at {datetime.fromtimestamp(float(cast(float, contact)), UTC):%F %T} UTC"
        )
        return Finding("key", "ok", f"the coordinator has answered this shop's key{when}")
    if admitted is None:
        return Finding("key", "warn", "unknown until start", "hansa client start, and look again")
    fix = "send NAME.keys.json to the coordinator, who runs 'hansa server admit'"
    return Finding("key", "fail", "the coordinator does not know this shop's key", fix)
