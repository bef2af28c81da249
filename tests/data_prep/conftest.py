"""A small phantom, the command line in this process, and where the developers' real data are."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from matplotlib.figure import Figure


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    """The datasheet's figure takes longer than all else of a small dataset, so that only its own tests draw it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.datasheet._draw", lambda *_: Figure((1, 1)))
        yield


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of 10 patients."""
    from data_prep.phantom.cohort import make

    folder = tmp_path_factory.mktemp("phantom") / "phantom"
    make(folder, patients=10, seed=5)
    return folder


@pytest.fixture(scope="session")
def trial(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom as NLST is: a tracking table in voxels, an index of series, and folders by series UID."""
    from data_prep.nlst.series import SERIES

    folder = tmp_path_factory.mktemp("trial")
    positions = pd.read_csv(phantom / "tables" / "positions.csv")
    tracked: list[dict[str, object]] = []
    index: dict[str, dict[str, object]] = {}
    for row in positions.itertuples():
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in (phantom / row.image).iterdir()]
        headers.sort(key=lambda header: header.ImagePositionPatient[2])
        first, uid = headers[0], headers[0].SeriesInstanceUID
        step = first.SpacingBetweenSlices
        corner = np.array(first.ImagePositionPatient)
        voxel = np.rint((np.array([row.x, row.y, row.z]) - corner) / [*first.PixelSpacing[::-1], step]).astype(int)
        last = uid.rsplit(".", 1)[1]
        tracked.append(
            {
                "pid": str(row.pid),
                "nodule_group": row.nodule_id,
                "exam_idx": row.study_yr,
                "exam": f"{row.pid}{row.study_yr}{last[:5]}{last[-5:]}",
                "abnid_in_nlst": np.array([row.sct_ab_num]),
                "volume": 100.0,
                "center_i": voxel[1],
                "center_j": voxel[0],
                "center_k": voxel[2],
            }
        )
        index[uid] = {
            **dict.fromkeys(SERIES.values(), "x"),
            "collection_id": "nlst",
            "Modality": "CT",
            "PatientID": str(row.pid),
            "SeriesInstanceUID": uid,
            "instanceCount": len(headers),
            "series_size_MB": 1.5,
            "series_aws_url": f"s3://idc-open-data/{len(index)}/*",
        }
        if not (folder / "dicom" / uid).exists():
            shutil.copytree(phantom / row.image, folder / "dicom" / uid)
    pd.DataFrame(tracked).to_parquet(folder / "tracking.parquet")
    pd.DataFrame(index.values()).to_parquet(folder / "index.parquet")
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


Call = Callable[..., tuple[int, Any]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """``python -m data_prep ...`` in this process: the exit status, and what was printed."""
    from data_prep import cli

    def run(*arguments: object) -> tuple[int, Any]:
        monkeypatch.setattr(sys, "argv", ["data_prep", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), capsys.readouterr()

    return run
