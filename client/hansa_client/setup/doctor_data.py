"""Check-up of the data: can they be read, do columns and dates make sense, how much of them is used."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime

from hansa.errors import UsageError
from hansa.figures import declared
from hansa.plan import METHODS
from hansa_client.config import ShopSettings
from hansa_client.data.loading import ShopData, load_data
from hansa_client.home import ShopHome
from hansa_client.setup.findings import Finding, State

_DAY = 86_400.0
_FEW, _MOST = 0.01, 0.5


def look_at_data(home: ShopHome, settings: ShopSettings) -> Iterator[Finding]:
    """Data, columns, dates, rows, items, customers."""
    try:
        data = load_data(home, settings)
    except UsageError as error:
        yield Finding("data", "fail", str(error), "hansa client configure")
        return
    reading = data.report.reading
    known = "" if reading.anew else f", {reading.fresh:,} of them new or asked for again"
    if not reading.rows:
        yield Finding("data", "fail", "the source has no rows", "check data.path, data.table or data.query")
        return
    yield Finding("data", "ok", f"{reading.rows:,} rows{known}")
    columns = settings.data.columns
    named = ", ".join(filter(None, (columns.customer, columns.item, columns.time, columns.quantity)))
    yield Finding("columns", "ok", f"found {named}")
    yield _dates(data, settings)
    yield _rows(data)
    yield _items(data)
    yield from _customers(data, settings)


def _dates(data: ShopData, settings: ShopSettings) -> Finding:
    reading, columns = data.report.reading, settings.data.columns
    bad = reading.dropped.get("time not readable", 0) / reading.rows
    fix = "hansa client configure --time-format '%d.%m.%Y %H:%M', or as they are"
    if bad > _FEW:
        at = reading.first.get("time not readable", "")
        state: State = "fail" if bad > _MOST else "warn"
        told = f"{bad:.1%} of the times cannot be read as {columns.time_format!r}; the first: {at}"
        return Finding("dates", state, told, fix)
    if data.newest is None:
        return Finding("dates", "ok", "no interaction with an item of the catalogue")
    day = datetime.fromtimestamp(data.newest, UTC).date()
    if data.newest > time.time() + _DAY:
        return Finding("dates", "warn", f"the newest is in the future, {day}", fix)
    if data.newest < time.time() - 365 * _DAY:
        return Finding("dates", "warn", f"the newest is of {day}", "is this the current source?")
    return Finding("dates", "ok", f"up to {day}")


def _rows(data: ShopData) -> Finding:
    reading = data.report.reading
    bad = {reason: n for reason, n in reading.dropped.items() if reason != "returned or none bought"}
    share = sum(bad.values()) / reading.rows
    told = f"{share:.2%} left out; {'; '.join(reading.lines()[1:]) or 'none'}"
    state: State = "fail" if share > _MOST else "warn" if share > _FEW else "ok"
    return Finding("rows", state, told, "" if state == "ok" else "look at the first of them in the source")


def _items(data: ShopData) -> Finding:
    mapping = data.report.mapping
    share = mapping.share_known
    state: State = "fail" if share == 0 else "warn" if share < 0.8 or mapping.strangers else "ok"
    fix = "hansa client configure --catalogue-key gtin (or another column), or --mapping FILE"
    return Finding("items", state, "; ".join(mapping.lines()), "" if state == "ok" else fix)


def _customers(data: ShopData, settings: ShopSettings) -> Iterator[Finding]:
    count, lengths = len(data.customers), data.histories.lengths
    if not count:
        yield Finding("customers", "fail", "nobody has an item of the catalogue", "see items")
        return
    cuts = []
    for cap, names in sorted(usual_caps().items()):
        cut = int((lengths > cap).sum())
        cuts.append(f"{cut:,} have more than the {cap} items that {', '.join(names)} take")
    told = f"{count:,} customers, {int(lengths.sum()):,} items of theirs; {'; '.join(cuts)}"
    if data.report.busiest > max(0.05, 20 / count):  # twenty times as many as others have
        fix = "is it a code for guests? hansa client exclude it"
        yield Finding("customers", "warn", f"{told}; one has {data.report.busiest:.0%} of all", fix)
    else:
        yield Finding("customers", "ok", told)
    stated = settings.budget.customers
    if count > stated:
        fix = f"hansa client configure --customers {declared(count)}, and tell the coordinator"
        yield Finding("declared", "warn", f"{count:,} customers are more than the {stated:,} declared", fix)
    else:
        yield Finding("declared", "ok", f"{stated:,} declared, which holds")


def usual_caps() -> dict[int, list[str]]:
    """The caps K of the methods' defaults, with the methods' names."""
    caps: dict[int, list[str]] = {}
    for name, method in METHODS.items():
        for part in fields(method):  # type: ignore[arg-type]
            if part.name == "cap":
                caps.setdefault(int(part.default), []).append(name)  # type: ignore[arg-type]
    return caps
