import ssl
import stat
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from hansa.errors import UsageError
from hansa_server.authority import days_left, load_certificate, make_certificate, server_names
from hansa_server.home import ServerHome


def test_the_server_is_known_by_its_names(home: ServerHome) -> None:
    make_certificate(home, server_names("league.example.org"))
    certificate = load_certificate(home, server=True)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"league.example.org", "localhost"}
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("127.0.0.1")]
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    certificate.verify_directly_issued_by(load_certificate(home))
    assert 300 < days_left(home) < 398


def test_strict_checks_accept_it(home: ServerHome) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(home.authority)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(home.certificate, home.certificate_key)
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(ours, theirs, server_hostname="127.0.0.1")
    server = served.wrap_bio(theirs, ours, server_side=True)
    done = set()
    while len(done) < 2:
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    assert client.getpeercert()


def test_an_authority_signs_servers_and_no_other_authority(home: ServerHome) -> None:
    limits = load_certificate(home).extensions.get_extension_for_class(x509.BasicConstraints)
    assert limits.critical
    assert limits.value.ca
    assert limits.value.path_length == 0


def test_renewing_keeps_the_authority(home: ServerHome) -> None:
    authority, before = home.authority.read_bytes(), load_certificate(home, server=True)
    make_certificate(home, ["127.0.0.1"])
    assert home.authority.read_bytes() == authority
    assert load_certificate(home, server=True).serial_number != before.serial_number


def test_a_lost_key_is_named(home: ServerHome) -> None:
    home.authority_key.unlink()
    with pytest.raises(UsageError, match="restore it"):
        make_certificate(home, ["localhost"])


def test_nobody_else_reads_the_folder(home: ServerHome) -> None:
    for path in [home.root, *home.root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
