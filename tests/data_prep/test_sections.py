"""Which section a timepoint comes into: pairs, what is unpaired, and baselines that have no follow-up."""

import json
from collections import Counter

import nibabel as nib
import numpy as np
import pytest

from data_prep.cohort import build
from data_prep.contract import read_cohort
from data_prep.errors import DataError
from data_prep.sections import assigned_sections, shares_of
from tests.data_prep.helpers import rows, write_table


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in "abcdef":
        pixels = rng.integers(-1000, 300, (50, 44, 1)).astype(np.int16)
        nib.save(nib.Nifti1Image(pixels, np.diag([-0.5, -0.5, 1.0, 1.0])), folder / f"{name}.nii.gz")
    return folder


def patients(*names, **columns):
    """A row each, with an image each."""
    return [
        rows(patient_id=name, image=f"{image}.nii.gz", **columns) for name, image in zip(names, "abcdef", strict=False)
    ]


def cases(dataset, section):
    return [case["case_id"] for case in json.loads((dataset / "datalist.json").read_text())[section]]


def test_patients_with_one_scan_each_are_all_to_be_forecast(images, tmp_path, call):
    """None is dropped at random, however many they are."""
    table = write_table(images, patients("P", "Q", "R"))
    code, shown = call("cohort", table, "--out", tmp_path / "out", "--keep-ids", "--size", 32)
    assert code == 0 and "predict 3." in shown.out and "all are in predict" in shown.out and "Left out" not in shown.out
    assert cases(tmp_path / "out", "predict") == ["P_1_T0", "Q_1_T0", "R_1_T0"]
    entry = json.loads((tmp_path / "out" / "datalist.json").read_text())["predict"][0]
    assert entry["baseline"] == "crops/P_1_T0.nii.gz" and len(entry["ehr"]) == 13
    assert set(entry) == {"case_id", "patient_id", "nodule_id", "baseline", "ehr"}
    assert "| predict | 3 | 3 |" in (tmp_path / "out" / "datasheet.md").read_text()
    assert set(assigned_sections(read_cohort(write_table(images, patients("P"))))) == {"predict"}


def test_what_a_table_says_of_sections_counts(images, tmp_path):
    table = [*patients("P", "Q", split="training"), *patients("R", "S", "T", study_yr=2)[2:]]
    summary = build(write_table(images, table), tmp_path / "out", size=32, keep_ids=True)
    assert summary.entries == Counter(unpaired=2, predict=1) | dict.fromkeys(["training", "validation", "test"], 0)
    assert cases(tmp_path / "out", "predict") == ["T_1_T2"]


def mixed():
    """A pair of training, a single one each of training and test, three times of a patient to be forecast."""
    pair = [
        rows(patient_id="A", image="a.nii.gz", split="training"),
        rows(patient_id="A", study_yr=1, split="training"),
    ]
    singles = [
        rows(patient_id=name, image="b.nii.gz", split=split) for name, split in (("B", "training"), ("C", "test"))
    ]
    times = [
        rows(patient_id="D", study_yr=year, image=f"{name}.nii.gz", split="predict") for year, name in enumerate("cde")
    ]
    apart = [rows(patient_id="E", study_yr=year, image="f.nii.gz", split="test") for year in (0, 2)]
    return [*pair, *singles, *times, *apart]


@pytest.mark.parametrize("predict", [False, True])
def test_the_last_time_of_each_nodule_is_forecast_from(images, tmp_path, call, predict):
    options = ["--predict"] * predict
    code, shown = call(
        "cohort", write_table(images, mixed()), "--out", tmp_path / "out", "--keep-ids", "--size", 32, *options
    )
    assert code == 0 and cases(tmp_path / "out", "training") == ["A_1_T0-T1"]
    assert cases(tmp_path / "out", "unpaired") == ["B_1_T0"]
    assert cases(tmp_path / "out", "predict") == (["C_1_T0", "D_1_T2", "E_1_T2"] if predict else ["D_1_T2"])
    assert "Left out: 2 timepoints of predict that a later one follows." in shown.out
    left = 1 if predict else 3
    assert f"Left out: {left} single timepoints of validation and test patients" in shown.out
    assert ("with --predict" in shown.out) is not predict


def test_a_last_time_that_cannot_be_read_is_not_replaced_by_an_earlier_one(images, tmp_path):
    (tmp_path / "broken.nii.gz").write_bytes(b"broken")
    table = mixed()
    table[6]["image"] = str(tmp_path / "broken.nii.gz")
    summary = build(write_table(images, table), tmp_path / "out", size=32, keep_ids=True)
    assert summary.entries["predict"] == 0 and summary.faults == {"unreadable NIfTI": 1} and summary.earlier == 2


def test_nothing_to_take_is_said_before_anything_is_cut(images, tmp_path):
    table = write_table(images, patients("P", "Q", split="test"))
    with pytest.raises(DataError, match=r"all 2 timepoints are single ones .* --predict"):
        build(table, tmp_path / "out", size=32)
    assert not list(tmp_path.iterdir())
    assert build(table, tmp_path / "out", size=32, predict=True).entries["predict"] == 2


def test_the_table_says_how_long_after_the_last_time_the_forecast_is(images, tmp_path):
    """Of the patient alone whose row says so; inference has the others' from its own option."""
    from scripts.data.datalist import inference_items

    table = [*patients("P", "Q"), rows(patient_id="Q", study_yr=1, image="c.nii.gz", interval_days=180)]
    table = write_table(images, [{**row, "split": "predict"} for row in table])
    build(table, tmp_path / "out", size=32, keep_ids=True)
    entries = json.loads((tmp_path / "out" / "datalist.json").read_text())["predict"]
    assert [entry.get("interval_days") for entry in entries] == [None, 180]
    items = inference_items(tmp_path / "out", "predict", interval_days=365, image_size=32)
    assert [item["interval_days"] for item in items] == [365, 180]


def test_a_patient_is_in_one_section(images):
    table = write_table(images, [rows(split="predict"), rows(study_yr=1, split="training")])
    with pytest.raises(DataError, match="expected one per patient"):
        read_cohort(table)


def test_drawn_splits_are_by_patient_stratified_and_repeatable(images):
    table = [
        rows(patient_id=f"P{number}", study_yr=year, malignant=int(number % 4 == 0))
        for number in range(200)
        for year in (0, 1)
    ]
    cohort = read_cohort(write_table(images, table))
    split = assigned_sections(cohort)
    assert split.groupby(cohort["patient_id"]).nunique().eq(1).all()
    assert split.value_counts().to_dict() == {"training": 280, "validation": 40, "test": 80}
    shares = cohort["malignant"].groupby(split).mean()
    assert shares.max() - shares.min() < 1e-9
    shuffled = cohort.sample(frac=1.0, random_state=0)
    assert assigned_sections(shuffled).sort_index().equals(split)
    other = assigned_sections(cohort, shares_of("4:1:5"))
    assert other.value_counts().to_dict() == {"training": 160, "validation": 40, "test": 200}


@pytest.mark.parametrize("shares", ["70:30", "a:b:c", "0:1:1", "70:-10:40", "1:nan:1", ""])
def test_other_shares_are_refused_before_any_work(images, tmp_path, call, shares):
    table = write_table(images, patients("P"))
    code, shown = call("cohort", table, "--out", tmp_path / "out", "--shares", shares)
    assert code == 2 and f"--shares {shares}: expected parts of training" in " ".join(shown.err.split())
    assert not (tmp_path / "out").exists()
