"""The spacing of crops, from their headers."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.data.spacing import pixel_spacing, warn_of_spacing


def dataset(folder: Path, *spacings: tuple[float, float]) -> Path:
    """A dataset whose training cases' baselines have these spacings; follow-ups are not there."""
    cases = []
    for index, (x, y) in enumerate(spacings):
        image = nib.Nifti1Image(np.zeros((8, 8, 1), np.int16), np.diag([-x, -y, 2.0, 1.0]))
        nib.save(image, folder / f"{index}.nii.gz")
        crops = {"baseline": f"{index}.nii.gz", "follow_up": "none.nii.gz"}
        cases.append({"case_id": str(index), "patient_id": str(index), "ehr": {}, **crops})
    (folder / "datalist.json").write_text(json.dumps({"training": cases, "validation": [], "test": []}))
    return folder


@pytest.mark.parametrize(
    ("spacings", "shared"),
    [
        ([(0.5, 0.5), (0.5, 0.5)], 0.5),
        ([(0.5, 0.5), (0.502, 0.501)], 0.5),
        ([(0.5, 0.5), (0.7, 0.7)], None),
        ([(0.6, 0.7)], None),
        ([], None),
    ],
)
def test_only_a_spacing_that_is_shared_is_one(
    tmp_path: Path, spacings: list[tuple[float, float]], shared: float | None
) -> None:
    assert pixel_spacing(dataset(tmp_path, *spacings)) == pytest.approx(shared)


def test_crops_of_another_spacing_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset(tmp_path, (0.5, 0.5), (1.4, 1.4))
    same, other = ({"image": str(tmp_path / f"{index}.nii.gz")} for index in range(2))
    for items, pixel_mm in (([same], 0.5), ([same, other], None), ([], 0.5)):
        warn_of_spacing(items, pixel_mm)
    assert not caplog.messages
    warn_of_spacing([same, other], 0.5)
    assert "Pixels are 0.5 to 1.4 mm, but the weights were trained on crops of 0.5 mm" in caplog.text
    assert "--spacing 0.5" in caplog.text
