"""Ledgers in trouble, for test_trouble.py: each case in a process of its own, forked from one that is ready.

Prints one JSON document: what each case had to say.
"""

from __future__ import annotations

import fcntl  # noqa: F401 (imported here since the other user of READ_ONLY may not read this Python)
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hansa.dp.accounting import gaussian
from hansa.dp.ledger import Budget
from hansa.dp.ledger.check import read_file
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import RefusalError

NOBODY = 65534
CROWD = 3
LIMIT = 40_000
EVENT = gaussian(20.0)


def start(case: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """Run a case in a process of its own; the answer waits for what it returns."""
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = case(*arguments)
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        with os.fdopen(said, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(said)

    def finish() -> Any:
        with os.fdopen(heard) as pipe:
            text = pipe.read()
        os.waitpid(child, 0)
        return json.loads(text)

    return finish


def crowd(path: Path) -> int:
    """Reserve plan after plan until one is refused; how many were accepted."""
    ledger, number = LedgerFile(path, Budget(3.0, 1e-5)), 0
    while True:
        try:
            ledger.reserve(f"{os.getpid()}-{number}", (EVENT,))
        except RefusalError as refusal:
            return number if "would come to" in str(refusal) else -1
        number += 1


def full_disk(path: Path) -> dict[str, Any]:
    """Charge until files cannot grow, a few times more, and again when there is room.

    A limit on the size of files: writing beyond it fails like on a full disk, in the middle of whatever is
    being written: first the ledger's own file, while the log still grows, then the log.
    """
    ledger = LedgerFile(path, Budget(10.0, 1e-5))
    ledger.reserve("run", (EVENT,) * 500)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
    accepted, refusals = 0, []
    while len(refusals) < 5:
        try:
            ledger.charge("run", EVENT)
            accepted += 1
        except RefusalError as refusal:
            refusals.append([str(refusal), refusal.reason])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ledger.charge("run", EVENT)
    return {"accepted": accepted + 1, "refusals": refusals}


def read_only(path: Path, protected: str) -> list[str]:
    """Try to spend from a ledger that another user, or root no more, cannot write to."""
    spender = LedgerFile(path, Budget(10.0, 1e-5))
    spender.reserve("run", (EVENT,) * 3)
    if os.geteuid() == 0:  # everything can be written by root, who steps down
        for file in [*path.parent.iterdir(), path.parent]:
            os.chown(file, NOBODY, NOBODY)
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    if protected == "key":
        path.with_suffix(".key").chmod(0)
    else:
        path.chmod(0o400)
        path.parent.chmod(0o500 if protected == "folder" else 0o700)
    said = []
    acts = (lambda one: one.charge("run", EVENT), lambda one: one.reserve("other", (EVENT,)))
    for ledger in (spender, LedgerFile(path, Budget(10.0, 1e-5))):
        for act in acts:
            try:
                said.append(f"accepted {act(ledger)}")
            except RefusalError as refusal:
                said.append(str(refusal))
    if protected != "key":  # it can still be looked at
        rows, findings = read_file(path)
        said.append(f"{len(rows)} rows, {len(findings)} findings, {len(LedgerFile(path).entries())} entries")
    return said


def main(folder: Path) -> dict[str, Any]:
    """All cases."""
    folder.chmod(0o711)
    started = {f"crowd {number}": start(crowd, folder / "crowd.sqlite") for number in range(CROWD)}
    started["full disk"] = start(full_disk, folder / "full.sqlite")
    for protected in ("file", "folder", "key"):
        room = folder / protected
        room.mkdir()
        started[protected] = start(read_only, room / "shop.sqlite", protected)
    return {name: finish() for name, finish in started.items()}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
