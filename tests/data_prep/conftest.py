"""A small phantom, and where the developers' real data are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of 10 patients."""
    from data_prep.phantom.cohort import make

    folder = tmp_path_factory.mktemp("phantom") / "phantom"
    make(folder, patients=10, seed=5)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data of the developers; absent on a user's machine."""
    folder = Path(os.environ.get("NAMD_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no shared data (set NAMD_SHARED_DATA)")
    return folder
