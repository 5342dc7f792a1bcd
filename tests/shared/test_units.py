from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from hansa.cli import main
from hansa.errors import UsageError
from hansa.units import unit_files, write_units

HOME, PROGRAM = "/var/lib/hansa", "/opt/hansa/bin/hansa"
SIDES = ["hansa_client", "hansa_server"]
NAMES = {
    "hansa_client": {
        "Containerfile", "compose.yaml", "hansa-export.service", "hansa-export.timer", "hansa-shop.service",
        "reader.sh",
    },
    "hansa_server": {"Containerfile", "compose.yaml", "hansa-coordinator.service"},
}  # fmt: skip
HARDENED = {
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "ProtectHome": "yes",
    "ProtectSystem": "strict",
    "ReadWritePaths": HOME,
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "UMask": "0077",
    "User": "hansa",
}


def _unit(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string(text)
    return parser


@pytest.mark.parametrize("side", SIDES)
def test_services_are_confined_to_their_folder(side: str) -> None:
    files = unit_files(side, HOME, PROGRAM, "hansa")
    assert set(files) == NAMES[side]
    services = {name: _unit(text) for name, text in files.items() if name.endswith(".service")}
    for name, unit in services.items():
        assert HARDENED.items() <= dict(unit["Service"]).items(), name
        assert unit["Service"]["CapabilityBoundingSet"] == "", name
        if unit["Service"]["Type"] != "oneshot":
            assert unit["Service"]["Restart"] == "on-failure"
            assert unit["Service"]["RestartSec"] == "10"
            assert unit["Unit"]["StartLimitBurst"] == "5"
    if "hansa-shop.service" in services:  # a shop that has left is not started over and over
        prevented = services["hansa-shop.service"]["Service"]["RestartPreventExitStatus"]
        assert prevented == str(UsageError.exit_code)
        assert services["hansa-shop.service"]["Service"]["MemoryMax"] == "80%"


@pytest.mark.parametrize("side", SIDES)
def test_systemd_takes_the_units(side: str, tmp_path: Path) -> None:
    verifier = shutil.which("systemd-analyze")
    if verifier is None:
        complain = pytest.fail if os.environ.get("HANSA_REQUIRE") == "1" else pytest.skip
        complain("systemd-analyze is not installed")
    # The verifier looks for the program and the user; both are there on the machine that the units are for.
    files = unit_files(side, HOME, shutil.which("true") or "/usr/bin/true", "root")
    units = [path for path in write_units(files, tmp_path) if path.suffix in {".service", ".timer"}]
    command = [str(verifier), "verify", "--man=no", *map(str, units)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or line.startswith("hansa")]
    assert (done.returncode, said) == (0, [])


def test_systemd_s_verdict_is_noticed(tmp_path: Path) -> None:
    verifier = shutil.which("systemd-analyze")
    if verifier is None:
        pytest.skip("systemd-analyze is not installed")
    (path,) = write_units({"hansa-bad.service": "[Service]\nExecStart=true\nNoSuchSwitch=yes\n"}, tmp_path)
    command = [str(verifier), "verify", "--man=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "NoSuchSwitch" in done.stderr


def test_compose_files_make_one_league() -> None:
    documents = {
        side: yaml.safe_load(unit_files(side, HOME, PROGRAM, "hansa")["compose.yaml"]) for side in SIDES
    }
    shop, league = documents["hansa_client"], documents["hansa_server"]
    assert not set(shop["services"]) & set(league["services"])
    ours = {**shop["services"], **league["services"]}
    database = ours.pop("database")
    for name, service in ours.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert "ports" not in ours["shop"], "nothing connects to a shop"
    assert "ports" not in database, "nor to its database"
    assert database["networks"] == ["books"]
    assert shop["networks"]["books"] == {"internal": True}
    assert "league" in ours["coordinator"]["networks"]
    assert "league" in ours["shop"]["networks"]
    assert "books" not in ours["coordinator"]["networks"]
    for document in documents.values():
        for service in document["services"].values():
            assert set(service.get("secrets", [])) <= set(document.get("secrets", {}))
            assert set(service["networks"]) <= set(document["networks"])
            named = [volume.split(":")[0] for volume in service.get("volumes", [])]
            assert {name for name in named if not name.startswith(".")} <= set(document["volumes"])
            assert not any("password" in str(value).lower() and "/run/" not in str(value)
                           for value in service.get("environment", {}).values())  # fmt: skip


@pytest.mark.parametrize("side", SIDES)
def test_containers_run_as_somebody_without_rights(side: str) -> None:
    lines = unit_files(side, HOME, PROGRAM, "hansa")["Containerfile"].splitlines()
    words = [line.split() for line in lines if line and line[0].isupper()]
    assert [rest[0].split(":")[0] for first, *rest in words if first == "FROM"] == ["python"]
    assert [rest for first, *rest in words if first == "USER"] == [["10001:10001"]]
    assert any("--constraint constraints.txt" in line for line in lines)
    sources = [word for first, *rest in words if first == "COPY" for word in rest[:-1]]
    root = Path(__file__).parents[2]
    assert [source for source in sources if not (root / source).exists()] == []


@pytest.mark.parametrize(
    ("home", "program", "user", "named"),
    [
        ("/home/anna/shop", PROGRAM, "hansa", "--home"),
        ("/tmp/shop", PROGRAM, "hansa", "--home"),
        ("relative", PROGRAM, "hansa", "--home"),
        ("/var/lib/two words", PROGRAM, "hansa", "--home"),
        ("/var/lib/100%", PROGRAM, "hansa", "--home"),
        (HOME, "/home/anna/.venv/bin/hansa", "hansa", "--program"),
        (HOME, PROGRAM, "anna\nUser=root", "--user"),
    ],
)
def test_what_units_cannot_take_is_refused(home: str, program: str, user: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        unit_files("hansa_client", home, program, user)


@pytest.mark.parametrize("side", ["client", "server"])
def test_command_writes_and_never_overwrites(
    side: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [side, "units", "--out", str(tmp_path / "u"), "--home", HOME, "--program", PROGRAM]
    assert main(arguments) == 0
    written = sorted((tmp_path / "u").iterdir())
    assert {path.name for path in written} == NAMES[f"hansa_{side}"]
    assert sorted(capsys.readouterr().out.split()) == sorted(map(str, written))
    assert main(arguments) == 0, "the same again changes nothing"
    written[0].write_text("mine")
    assert main(arguments) == 2
    assert written[0].read_text() == "mine"
    assert str(written[0]) in capsys.readouterr().err
