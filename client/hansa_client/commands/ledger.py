"""``hansa client ledger``: look at a shop's ledger, check it, and take a restored one into use again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hansa.dp.ledger.account import Account
    from hansa.dp.ledger.entries import Entry, Receipt, Row

app = typer.Typer(
    no_args_is_help=True,
    help="What a shop has spent of its privacy budget: look, check, reconcile.",
    add_completion=False,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The shop's ledger, an SQLite file.")]


@app.command()
def show(
    file: File,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print a ledger's entries and its own sum. It needs no key and changes nothing.

    Examples:

        hansa client ledger show shop.sqlite

        hansa client ledger show shop.sqlite --json
    """
    entries = [row.parse() for row in _sound(file)]
    account = _account(entries)
    if json_:
        shown = [vars(entry) for entry in entries]
        print(json.dumps({"file": str(file), **_sum(account), "entries": shown}, indent=2))
        return
    for entry in entries:
        print(f"{entry.sequence:>6}  {entry.time}  {entry.kind:<9}  {_line(entry)}")
    print(_sum_line(account))


@app.command()
def verify(
    file: File,
    receipt: Annotated[
        Path | None, typer.Option(help="A receipt that another party holds: finds a cut tail or a fork.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="The shop's public key, 64 hexadecimal digits or a file with them. Default: its own."
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check every entry: chain, signature, and that the rule allowed it. Exit code 4 if anything is wrong.

    Without a receipt nobody can see that the newest entries were cut off; without a key from elsewhere, that
    the whole ledger was made anew.

    Examples:

        hansa client ledger verify shop.sqlite

        hansa client ledger verify shop.sqlite --receipt receipt.json

        hansa client ledger verify shop.sqlite --key shop.pub
    """
    from hansa.dp.ledger.check import check, read_file
    from hansa.errors import VerificationError

    rows, findings = _reading(read_file, file)
    held = _receipt(receipt) if receipt is not None else None
    public = _key(key) if key is not None else None
    findings += check(rows, key=public, receipt=held) if rows or not findings else []
    findings.sort(key=lambda finding: finding.entry)
    account = None if findings else _account([row.parse() for row in rows])
    if json_:
        found = [vars(finding) for finding in findings]
        print(
            json.dumps(
                {"file": str(file), "entries": len(rows), "findings": found, **_sum(account)}, indent=2
            )
        )
    elif account is not None:
        print(f"{file}: {len(rows)} entries, all in order\n{_sum_line(account)}")
    else:
        print("\n".join(str(finding) for finding in findings))
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise VerificationError(f"{file}: {findings[0]}{more}")


@app.command()
def receipt(file: File) -> None:
    """Print a receipt of the ledger's last entry, signed with its key, for another party to keep.

    It tells how many entries there are, and nothing of what they say.

    Examples:

        hansa client ledger receipt shop.sqlite
    """
    from hansa.dp.ledger.file import LedgerFile

    print(LedgerFile(file).receipt().to_json())


@app.command()
def reconcile(
    file: File,
    receipt: Annotated[
        Path | None, typer.Option(help="The LAST receipt that the coordinator holds, in a file.")
    ] = None,
    without_receipt: Annotated[
        bool, typer.Option("--without-receipt", help="There is none: count the ceiling as spent, for good.")
    ] = False,
) -> None:
    """Take a restored or copied ledger into use again. Accepted plans stay paid for and are not continued.

    Examples:

        hansa client ledger reconcile shop.sqlite --receipt receipt.json

        hansa client ledger reconcile shop.sqlite --without-receipt
    """
    from hansa.dp.ledger.file import LedgerFile
    from hansa.errors import UsageError

    if (receipt is None) != without_receipt:
        raise UsageError("reconcile: give either --receipt FILE or --without-receipt")
    ledger = LedgerFile(file)
    ledger.reconcile(_receipt(receipt) if receipt is not None else None)
    state = "its ceiling counts as spent" if without_receipt else "it matches the receipt"
    print(f"{file}: reconciled, {state}")


def _reading(read: Any, file: Path) -> Any:
    from hansa.errors import UsageError

    try:
        return read(file)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}; give a ledger's file") from error


def _sound(file: Path) -> list[Row]:
    """The rows of a file that can be read as a ledger."""
    from hansa.dp.ledger.check import check, read_file
    from hansa.errors import VerificationError

    rows, findings = _reading(read_file, file)
    findings = findings or check(rows)
    if findings:
        raise VerificationError(f"{file}: {findings[0]}; see 'hansa client ledger verify'")
    return list(rows)


def _receipt(file: Path) -> Receipt:
    from hansa.dp.ledger.entries import Receipt
    from hansa.errors import UsageError

    try:
        return Receipt.from_json(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--receipt {file}: not a receipt of 'hansa client ledger receipt' ({error})"
        ) from error


def _key(given: str) -> Any:
    from hansa.dp.ledger.entries import public_key
    from hansa.errors import UsageError

    try:
        return public_key(Path(given).read_text("ascii").strip() if Path(given).is_file() else given)
    except (OSError, ValueError) as error:
        raise UsageError(f"--key {given}: not 64 hexadecimal digits, nor a file with them") from error


def _account(entries: list[Entry]) -> Account:
    from hansa.dp.ledger.account import Account

    return Account.of([entry.draft for entry in entries])


def _sum(account: Account | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {
        "spent": account.spent,
        "ceiling": account.ceiling.epsilon,
        "delta": account.ceiling.delta,
        "closed": account.closed,
        "order": account.filter.order,
    }


def _sum_line(account: Account) -> str:
    closed = "; a part of its history is lost, nothing more is accepted" if account.closed else ""
    return (
        f"spent: epsilon {account.spent:.4g} of {account.ceiling.epsilon:g} at delta "
        f"{account.ceiling.delta:.3g}{closed}"
    )


def _line(entry: Entry) -> str:
    body = entry.body
    numbers = ""
    if "epsilon_after" in body:
        before, after = (_number(body[name]) for name in ("epsilon_before", "epsilon_after"))
        numbers = f"epsilon {before} -> {after}"
    if entry.kind == "open":
        return (
            f"ceiling {_number(body['epsilon'])} at delta {body['delta']:.3g}, shop {body.get('shop', '')!r}"
        )
    if entry.kind == "reserve":
        releases = sum(count for _, count in body["releases"])
        return f"run {body['run']}, {releases} releases, {numbers}"
    if entry.kind == "charge":
        what = f"round {body.get('round', '?')}, {body.get('release', '?')}"
        return f"run {body['run']}, {what}, {numbers} of what is released"
    if entry.kind == "refuse":
        return f"run {body['run']}: {body['reason']}"
    if entry.kind == "reconcile":
        return "without a receipt" if body["receipt"] is None else "with the receipt"
    return numbers


def _number(epsilon: float | None) -> str:
    return "infinite" if epsilon is None else f"{epsilon:.4g}"
