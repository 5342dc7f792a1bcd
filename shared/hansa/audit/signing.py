"""The file of a report: three lines, so that the signed bytes can be cut out with any tool.

``{"format":"hansa audit report 1",`` / ``"statement":{...},`` / ``"signature":{...}}``, each ended by a
newline. The statement is canonical JSON (``hansa.dp.ledger.entries.canonical``). The signature is Ed25519
over ``FORMAT``, a newline and the statement's bytes as they stand in the file; nothing outside of them but
key and signature can be changed without the file having another form.
"""

from __future__ import annotations

from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from hansa.audit.document import FORMAT, Report, Signature, Statement
from hansa.config import problem
from hansa.dp.ledger.entries import canonical, public_hex, public_key, valid_signature
from hansa.errors import VerificationError

_PREFIX = f"{FORMAT}\n".encode()
_LARGEST = 200_000_000


def spelled(statement: Statement) -> bytes:
    """The exact bytes of a statement."""
    return canonical(statement.model_dump(mode="json"))


def seal(statement: Statement, key: Ed25519PrivateKey) -> bytes:
    """The file of a statement, signed."""
    content = spelled(statement)
    signature = Signature(key=public_hex(key), value=key.sign(_PREFIX + content).hex())
    return file_of(content, signature)


def file_of(content: bytes, signature: Signature) -> bytes:
    """The file with these bytes of a statement and this signature."""
    signed = canonical(signature.model_dump(mode="json"))
    return b'{"format":"%b",\n"statement":%b,\n"signature":%b}\n' % (FORMAT.encode(), content, signed)


def open_report(content: bytes, source: str) -> Report:
    """A report from its file's bytes: of the one form, and signed by the key that it names.

    Args:
        content: The bytes; they may come from anybody.
        source: Where from, for messages.

    Raises:
        VerificationError: They are no such report, or were changed after they were signed.
    """
    report = _parsed(content, source)
    stated = spelled(report.statement)
    if file_of(stated, report.signature) != content:
        raise VerificationError(f"{source}: spelled in another way than reports are: it was changed")
    try:
        key = public_key(report.signature.key)
        good = valid_signature(key, bytes.fromhex(report.signature.value), _PREFIX + stated)
    except ValueError:
        good = False
    if not good:
        raise VerificationError(f"{source}: its signature is not valid: it was changed after it was signed")
    return report


def report_hash(content: bytes) -> str:
    """SHA-256 of a report's file, hex: its name where parties speak about it."""
    return sha256(content).hexdigest()


def _parsed(content: bytes, source: str) -> Report:
    if len(content) > _LARGEST:
        raise VerificationError(f"{source}: {len(content):,} bytes are more than a report has")
    try:
        return Report.model_validate_json(content)
    except ValidationError as error:
        raise VerificationError(f"{source}: not an audit report: {problem(error)}") from error
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"{source}: not an audit report: {error}") from error
