"""A small phantom, and where the developers' real data are."""

from __future__ import annotations

import os
import zipfile
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


REAL = {
    "3mm": "cptac_C3N-00247/C3N-00247_LUNG3.0_B70f_99slices.zip",
    "5mm": "lung_pet_ct_dx/A0001_5mm_64slices.zip",
    "8mm": "lung_pet_ct_dx/A0002_B70f_30slices.zip",
}


@pytest.fixture(scope="session", params=REAL)
def real_series(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one real CT series."""
    folder = tmp_path_factory.mktemp("real")
    zipfile.ZipFile(shared_data / "dicom" / REAL[request.param]).extractall(folder)
    return next(path.parent for path in sorted(folder.rglob("*.dcm")))
