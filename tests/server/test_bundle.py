import hashlib
import io
import tomllib
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_files
from flwr.cli.install import install_from_fab
from flwr.common.config import fuse_dicts, get_fab_config, validate_config

from hansa_server.bundle import PROJECT, build_bundle, bundle_hash


def _files(bundle: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_two_builds_are_the_same_bytes() -> None:
    assert build_bundle() == build_bundle()
    assert bundle_hash(build_bundle()) == hashlib.sha256(build_bundle()).hexdigest()


def test_it_carries_configuration_only() -> None:
    assert set(_files(build_bundle())) == {PROJECT, ".info/CONTENT"}


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # of Flower's own build
def test_flower_takes_it_and_would_pack_the_same_files(tmp_path: Path) -> None:
    bundle = build_bundle()
    project = _files(bundle)[PROJECT]
    valid, errors, _ = validate_config(tomllib.loads(project.decode()), check_module=True)
    assert valid, errors
    theirs, _ = build_fab_from_files({PROJECT: project})
    assert set(_files(theirs)) == set(_files(bundle))
    installed = install_from_fab(bundle, tmp_path, skip_prompt=True)  # checks the hashes in .info/CONTENT
    assert (installed / PROJECT).read_bytes() == project


def test_a_run_may_set_the_keys_of_a_league_and_no_other() -> None:
    config = get_fab_config(build_bundle())["tool"]["flwr"]["app"]["config"]
    assert set(config) == {"plan", "hansa-roster", "model", "round-timeout"}
    assert not any(config[name] for name in ("plan", "hansa-roster", "model"))
    assert fuse_dicts(config, {"plan": "{}"})["plan"] == "{}"
