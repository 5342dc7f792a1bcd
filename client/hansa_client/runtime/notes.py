"""What a shop's processes tell each other: small files in its state folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ACTIVITY = "activity.json"
"""What the executor is doing."""
CONTACT = "contact.json"
"""When the node heard from the coordinator last."""
PAUSE = "paused"
"""While it is there, the shop answers nothing."""
SECRET = "secret"
"""What node and executor know each other by; new with every start."""
LOCK = "lock"
"""Held by the supervisor while it lives; says its process."""


def write_note(path: Path, note: object) -> None:
    """Write a file of JSON, whole or not at all; nothing is lost with it."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(note), encoding="utf-8")
    draft.replace(path)


def read_note(path: Path) -> dict[str, Any]:
    """What ``write_note`` wrote; empty if nothing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
