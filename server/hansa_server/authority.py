"""The league's own certificate authority, and the certificate of its server.

Shops trust this authority alone, and for this league alone, so nobody else's certificate can stand between
them and the coordinator.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hansa.errors import UsageError
from hansa_server.files import write_private
from hansa_server.home import ServerHome

AUTHORITY_LASTS = timedelta(days=3650)
SERVER_LASTS = timedelta(days=397)
"""As long as browsers allow; ``renew`` makes another one."""
_SLACK = timedelta(hours=1)  # of clocks


def make_authority(home: ServerHome, league: str) -> None:
    """A new key (ECDSA P-256) and its self-signed certificate, which may sign servers only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Hansa"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"authority of {league}"[:64]),
        ]
    )
    signing = _usage(key_cert_sign=True, crl_sign=True)
    certificate = (
        _builder(name, name, key.public_key(), AUTHORITY_LASTS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(signing, critical=True)
        .sign(key, hashes.SHA256())
    )
    write_private(home.authority_key, _private(key))
    write_private(home.authority, certificate.public_bytes(serialization.Encoding.PEM))


def make_certificate(home: ServerHome, hosts: Sequence[str]) -> None:
    """A new key (ECDSA P-256) and certificate of the server, signed by the league's authority.

    Args:
        home: The coordinator's folder, with an authority.
        hosts: DNS names and IP addresses that it is for.

    Raises:
        UsageError: The authority's files are damaged or gone.
    """
    issuer, issuing = load_certificate(home), _load_key(home)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    certificate = (
        _builder(name, issuer.subject, key.public_key(), SERVER_LASTS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
        .sign(issuing, hashes.SHA256())
    )
    write_private(home.certificate_key, _private(key))
    write_private(home.certificate, certificate.public_bytes(serialization.Encoding.PEM))


def server_names(host: str) -> list[str]:
    """What the server's certificate is for: what shops call it, and what the proxy calls the SuperLink."""
    return list(dict.fromkeys([host, "localhost", "127.0.0.1"]))


def load_certificate(home: ServerHome, server: bool = False) -> x509.Certificate:
    """The authority's certificate, or the server's.

    Raises:
        UsageError: It cannot be read.
    """
    path = home.certificate if server else home.authority
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: no certificate ({error}); restore it from a backup") from error


def days_left(home: ServerHome) -> int:
    """Whole days until the server's certificate or that of its authority ends; negative afterwards."""
    ends = min(load_certificate(home, server).not_valid_after_utc for server in (False, True))
    return (ends - datetime.now(UTC)).days


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lasts: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(**used: bool) -> x509.KeyUsage:
    unused = dict.fromkeys(
        [
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ],
        False,
    )
    return x509.KeyUsage(**{**unused, **used})


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(home: ServerHome) -> ec.EllipticCurvePrivateKey:
    path = home.authority_key
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: no key ({error}); restore it from a backup") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{path}: not an ECDSA key; restore it from a backup")
    return key
