"""No command writes over what it reads, by whatever path."""

import nibabel as nib
import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.files import one_writer, refuse_overwriting
from data_prep.nlst import study
from tests.data_prep.helpers import rows, write_table


def test_a_file_and_a_folder_that_holds_it(tmp_path):
    (tmp_path / "made").mkdir()
    source = tmp_path / "made" / "a.csv"
    source.touch()
    (tmp_path / "link").symlink_to(tmp_path / "made")
    for target in (source, tmp_path / "made", tmp_path / "link", tmp_path / "made" / ".." / "made" / "a.csv"):
        with pytest.raises(DataError, match=r"would be written over .*a\.csv, which is read. Name another --out"):
            refuse_overwriting([tmp_path / "new", target], [tmp_path / "other.csv", source])
    refuse_overwriting([tmp_path / "made" / "b.csv", tmp_path / "made" / "a"], [source, tmp_path / "made"])
    source.unlink()
    refuse_overwriting([source], [source])  # that it is not there is told by whoever reads it


def test_convert_and_cohort(tmp_path, call):
    """An annotation table; and a dataset's own folder with the table, or a crop that the table names, in it."""
    luna16, dataset = tmp_path / "a.csv", tmp_path / "dataset"
    luna16.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2,1,2,3,4\n")
    (dataset / "crops").mkdir(parents=True)
    nib.save(
        nib.Nifti1Image(np.zeros((8, 8, 1), np.int16), np.diag([-1.0, -1.0, 1.0, 1.0])), dataset / "crops/a.nii.gz"
    )
    (dataset / "datalist.json").write_text("{}")
    inside = write_table(dataset, [rows(image="crops/a.nii.gz")])
    outside = write_table(tmp_path, [rows(image="dataset/crops/a.nii.gz")])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for arguments in (
        ("convert", "luna16", luna16, "--out", luna16),
        ("cohort", inside, "--out", dataset),
        ("cohort", outside, "--out", dataset),
    ):
        code, shown = call(*arguments)
        assert code == 2 and "would be written over" in shown.err and shown.err.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("role", ["coordinates", "tables", "beside", "index"])
def test_nlst(tmp_path, role):
    for name in study.WRITTEN:
        (tmp_path / name).write_text("mine")
        options = {"coordinates": tmp_path / "own.csv", "tables": {}} | {
            role: {"tables": {"canc": tmp_path / name}, "beside": [tmp_path / name]}.get(role, tmp_path / name)
        }
        with pytest.raises(DataError, match="would be written over"):
            study.make(tmp_path, study.Options(**options))
        assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("there", [False, True])
def test_one_writer_at_a_time(tmp_path, there):
    """By whatever path; its file is gone at the end, also of a run that fails."""
    target, same = tmp_path / "made" / "dataset", tmp_path / "made" / ".." / "made" / "dataset"
    if there:
        target.mkdir(parents=True)
    for error in (None, KeyboardInterrupt):
        try:
            with one_writer(target):
                with pytest.raises(DataError, match="another run is writing it"), one_writer(same):
                    pytest.fail("two at once")
                with one_writer(tmp_path / "made" / "other"):
                    assert sorted(path.name for path in target.parent.glob(".*")) == [".lock-dataset", ".lock-other"]
                if error:
                    raise error
        except KeyboardInterrupt:
            assert error
        assert [path.name for path in target.parent.iterdir()] == ["dataset"] * there
