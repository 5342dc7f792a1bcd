"""A shop leaves its league: nothing of it runs any more; what it has spent and what it has learnt stay."""

from __future__ import annotations

import shutil
from pathlib import Path

from hansa.durable import sync, write_whole
from hansa.errors import UsageError
from hansa.league import LeaveNotice
from hansa_client.home import ShopHome
from hansa_client.invited import read_invitation
from hansa_client.keys import load_key


def leave(home: ShopHome) -> Path:
    """Stop the shop, write its signed notice for the coordinator, and take away all that lets it run.

    Node key, new keys that wait, roster, approvals, questions, accepted plans and kept replies go. Ledger,
    long-term key, models, marks, settings and the list of customers who opted out stay. Safe to repeat.

    Returns:
        The notice.

    Raises:
        UsageError: It is no shop's folder, or its key is missing.
    """
    from hansa_client.runtime.processes import stop

    told = read_invitation(home)
    notice = LeaveNotice.make(told.league, told.shop, load_key(home))
    path = home.root / f"{told.shop}.leave.json"
    stop(home)
    write_whole(path, notice.to_json().encode())
    try:
        for file in (
            home.node_key,  # the first: without it there is no connection
            home.node_key.with_name(f"{home.node_key.name}.pub"),
            home.roster,
            home.root / "approved-plans",
        ):
            file.unlink(missing_ok=True)
        for folder in (home.key.parent / "next", home.key.parent / "next.draft", home.plans, home.replies):
            if folder.exists():
                shutil.rmtree(folder)
        for question in home.pending.glob("*.json"):
            question.unlink()
        _forget_bundles(home)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}; see to it and run this again") from error
    sync(home.key.parent)
    sync(home.root)
    return path


def _forget_bundles(home: ShopHome) -> None:
    """No bundle is approved any more."""
    import tomlkit
    from tomlkit.items import Table

    if not home.settings.exists():
        return
    document = tomlkit.parse(home.settings.read_text(encoding="utf-8"))
    approvals = document.get("approvals")
    if isinstance(approvals, Table) and approvals.get("bundles"):
        approvals["bundles"] = []
        write_whole(home.settings, tomlkit.dumps(document).encode())
