"""One crop of one scan is the cohort's, and what the cohort refuses is refused."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from data_prep.cohort import build
from data_prep.errors import DataError
from data_prep.images import crops
from data_prep.single import cut_single, point_of
from tests.data_prep.helpers import stack, write_series


@pytest.fixture(scope="module")
def scans(phantom):
    """The phantom's table, its images' paths from anywhere."""
    table = pd.read_csv(phantom / "cohort.csv", dtype=str)
    return table.assign(image=[str(phantom / image) for image in table["image"]])


@pytest.mark.parametrize("spacing", [None, 0.5, 0.7])
def test_it_is_the_crop_of_the_cohort(scans, tmp_path, call, spacing):
    row = scans.iloc[0]
    scans.iloc[:1].to_csv(tmp_path / "cohort.csv", index=False)
    build(tmp_path / "cohort.csv", tmp_path / "dataset", size=64, spacing=spacing, keep_ids=True)
    (theirs,) = (tmp_path / "dataset" / "crops").iterdir()
    point, options = f"{row.x},{row.y},{row.z}", ["--size", 64]
    options += [] if spacing == 0.5 else ["--spacing", spacing or "none"]
    code, shown = call("crop", row.image, "--point", point, "--out", tmp_path / "crop.nii.gz", *options)
    assert code == 0 and "64 x 64 pixels of" in shown.out and "look:" not in shown.out
    ours, expected = nib.load(tmp_path / "crop.nii.gz"), nib.load(theirs)
    assert np.array_equal(ours.dataobj, expected.dataobj) and np.array_equal(ours.affine, expected.affine)
    assert crops.description(tmp_path / "crop.nii.gz") == crops.description(theirs)


def test_points_that_show_nothing_are_told(tmp_path, call):
    """A nodule at (20, -10) mm LPS, asked for there, in RAS, and where there is none."""
    hu = np.full((121, 121, 3), -850, np.int16)
    x, y = np.meshgrid(np.arange(121) - 60, np.arange(121) - 60, indexing="ij")
    hu[np.hypot(x - 20, y + 10) < 5] = 30
    nib.save(
        nib.Nifti1Image(hu, [[-1, 0, 0, 60], [0, -1, 0, 60], [0, 0, 1, 0], [0, 0, 0, 1]]), tmp_path / "scan.nii.gz"
    )
    expected = {"20,-10,1": "", "-20,10,1": "counted to the other side", "-30,-30,1": "Nothing nodule-like lies at"}
    for point, words in expected.items():
        code, shown = call("crop", tmp_path / "scan.nii.gz", "--point", point, "--out", tmp_path / "crop.nii.gz")
        assert code == 0 and words in shown.out and ("look:" in shown.out) is bool(words)
    assert nib.load(tmp_path / "crop.nii.gz").shape == (128, 128, 1)


@pytest.mark.parametrize("text", ["1,2", "1,2,3,4", "a,b,c", "nan,1,2", "1e999,0,0", ""])
def test_what_is_no_point(scans, tmp_path, call, text):
    code, shown = call("crop", scans["image"][0], "--point", text, "--out", tmp_path / "crop.nii.gz")
    assert code == 2 and shown.err.count("\n") == 1 and "expected x,y,z" in shown.err and not list(tmp_path.iterdir())
    with pytest.raises(DataError):
        point_of(text)


def test_what_cannot_be_cut_leaves_nothing(scans, tmp_path, call, monkeypatch):
    """One line each, and no file."""
    image, out = scans["image"][0], tmp_path / "out" / "crop.nii.gz"
    mixed = tmp_path / "mixed"
    for _ in range(2):
        paths = write_series(mixed, np.full((3, 40, 40), -800), stack(3))
        [path.rename(path.with_suffix(f".{len(list(mixed.iterdir()))}.dcm")) for path in paths]
    (tmp_path / "scan.png").touch()
    faults = {
        (image, "0,0,9999", out): "nodule outside the scan",
        (tmp_path / "nowhere", "0,0,0", out): "no such file or folder",
        (tmp_path / "scan.png", "0,0,0", out): "expected one of .nii",
        (mixed, "0,0,0", out): "several series",
        (image, "0,0,0", tmp_path / "crop.png"): "expected a new file, .nii.gz",
    }
    for (series, point, target), expected in faults.items():
        code, shown = call("crop", series, "--point", point, "--out", target)
        assert code == 2 and expected in shown.err and shown.err.count("\n") == 1
        assert not target.exists()
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.full((40, 40, 3), -800, np.int16), np.diag([-1.0, -1.0, 1.0, 1.0])), scan)
    before = scan.read_bytes()
    code, shown = call("crop", scan, "--point", "20,20,1", "--out", scan)
    assert code == 2 and scan.read_bytes() == before
    monkeypatch.setattr("data_prep.single.cut", lambda *_: {}["a reader's own fault"])
    with pytest.raises(DataError, match="unforeseen error: KeyError"):
        cut_single(scan, (20.0, 20.0, 1.0))
