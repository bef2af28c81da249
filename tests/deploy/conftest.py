"""The developers' real series, as data preparation's tests have them; and the objects of a drawn chest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import FileDataset

from tests.data_prep.conftest import real_series, shared_data
from tests.deploy.results import write_result
from tests.deploy.scans import POINT, write_chest

__all__ = ["real_series", "shared_data"]


@dataclass(frozen=True)
class Objects:
    """DICOM objects of a result, and what they were made from."""

    series: Path
    case_dir: Path
    folder: Path
    content: dict

    def read(self, name: str) -> FileDataset:
        return pydicom.dcmread(self.folder / f"{name}.dcm")

    def slice(self) -> FileDataset:
        """The slice of the series that they refer to."""
        (uid,) = {item.ReferencedSOPInstanceUID for item in self.read("panel").SourceImageSequence}
        return next(item for path in self.series.iterdir() if (item := pydicom.dcmread(path)).SOPInstanceUID == uid)


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """Of the drawn chest, the slice of CT among them."""
    from deploy.dicom_out import open_source, write_objects

    folder = tmp_path_factory.mktemp("objects")
    series = write_chest(folder / "series")
    case_dir = write_result(folder / "out", series, POINT)
    content = write_objects(open_source(series, POINT), case_dir, folder / "dicom", "key", with_slice=True)
    return Objects(series, case_dir, folder / "dicom", content)
