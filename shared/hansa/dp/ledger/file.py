"""The durable ledger: one SQLite file a shop, append-only, hash-chained and signed, shared by processes."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.dp.ledger import store
from hansa.dp.ledger.account import UNUSABLE, Account, Budget, Draft, opening
from hansa.dp.ledger.beside import Beside, Mark
from hansa.dp.ledger.entries import NOTHING, Entry, Receipt, Row, write, write_all
from hansa.dp.ledger.memory import Ledger, Say
from hansa.errors import RefusalError


@dataclass
class _Books:
    """What has been read of a file: its account, its drafts and its last row."""

    account: Account
    drafts: list[Draft]
    last: Row
    plans: list[str]  # when each was reserved

    @property
    def identity(self) -> str:
        """The ledger's own, from its first entry."""
        return str(self.drafts[0].body["ledger"])


class LedgerFile(Ledger):
    """``Ledger`` in an SQLite file, with its key and a mark beside it (``hansa.dp.ledger.beside``).

    An entry is on the disk before the call that made it returns. Processes take turns. The file is
    opened with the first use; a missing one is created only if neither its key nor its mark is there.
    Whatever goes wrong with the file is a refusal: nothing was charged, or it was and nothing is released.

    Guarantee: that of ``hansa.dp.ledger.account`` over all processes that use the file, through kill -9,
    power cuts and full disks. It assumes a disk that keeps what it has synced, and that nobody signs entries
    of their own with the key, which lies beside the file. A copy that is older than its mark or lies in
    another file is refused until reconciled; one that was put back together with its mark into the same
    file, such as a virtual machine's snapshot, shows against a receipt only.

    Args:
        path: The file, usually ``NAME.sqlite``; its folder must exist.
        budget: The configured ceiling and delta; None to take what the file says.
        name: The shop's name, recorded when the file is created.
        follow: Enter a configured ceiling that differs from the file's as a change; else it counts for a new
            file only.
        durable: Off for temporary copies that need not outlive the machine.
    """

    def __init__(
        self,
        path: Path,
        budget: Budget | None = None,
        *,
        name: str = "",
        follow: bool = True,
        durable: bool = True,
    ) -> None:
        self.path = path
        self.budget = budget
        self.name = name
        self.follow = follow
        self.durable = durable
        self._beside = Beside(path)
        self._known: _Books | None = None
        self._ready = False
        self._lock = threading.RLock()

    def entries(self) -> list[Draft]:
        """See ``Ledger``."""
        self._current()
        assert self._known is not None
        return list(self._known.drafts)

    def plans_since(self, moment: datetime) -> int:
        """See ``Ledger``; a time beyond now, of a clock that was wrong, does not count."""
        self._current()
        assert self._known is not None
        with _refusing(self.path):
            return sum(
                moment <= datetime.fromisoformat(time) <= datetime.now(UTC) for time in self._known.plans
            )

    def create(self, drafts: Iterable[Draft]) -> None:
        """Create the file with these entries, the opening first; no effect if somebody else just has.

        Raises:
            RefusalError: Its key or mark is there without it, or the disk cannot be written to.
        """
        with _refusing(self.path), self._beside.only_one():
            if not self._beside.traces:
                self._create(drafts)
            elif self.path.exists():
                self._beside.settle()  # where its creation was cut short
            else:
                remains = ", ".join(path.name for path in self._beside.traces)
                raise RefusalError(
                    f"{self.path}: the ledger is missing while {remains} remains; put the file back and run "
                    f"'hansa client ledger reconcile'",
                    reason=UNUSABLE,
                )

    def receipt(self) -> Receipt:
        """The shop's signed word on its last entry, for another party to keep."""
        self._current()
        assert self._known is not None
        with _refusing(self.path):
            key = self._beside.read_key()
        return Receipt(self._known.identity, self._known.last.sequence, self._known.last.hash).sign(key)

    def attest(self, sequence: int, say: Say) -> str:
        """See ``Ledger``.

        Raises:
            RefusalError: There is no such entry, or no key.
        """
        self._current()
        assert self._known is not None
        with _refusing(self.path), store.reading(self.path) as base:
            row, key = store.row(base, sequence), self._beside.read_key()
            if row is None:
                raise ValueError(f"entry {sequence} is missing")
        return say(Receipt(self._known.identity, row.sequence, row.hash), key)

    def reconcile(self, receipt: Receipt | None) -> None:
        """Take a restored or copied file into use again.

        Plans that were accepted stay paid for and are over: some of their releases may have been made after
        the copy was taken, and marks of masked rounds beside the copy may be as old.

        Args:
            receipt: The last one that another party holds. None: nobody knows what is lost, the ceiling
                counts as spent, and no ceiling reopens this ledger.

        Raises:
            RefusalError: The receipt is not this ledger's, or newer than the file.
        """

        def entry(account: Account) -> Draft:
            assert self._known is not None
            if receipt is None:
                return Draft("reconcile", {"receipt": None})
            problem = self._compare(receipt)
            if problem is not None:
                raise RefusalError(f"{self.path}: {problem}", reason=UNUSABLE)
            return Draft("reconcile", {"receipt": receipt.to_json()})

        self._take_turn(entry, trusting=True)

    def _compare(self, receipt: Receipt) -> str | None:
        assert self._known is not None
        key = self._beside.read_key().public_key()
        if receipt.ledger != self._known.identity or not receipt.signed_by(key):
            return "the receipt is not signed by this ledger"
        if receipt.sequence > self._known.last.sequence:
            return (
                f"the receipt is of entry {receipt.sequence}, this file ends at {self._known.last.sequence}; "
                f"find a newer copy, or use --without-receipt"
            )
        with store.reading(self.path) as base:
            row = store.row(base, receipt.sequence)
        if row is None or row.hash != receipt.hash:
            return f"entry {receipt.sequence} is another than the receipt's: this is a fork"
        return None

    def _current(self) -> Account:
        with self._lock:
            self._prepare()
            with _refusing(self.path), store.reading(self.path, "rw") as base:
                return self._read(base).account

    def _enter(self, decide: Callable[[Account], Draft | None]) -> None:
        with self._lock:
            self._prepare()
            self._take_turn(decide)

    def _prepare(self) -> None:
        """Before the first use: see that the file is there, and enter the configured ceiling."""
        if self._ready:
            return
        if self.budget is not None:
            self.create([opening(self.budget)])
        budget = self.budget
        if budget is not None:
            self._take_turn(
                lambda account: account.change_ceiling(
                    budget if self.follow else replace(budget, epsilon=account.ceiling.epsilon)
                )
            )
        self._ready = True

    def _take_turn(self, decide: Callable[[Account], Draft | None], trusting: bool = False) -> None:
        """One transaction: read what others have written, decide, write, and only then count it."""
        with self._lock, _refusing(self.path), store.turn(self.path, durable=self.durable) as base:
            books = self._read(base)
            if not trusting:
                self._recognise(base, books)
            draft = decide(books.account)
            if draft is None:
                return
            row = write(draft, books.last, self._beside.read_key())
            self._known = None  # until it is certain what the file holds
            store.append(base, row)
            base.execute("COMMIT")
            self._beside.write_mark(
                Mark(books.identity, row.sequence, row.hash, self._beside.inode()),
                sync=trusting and self.durable,
            )
            books.account.apply(draft)
            books.drafts.append(draft)
            self._known = replace(books, last=row, plans=books.plans + _plan_times([row.parse()]))

    def _read(self, base: sqlite3.Connection) -> _Books:
        """The books with what was added since the last look; the chain and the last signature are checked."""
        known = self._known
        if known is not None and store.row(base, known.last.sequence) != known.last:
            known = None  # another file, or another history: read it all
        rows = store.rows(base, known.last.sequence if known else 0)
        if known is not None and not rows:
            return known
        if not rows:
            raise ValueError("it has no entries")
        previous = known.last.hash if known else NOTHING
        drafts = list(known.drafts) if known else []
        entries = []
        for row in rows:
            entry = row.parse()
            if (
                entry.previous != previous
                or entry.sequence != row.sequence
                or row.sequence != len(drafts) + 1
            ):
                raise ValueError(f"entry {row.sequence} does not follow the one before")
            drafts.append(entry.draft)
            entries.append(entry)
            previous = row.hash
        if not rows[-1].signed_by(self._beside.read_key().public_key()):
            raise ValueError(f"entry {rows[-1].sequence} is not signed with the key beside it")
        plans = (known.plans if known else []) + _plan_times(entries)
        self._known = _Books(Account.of(drafts), drafts, rows[-1], plans)
        return self._known

    def _recognise(self, base: sqlite3.Connection, books: _Books) -> None:
        """Refuse a file that is not the one that was last written to.

        Raises:
            RefusalError: It is older than its mark, or another file.
        """
        mark = self._beside.read_mark()
        if mark is None:
            problem = "its mark is missing or damaged"
        elif mark.ledger != books.identity:
            problem = "its mark is another ledger's"
        elif mark.sequence > books.last.sequence:
            problem = f"it ends at entry {books.last.sequence}, and its mark knows of entry {mark.sequence}"
        elif mark.inode != self._beside.inode():
            problem = "it is a copy: the mark is that of another file"
        else:
            row = store.row(base, mark.sequence)
            if row is not None and row.hash == mark.hash:
                return
            problem = f"entry {mark.sequence} is another than the mark's"
        raise RefusalError(
            f"{self.path}: {problem}; ask the coordinator for its last receipt and run "
            f"'hansa client ledger reconcile'",
            reason=UNUSABLE,
        )

    def _create(self, drafts: Iterable[Draft]) -> None:
        """Build under provisional names, so that a crash leaves nothing or a whole ledger with its mark.

        The mark is drafted first and names the file's inode, which renaming keeps: a file in its place that
        has neither mark nor draft is a copy, however short.
        """
        key = Ed25519PrivateKey.generate()
        rows = write_all(drafts, self.name, key)
        provisional = self.path.with_name(self.path.name + ".new")
        store.build(provisional, rows, durable=self.durable)
        self._beside.draft_key(key)
        last, identity = rows[-1], str(rows[0].parse().body["ledger"])
        self._beside.draft_mark(Mark(identity, last.sequence, last.hash, provisional.stat().st_ino))
        provisional.replace(self.path)
        self._beside.settle()
        if self.durable:
            self._beside.sync_folder()


def _plan_times(entries: Iterable[Entry]) -> list[str]:
    return [each.time for each in entries if each.kind == "reserve" and "again" not in each.body]


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with the file into a refusal."""
    try:
        yield
    except sqlite3.OperationalError as error:
        detail = f"{path}: cannot be read or written now ({error}); nothing was charged or released"
        raise RefusalError(detail, reason=UNUSABLE) from error
    except (sqlite3.Error, ValueError, KeyError) as error:
        detail = f"{path}: damaged ({error}); see 'hansa client ledger verify'"
        raise RefusalError(detail, reason=UNUSABLE) from error
    except OSError as error:
        detail = f"{error.filename or path}: {error.strerror or error}; nothing was released"
        raise RefusalError(detail, reason=UNUSABLE) from error
