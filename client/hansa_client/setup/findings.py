"""What a check of a shop's folder comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hansa_client.home import ShopHome

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """What one check came to.

    Attributes:
        name: What was checked.
        state: ``fail``: the shop cannot take part; ``warn``: worth a look.
        detail: What was found; no customer is ever named.
        fix: What to do; empty where nothing is.
    """

    name: str
    state: State
    detail: str
    fix: str = ""


Fleet = Callable[[ShopHome], bool | None]
"""Whether the coordinator takes the shop's key; None where it is not known."""
