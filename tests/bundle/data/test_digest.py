"""A dataset is known again by its datalist and its crops."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.data.datalist import DatalistError
from scripts.data.digest import digest_case, digest_crop, digest_dataset


@pytest.fixture
def changed(tiny_dataset: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], Any]], Path]:
    """A copy of the dataset, its datalist changed by a function."""

    def make(change: Callable[[dict[str, Any]], Any]) -> Path:
        folder = tmp_path / "copy"
        shutil.copytree(tiny_dataset, folder)
        datalist = json.loads((folder / "datalist.json").read_text())
        change(datalist)
        (folder / "datalist.json").write_text(json.dumps(datalist, indent=3))
        return folder

    return make


def test_a_copy_is_the_same_dataset(tiny_dataset: Path, changed: Any) -> None:
    """Also where the datalist is indented otherwise and its keys are in another order."""
    copy = changed(lambda datalist: datalist.update(name=datalist.pop("name")))
    assert (copy / "datalist.json").read_bytes() != (tiny_dataset / "datalist.json").read_bytes()
    assert digest_dataset(copy) == digest_dataset(tiny_dataset)


def test_the_truth_that_no_model_reads_makes_no_other_dataset(tiny_dataset: Path, changed: Any) -> None:
    copy = changed(lambda datalist: datalist["test"][0].update(truth={"oracle": 0.3}))
    assert digest_dataset(copy) == digest_dataset(tiny_dataset)


@pytest.mark.parametrize("change", ["outcome", "record", "order", "test crop", "unpaired crop"])
def test_another_case_is_another_dataset(tiny_dataset: Path, changed: Any, change: str) -> None:
    def change_datalist(datalist: dict[str, Any]) -> None:
        case = datalist["training"][0]
        if change == "outcome":
            case["malignant"] = 1 - case["malignant"]
        elif change == "record":
            case["ehr"]["age"] += 1
        elif change == "order":
            datalist["training"].reverse()

    copy = changed(change_datalist)
    crop = {"test crop": "11_t1.nii.gz", "unpaired crop": "u.nii.gz"}.get(change)
    if crop:
        shutil.copy(copy / "0_t0.nii.gz", copy / crop)
    assert digest_dataset(copy) != digest_dataset(tiny_dataset)


def test_a_crop_that_is_gone_is_named(changed: Any) -> None:
    copy = changed(lambda datalist: None)
    (copy / "7_t1.nii.gz").unlink()
    with pytest.raises(
        DatalistError, match=r"copy/7_t1.nii.gz: .*datalist.json names this crop, but it cannot be read"
    ):
        digest_dataset(copy)


def test_a_case_is_its_crop_and_its_report(tiny_dataset: Path) -> None:
    first, second = tiny_dataset / "0_t0.nii.gz", tiny_dataset / "1_t0.nii.gz"
    assert len({digest_case(first, "a"), digest_case(first, "b"), digest_case(second, "a")}) == 3


def test_a_crop_is_its_pixels_whatever_its_name_and_header(tiny_dataset: Path, tmp_path: Path) -> None:
    """Those of the central square, in the window; one pixel more there is another crop."""
    image = nib.load(tiny_dataset / "0_t0.nii.gz")
    hu = np.asanyarray(image.dataobj).astype(np.float32)

    def digest(pixels: np.ndarray, mm: float = 1.0) -> str:
        nib.save(nib.Nifti1Image(pixels, np.diag([mm, mm, 1, 1])), tmp_path / "crop.nii")
        return digest_crop(tmp_path / "crop.nii", 32)

    first = digest_crop(tiny_dataset / "0_t0.nii.gz", 32)
    assert len(first) == 32 and digest(hu) == digest(hu, 2.0) == digest(hu.astype(np.int16)) == first
    assert digest(hu[48:80, 48:80]) == first, "as if it had been cut to size"
    outside, window, inside = hu.copy(), hu.copy(), hu.copy()
    outside[0, 0] += 1
    inside[64, 64] += 1
    assert digest(outside) == first != digest(inside)
    window[64, 64] = 3000
    inside[64, 64] = 400
    assert digest(window) == digest(inside), "above the window all is one"
    assert digest_crop(tiny_dataset / "0_t1.nii.gz", 32) != first
