"""Nothing phones home: the switches are set before Flower can read them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from hansa.quiet import SWITCHES, no_phone_home

LOOK = """
import json, os, sys
import {package}
assert "flwr" not in sys.modules and "ray" not in sys.modules
print(json.dumps({{name: os.environ.get(name) for name in {names}}}))
"""


@pytest.mark.parametrize(
    "package", ["hansa", "hansa.cli", "hansa_client", "hansa_server", "hansa_simulations"]
)
def test_importing_a_package_sets_the_switches_before_flower_is_imported(package: str) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    look = LOOK.format(package=package, names=list(SWITCHES))
    out = subprocess.run([sys.executable, "-c", look], env=environ, capture_output=True, check=True).stdout
    assert json.loads(out) == SWITCHES


def test_flower_is_silent() -> None:
    look = "import hansa, flwr.supercore.telemetry as t; print(t.FLWR_TELEMETRY_ENABLED)"
    environ = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    done = subprocess.run(
        [sys.executable, "-c", look], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0"


def test_the_choice_of_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    no_phone_home()
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "1"
