"""Reading predictions back: the values, the order, and what is said when something is amiss."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.evaluation import PredictionError, read_predictions


def write(folder: Path, case_id: str, hu: np.ndarray) -> None:
    (folder / case_id).mkdir()
    nib.save(nib.Nifti1Image(hu, np.diag([-0.5, -0.5, 1, 1])), folder / case_id / "samples.nii.gz")


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_values_order_and_window(tmp_path, dtype):
    hu = {name: np.zeros((64, 64, 1, 3), dtype) for name in ("a", "b")}
    hu["a"][5, 9, 0] = [-1000, 400, -300]
    hu["b"][:] = 3000
    for name, values in hu.items():
        write(tmp_path, name, values)
    images = read_predictions(tmp_path, ["b", "a"])
    assert images.shape == (3, 2, 1, 64, 64) and images.dtype == np.float32
    np.testing.assert_allclose(images[:, 1, 0, 5, 9], [-1, 1, 0], atol=1e-6)
    assert (images[:, 0] == 1).all()


@pytest.mark.parametrize("shape", [(64, 64, 1), (64, 64, 1, 1)])
def test_a_single_run(tmp_path, shape):
    write(tmp_path, "a", np.zeros(shape, np.int16))
    assert read_predictions(tmp_path, ["a"]).shape == (1, 1, 1, 64, 64)


def test_missing_cases_are_named(tmp_path):
    write(tmp_path, "a", np.zeros((8, 8, 1, 2), np.int16))
    with pytest.raises(PredictionError, match=r"for 7 of 8 cases: b0, b1, b2, b3, b4 and 2 more.*Run inference"):
        read_predictions(tmp_path, ["a", *(f"b{index}" for index in range(7))])
    with pytest.raises(PredictionError, match="no case ids"):
        read_predictions(tmp_path, [])


def test_runs_must_agree(tmp_path):
    write(tmp_path, "a", np.zeros((8, 8, 1, 2), np.int16))
    write(tmp_path, "b", np.zeros((8, 8, 1, 3), np.int16))
    with pytest.raises(PredictionError, match=r"a has \(2, 8, 8\), but not b \(3, 8, 8\)"):
        read_predictions(tmp_path, ["a", "b"])


def test_damaged_files_are_named(tmp_path):
    write(tmp_path, "a", np.zeros((8, 8, 2, 2), np.int16))
    with pytest.raises(PredictionError, match=r"a/samples.nii.gz has shape \(8, 8, 2, 2\); expected"):
        read_predictions(tmp_path, ["a"])
    write(tmp_path, "b", np.full((8, 8, 1, 2), np.nan, np.float32))
    with pytest.raises(PredictionError, match="not finite"):
        read_predictions(tmp_path, ["b"])
    whole = (tmp_path / "b" / "samples.nii.gz").read_bytes()
    for name, content in (("c", b"not NIfTI"), ("d", whole[: len(whole) // 2])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "samples.nii.gz").write_bytes(content)
        with pytest.raises(PredictionError, match="cannot be read"):
            read_predictions(tmp_path, [name])
