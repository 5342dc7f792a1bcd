"""What tests in several folders share."""

import os
from pathlib import Path

import pytest
import torch

# Small matrices: threads inside each of them would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def hansa_data() -> Path:
    """The folder of benchmark data sets; unset, a test skips; set wrongly, it fails if HANSA_REQUIRE=1."""
    value = os.environ.get("HANSA_DATA")
    if value is None:
        pytest.skip("HANSA_DATA is not set")
    folder = Path(value)
    if not folder.is_dir():
        complain = pytest.fail if os.environ.get("HANSA_REQUIRE") == "1" else pytest.skip
        complain(f"HANSA_DATA: no folder {folder}")
    return folder
