"""Check-up of ledger, budget and roster."""

from __future__ import annotations

from collections.abc import Iterator

from hansa.dp.ledger.account import Budget
from hansa.dp.ledger.check import check, read_file
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import HansaError
from hansa.secagg.roster import Roster
from hansa_client.config import ShopSettings
from hansa_client.home import ShopHome
from hansa_client.keys import read_key
from hansa_client.setup.findings import Finding


def books(home: ShopHome, settings: ShopSettings) -> Iterator[Finding]:
    """Ledger, budget, roster."""
    ledger, finding = _ledger(home)
    yield finding
    if ledger is not None:
        yield _budget(ledger, settings)
        yield _roster(home, ledger, settings)


def _ledger(home: ShopHome) -> tuple[LedgerFile | None, Finding]:
    if not home.ledger.exists():
        return None, Finding(
            "ledger", "fail", "there is none", "hansa client configure; or restore a lost one"
        )
    rows, findings = read_file(home.ledger)
    findings = findings or check(rows)
    if findings:
        fix = f"hansa client ledger verify {home.ledger}; restore a backup and reconcile"
        return None, Finding("ledger", "fail", str(findings[0]), fix)
    try:
        present = LedgerFile(home.ledger).ceiling
        ledger = LedgerFile(home.ledger, Budget(present.epsilon, present.delta), follow=False)
        entries = len(ledger.entries())  # with a budget the file is compared with its mark, too
    except HansaError as error:
        fix = f"hansa client ledger reconcile {home.ledger} --receipt FILE"
        return None, Finding("ledger", "fail", str(error), fix)
    return ledger, Finding("ledger", "ok", f"{entries} entries, all in order, nothing to reconcile")


def _budget(ledger: LedgerFile, settings: ShopSettings) -> Finding:
    from hansa.dp.ledger.account import Account

    account = Account.of(ledger.entries())
    ceiling, spent = account.ceiling, account.spent
    told = f"epsilon {spent:.4g} of {ceiling.epsilon:g} reserved at delta {ceiling.delta:.3g}"
    if account.closed:
        fix = "start a new shop under a new name, if your customers agree"
        return Finding("budget", "fail", f"{told}; a part of the history is lost, nothing more runs", fix)
    if settings.budget.delta != ceiling.delta:
        fix = f"set budget.delta = {ceiling.delta:g} in shop.toml"
        return Finding("budget", "fail", f"{told}; shop.toml says delta {settings.budget.delta:g}", fix)
    if settings.budget.loose:
        fix = "declare the true number of customers, or begin a new ledger under a new name"
        said = f"{told}; delta is above 1 / customers, {1 / settings.budget.customers:.3g}"
        return Finding("budget", "warn", said, fix)
    if settings.budget.epsilon != ceiling.epsilon:
        fix = "hansa client configure --epsilon with what you mean"
        said = f"{told}; shop.toml says {settings.budget.epsilon:g}, which the next run will enter"
        return Finding("budget", "warn", said, fix)
    if spent >= ceiling.epsilon * 0.99:
        return Finding("budget", "warn", f"{told}; nothing is left", "raise the ceiling only if you mean it")
    return Finding("budget", "ok", told)


def _roster(home: ShopHome, ledger: LedgerFile, settings: ShopSettings) -> Finding:
    """Whether masked sums could be joined at all on the shop's own terms."""
    if "distributed" not in settings.approvals.dp:
        return Finding("roster", "ok", "not needed: only local runs are allowed")
    approve = "compare fingerprints by telephone, then 'hansa client approvals roster FILE --vouch NAMES'"
    if not home.roster.exists():
        return Finding("roster", "warn", "none is approved, so masked sums are refused", approve)
    roster = Roster.from_json(home.roster.read_text(encoding="utf-8"))
    if ledger.roster != roster.digest:
        return Finding("roster", "fail", "the ledger has no approval of roster.json", approve)
    try:
        own = read_key(home.key).public_key().public_bytes_raw()
    except HansaError as error:
        return Finding("roster", "fail", str(error), "hansa client restore")
    if own not in roster.keys.values():
        detail = "roster.json has an earlier key of this shop, so masked sums are refused"
        return Finding("roster", "warn", detail, f"get the league's new roster; {approve}")
    terms = settings.masking
    vouched = set(terms.vouched)
    if not vouched <= set(ledger.vouched) | set(roster.keys):
        return Finding("roster", "fail", "shop.toml vouches for shops that are not on the roster", approve)
    shops, trusted = len(roster), max(1, len(vouched))
    suspects = shops - trusted + terms.colluders
    honest = min(trusted - terms.colluders, shops - suspects)
    told = f"{shops} shops, {trusted} vouched for with this one, {suspects} may side with the coordinator"
    if honest < terms.honest or 2 * shops <= shops + suspects or shops < terms.threshold:
        fix = "vouch for more shops, or lower masking.honest or threshold"
        return Finding("roster", "warn", f"{told}: too few for this shop's own terms", fix)
    return Finding("roster", "ok", told)
