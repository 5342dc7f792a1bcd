"""``hansa audit``: make a report on a budget, check one without trusting anybody, compare two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hansa.audit.document import Attack
    from hansa.audit.verify import Trusted

Reports = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Reports, as JSON.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def report(
    source: Annotated[
        Path, typer.Argument(metavar="PATH", help="A shop's folder or ledger, or a coordinator's folder.")
    ] = Path("."),
    out: Annotated[Path, typer.Option(help="Folder to write audit-report.json and .html to.")] = Path("."),
    attacks: Annotated[
        Path | None, typer.Option(help="Results of 'hansa audit attack --out FILE', to be part of it.")
    ] = None,
    contact: Annotated[str | None, typer.Option(help="Whom readers may ask.")] = None,
    overlap: Annotated[
        int | None,
        typer.Option(min=1, help="Most shops of the league that one person is declared to be a customer of."),
    ] = None,
    json_: Json = False,
) -> None:
    """Write a report on a privacy budget: one page to read, one document to verify.

    A shop's report rests on its ledger and is signed with the ledger's key. A federation's rests on the
    coordinator's log and the shops' signed statements, and is signed by the coordinator.

    Examples:

        hansa audit report shop --out report

        hansa audit report league --attacks attacks.json
    """
    from dataclasses import replace

    from hansa.audit.files import write_report
    from hansa.audit.making import find_material

    material = find_material(source)
    material = replace(
        material,
        contact=contact or material.contact,
        overlap=overlap or material.overlap,
        attacks=_attacks(attacks) if attacks is not None else material.attacks,
    )
    written = write_report(material, out)
    if json_:
        print(json.dumps({"json": str(written.json), "html": str(written.html), "sha256": written.sha256}))
    else:
        print(f"{written.json}\n{written.html}\nSHA-256 {written.sha256}")


def verify(
    files: Reports,
    roster: Annotated[
        list[Path] | None,
        typer.Option(help="The league's roster from elsewhere; repeat for earlier ones: says who signed."),
    ] = None,
    coordinator: Annotated[
        str | None, typer.Option(help="The coordinator's public key from elsewhere, 64 hexadecimal digits.")
    ] = None,
    json_: Json = False,
) -> None:
    """Check reports offline: signatures, hash chains, receipts, every epsilon from the listed events.

    Several reports are held against each other, too: a shop that rolled back, or a coordinator that showed
    two histories, is found. It proves integrity and arithmetic, not execution, completeness or accuracy.
    Exit code 4 names what fails.

    Examples:

        hansa audit verify audit-report.json

        hansa audit verify shop.json league.json --roster roster.json
    """
    from hansa.audit.together import compare
    from hansa.audit.verify import verify as check
    from hansa.errors import UsageError, VerificationError

    trusted = _trusted(roster or [], coordinator)
    verdicts = []
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}; give the file of a report") from error
        verdicts.append(check(content, str(file), trusted))
    between = compare(verdicts, coordinator) if len(verdicts) > 1 else []
    failed = bool(between) or any(verdict.findings for verdict in verdicts)
    if json_:
        shown = [
            {
                "file": verdict.source,
                "consistent": not verdict.findings,
                "authenticated": verdict.authenticated,
                "findings": verdict.findings,
                "notes": verdict.notes,
            }
            for verdict in verdicts
        ]
        print(json.dumps({"reports": shown, "between": between}, indent=2))
    else:
        for verdict in verdicts:
            for line in [verdict.words, *_bullets(verdict.findings), *_bullets(verdict.notes, "note: ")]:
                print(_plain(line))
        if len(verdicts) > 1:
            found = f"{len(between)} contradictions" if between else "no contradictions"
            print(f"between the reports: {found}")
            for line in _bullets(between):
                print(_plain(line))
    if failed:
        first = next((verdict.findings[0] for verdict in verdicts if verdict.findings), None)
        raise VerificationError(_plain(first if first is not None else between[0]))


def diff(
    one: Annotated[Path, typer.Argument(metavar="A", help="A report.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="Another, usually a later one.")],
    json_: Json = False,
) -> None:
    """Print what changed from one report to another; evidence and signatures are for 'hansa audit verify'.

    Examples:

        hansa audit diff january.json february.json
    """
    from hansa.audit.diff import diff as differences
    from hansa.audit.signing import open_report

    reports = [open_report(_read(path), str(path)) for path in (one, other)]
    found = differences(*reports)
    if json_:
        print(json.dumps([{"field": p, "a": a, "b": b} for p, a, b in found], indent=2))
        return
    for place, before, after in found:
        print(_plain(f"{place}: {_value(before)} -> {_value(after)}"))
    if not found:
        print("no differences")


def schema() -> None:
    """Print the JSON Schema of a report.

    Examples:

        hansa audit schema > audit-report.schema.json
    """
    from hansa.audit.files import schema_text

    print(schema_text(), end="")


def _plain(line: str) -> str:
    """Others' words on a terminal: what is not printable is shown as its code."""
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in line)


def _bullets(lines: list[str], lead: str = "") -> list[str]:
    return [f"  - {lead}{line}" for line in lines]


def _value(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _read(path: Path) -> bytes:
    from hansa.errors import UsageError

    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give the file of a report") from error


def _trusted(rosters: list[Path], coordinator: str | None) -> Trusted:
    from hansa.audit.verify import Trusted
    from hansa.dp.ledger.entries import public_key
    from hansa.errors import UsageError
    from hansa.secagg.roster import Roster

    if coordinator is not None:
        try:
            public_key(coordinator)
        except ValueError:
            raise UsageError("--coordinator: not a public key of 64 hexadecimal digits") from None
    return Trusted(
        [Roster.from_json(_read(path).decode("utf-8", "replace")) for path in rosters], coordinator
    )


def _attacks(path: Path) -> list[Attack]:
    from pydantic import TypeAdapter, ValidationError

    from hansa.audit.document import Attack
    from hansa.config import problem
    from hansa.errors import UsageError

    try:
        return TypeAdapter(list[Attack]).validate_json(_read(path))
    except ValidationError as error:
        raise UsageError(
            f"--attacks {path}: {problem(error)}; give what 'hansa audit attack' wrote"
        ) from error
