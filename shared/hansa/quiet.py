"""No library that Hansa runs on phones home, unless its user asks for it."""

from __future__ import annotations

import os

SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def no_phone_home() -> None:
    """Switch off telemetry, update checks and downloads of the libraries below, here and in child processes.

    Flower reads its switches when it is first imported, so every package of Hansa calls this in its
    ``__init__``. A value that the environment already has is kept.
    """
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
