"""The house: what is packaged, what the bundle carries, and the rules that no linter checks."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from itertools import chain
from pathlib import Path

import pytest

from hansa import __version__

ROOT = Path(__file__).parents[1]
PACKAGES = {
    name: ROOT / folder / name
    for folder, name in [
        ("shared", "hansa"),
        ("client", "hansa_client"),
        ("server", "hansa_server"),
        ("simulations", "hansa_simulations"),
    ]
}
MODULES = sorted(module for folder in PACKAGES.values() for module in folder.rglob("*.py"))
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {".ci", "benchmarks", "client", "docs", "server", "shared", "simulations", "tests"}
FILES = {
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
}
MAX_LINES = 450


def _files() -> list[Path]:
    """What belongs to the repository: everything that git tracks or would add."""
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def _run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command outside the tree and return what it printed; its output is shown when it fails."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environ, text=True, timeout=300, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the hatchling at hand so that no network is needed."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    _run(sys.executable, *build, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_contains_exactly_the_four_packages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {*PACKAGES, f"hansa-{__version__}.dist-info"}
    assert {f"{name}/py.typed" for name in PACKAGES} <= names
    for folder in PACKAGES.values():
        assert {str(module.relative_to(folder.parent)) for module in folder.rglob("*.py")} <= names
        assert {str(path.relative_to(folder.parent)) for path in folder.rglob("templates/**/*.j2")} <= names
    for template in ("hansa_client/templates/units/hansa-shop.service.j2", "hansa/templates/hardening.j2"):
        assert template in names
    assert f"hansa-{__version__}.dist-info/licenses/LICENSE" in names


def test_wheel_works_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """Dependencies come from this environment through a .pth file: quick, offline, and still a real install.

    ``--system-site-packages`` would not do, since it shows the base interpreter's packages and not those
    of a virtual environment; the editable hansa here stays hidden behind the installed one.
    """
    fresh = tmp_path / "fresh"
    venv.create(fresh, with_pip=False, symlinks=True)
    python = fresh / "bin" / "python"
    purelib = Path(
        _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    )
    (purelib / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    _run(python, "-m", "pip", "install", "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=tmp_path)

    assert _run(fresh / "bin" / "hansa", "--version", cwd=tmp_path) == f"hansa {__version__}\n"
    for name in PACKAGES:
        where = _run(python, "-c", f"import {name}; print({name}.__file__)", cwd=tmp_path).strip()
        assert Path(where).parent == purelib / name


def test_flower_bundle_carries_configuration_only(tmp_path: Path) -> None:
    app = tmp_path / "hansa"  # a copy: the bundle is written into the current folder
    for name in ["pyproject.toml", "README.md", "LICENSE", ".gitignore"]:
        app.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, app / name)
    for folder in PACKAGES.values():
        shutil.copytree(folder, app / folder.relative_to(ROOT))
    flwr = Path(sys.executable).with_name("flwr")
    _run(flwr, "build", "--app", app, cwd=tmp_path, FLWR_HOME=str(tmp_path / "flwr"))
    (bundle,) = tmp_path.glob("*.fab")
    assert set(zipfile.ZipFile(bundle).namelist()) == {"pyproject.toml", "README.md", ".info/CONTENT"}


def test_top_level_holds_nothing_else() -> None:
    parts = [path.relative_to(ROOT).parts for path in _files()]
    assert {first for first, *rest in parts if rest} <= FOLDERS
    assert {first for first, *rest in parts if not rest} <= FILES


def test_nothing_names_a_registry_or_a_machine() -> None:
    hosts = [
        "pypi.org",
        "pythonhosted.org",
        "download.pytorch.org",
        "anaconda.org",
        "npmjs.org",
        "ghcr.io",
        "docker.io",
    ]
    machine = re.compile(r"(?<![\w./}])/(?:work|root)/")
    this = Path(__file__)
    for path in _files():
        if path == this or path.suffix in {".png", ".safetensors"}:
            continue
        text = path.read_text(encoding="utf-8")
        assert [host for host in hosts if host in text] == [], path
        assert machine.findall(text) == [], path


def test_constraints_pin_every_dependency() -> None:
    pins = re.findall(r"^([\w.-]+)==[\w.]+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    pinned = {_normal(name) for name in pins}
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(pins) == len(lines), "every line is `name==version`, without local suffix or address"
    project = CONFIGURATION["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {_normal(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in wanted}
    assert names <= pinned


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_version_is_stated_once() -> None:
    assert CONFIGURATION["project"]["version"] == __version__, "install again: `make test` does"


def test_changelog_keeps_its_form() -> None:
    """https://keepachangelog.com/en/1.1.0/."""
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    headings = [line for line in lines if line.startswith("#")]
    assert headings[:2] == ["# Changelog", "## [Unreleased]"]
    version = re.compile(r"## \[(Unreleased|\d+\.\d+\.\d+)\]( - \d{4}-\d{2}-\d{2})?")
    section = re.compile(r"### (Added|Changed|Deprecated|Removed|Fixed|Security)")
    for heading in headings[1:]:
        assert version.fullmatch(heading) or section.fullmatch(heading), heading


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_has_a_docstring_and_one_idea(module: Path) -> None:
    source = module.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)), "a module says what it is for"
    assert len(source.splitlines()) <= MAX_LINES, "split it"
