import hashlib
import json
from datetime import date

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest

from data_prep.cohort import build
from data_prep.errors import DataError
from data_prep.images.dicom import open_series
from data_prep.phantom.cohort import make
from data_prep.phantom.patients import draw_patients
from scripts.data.datalist import load_datalist, pairs


def fingerprint(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_same_bytes(tmp_path, call):
    """In one process or in two."""
    make(tmp_path / "a", patients=2, seed=1)
    code, _ = call("phantom", tmp_path / "b", "--patients", 2, "--seed", 1, "--workers", 2)
    make(tmp_path / "c", patients=1, seed=2)
    assert code == 0 and fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    images = [{digest for name, digest in fingerprint(tmp_path / each).items() if "dicom" in name} for each in "ac"]
    assert len(images[0]) > 20 and not images[0] & images[1]


def test_everything_says_that_it_is_simulated(phantom):
    for path in phantom.glob("tables/*.csv"):
        assert pd.read_csv(path)["dataset_version"].str.contains("SIMULATED").all(), path.name
    assert pd.read_csv(phantom / "cohort.csv")["simulated"].str.contains("Simulated").all()
    assert "SIMULATED" in (phantom / "README.txt").read_text()
    item = pydicom.dcmread(next(phantom.rglob("*.dcm")))
    assert "SIMULATED" in item.ImageComments and "SIMULATED" in item.SeriesDescription
    assert str(item.PatientName).startswith("PHANTOM^") and item.ImageType[0] == "DERIVED"


def test_series_are_valid_ct(phantom):
    uids = set()
    folders = sorted({path.parent for path in phantom.rglob("*.dcm")})
    for folder in folders:
        series = open_series(folder)
        assert 7 <= len(series.paths) <= 11
        assert [path.name for path in series.paths] != sorted(path.name for path in series.paths)
        for path in series.paths:
            item = pydicom.dcmread(path)
            assert item.SOPInstanceUID.is_valid and item.file_meta.MediaStorageSOPInstanceUID == item.SOPInstanceUID
            assert item.FrameOfReferenceUID.is_valid and item.RescaleIntercept == -1024
            uids.add(item.SOPInstanceUID)
    assert len(uids) == len(list(phantom.rglob("*.dcm")))


def test_nodules_are_where_the_table_says(phantom):
    """Solid nodules: soft tissue in the middle, as bright as nothing in the lung about it but vessels and wall."""
    table = pd.read_csv(phantom / "cohort.csv")
    for row in table[(table.sct_pre_att == 1) & (table.sct_long_dia >= 7)].itertuples():
        series = open_series(phantom / row.image)
        image = series.read_slice(series.nearest_slice((row.x, row.y, row.z)))
        voxel = np.linalg.inv(image.affine) @ [-row.x, -row.y, row.z, 1.0]
        column, line = np.rint(voxel[:2]).astype(int)
        middle = np.asarray(image.dataobj)[column - 1 : column + 2, line - 1 : line + 2]
        assert -60 < middle.mean() < 120, row.image


def test_cohort_has_the_outcomes_and_sizes_that_it_should():
    people = draw_patients(300, seed=0)
    nodules = [nodule for person in people for nodule in person.nodules]
    share = np.mean([nodule.malignant for nodule in nodules])
    assert share == pytest.approx(0.28, abs=0.005)
    assert 1 < len(nodules) / len(people) < 1.25
    assert all(4 <= nodule.diameters[0] <= 30 and nodule.diameters[0] >= nodule.diameters[1] for nodule in nodules)
    assert {nodule.attenuation for nodule in nodules} == {nodule.margins for nodule in nodules} == {1, 2, 3}
    large = [nodule.malignant for nodule in nodules if nodule.diameters[0] > 14]
    small = [nodule.malignant for nodule in nodules if nodule.diameters[0] < 7]
    assert np.mean(large) > 2 * np.mean(small)


def test_from_phantom_to_the_bundle(phantom, tmp_path):
    """The whole way, to what the bundle reads."""
    summary = build(phantom / "cohort.csv", tmp_path / "dataset", name="phantom")
    datalist = load_datalist(tmp_path / "dataset")
    assert datalist["name"] == "phantom" and "no patient" in datalist["simulated"]
    cases = datalist["training"] + datalist["validation"] + datalist["test"]
    assert len(cases) == summary.entries["training"] + summary.entries["validation"] + summary.entries["test"] > 5
    assert all(300 < case["interval_days"] < 430 and case["malignant"] in (0, 1) for case in cases)
    assert pairs(tmp_path / "dataset", "training")[0]["report"]
    crop = nib.load(tmp_path / "dataset" / cases[0]["baseline"])
    assert crop.shape == (128, 128, 1) and crop.get_data_dtype() == np.int16
    written = json.dumps(datalist)
    assert str(tmp_path) not in written and str(phantom) not in written


def test_folders_of_others_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="is no phantom"):
        make(tmp_path, patients=1)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_follow_ups_at_any_time_of_three_years_make_pairs(tmp_path, call):
    code, _ = call("phantom", tmp_path / "phantom", "--patients", 4, "--seed", 7, "--months", "3-36")
    assert code == 0
    table = pd.read_csv(tmp_path / "phantom" / "cohort.csv")
    assert "study_yr" not in table and "3-36 months" in (tmp_path / "phantom" / "README.txt").read_text()
    build(tmp_path / "phantom" / "cohort.csv", tmp_path / "dataset", keep_ids=True)
    datalist = load_datalist(tmp_path / "dataset")
    cases = datalist["training"] + datalist["validation"] + datalist["test"]
    days = {case["patient_id"]: case["interval_days"] for case in cases}
    assert days == {str(each.pid): each.days for each in draw_patients(4, 7, (3.0, 36.0)) if str(each.pid) in days}
    assert len(days) > 3 and min(days.values()) < 300 and max(days.values()) > 600
    told = {item["case_id"]: item["report"] for item in pairs(tmp_path / "dataset", "training")}
    for case in datalist["training"]:
        assert told[case["case_id"]].endswith(f"Follow-up after {round(case['interval_days'] / 30.4375)} months.")
    items = [pydicom.dcmread(next((tmp_path / "phantom" / row.image).iterdir())) for row in table.itertuples()]
    dates = [(date.fromisoformat(item.StudyDate) - date(2000, 1, 1)).days for item in items]
    assert dates == table["days_from_baseline"].tolist()


def test_intervals_are_drawn_evenly_and_growth_goes_by_them():
    people = [person for person in draw_patients(600, 0, (3.0, 36.0)) if person.days]
    days = np.array([person.days for person in people])
    assert 91 <= days.min() < 130 and 1060 < days.max() <= 1096
    assert np.quantile(days, [0.25, 0.5, 0.75]) == pytest.approx([342, 593, 845], abs=45)
    grown = [(person.days, nodule.growth) for person in people for nodule in person.nodules if nodule.malignant]
    short, long = ([factor for after, factor in grown if low < after <= high] for low, high in ((0, 365), (730, 1096)))
    assert np.median(short) < 1.25 < 1.5 < np.median(long)
    assert [person.nodules[0].diameters for person in draw_patients(9, 0)] == [
        person.nodules[0].diameters for person in draw_patients(9, 0, (3.0, 36.0))
    ], "people are the same whenever they come again"


@pytest.mark.parametrize("months", ["2", "3-37", "12-6", "a year", "3-6-9", ""])
def test_other_months_are_refused_before_any_work(tmp_path, call, months):
    code, shown = call("phantom", tmp_path / "phantom", "--months", months)
    assert code == 2 and f"--months {months}: expected months to the follow-up, 3 to 36" in " ".join(shown.err.split())
    assert not (tmp_path / "phantom").exists()
