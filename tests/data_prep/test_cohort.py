import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from data_prep import cohort
from data_prep.cohort import build
from data_prep.contract import read_cohort
from data_prep.errors import DataError
from data_prep.images import crops
from scripts.files import write_atomically
from tests.data_prep.helpers import rows, write_table


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abcdefgh":
        pixels = rng.integers(-1000, 300, (50, 44, 1)).astype(np.int16)
        nib.save(nib.Nifti1Image(pixels, np.diag([-0.5, -0.5, 1.0, 1.0])), tmp_path / f"{name}.nii.gz")
    return tmp_path


def three_years(source):
    return write_table(
        source,
        [
            rows(study_yr=2, image="c.nii.gz", split="training", malignant=1, sct_long_dia=14),
            rows(study_yr=0, image="a.nii.gz", split="training", malignant=1, sct_margins=9),
            rows(study_yr=1, image="b.nii.gz", split="training", malignant=1, sct_long_dia=11.5),
            rows(patient_id="P2", study_yr=0, image="d.nii.gz", split="training"),
            rows(patient_id="P2", study_yr=2, image="e.nii.gz", split="training"),
            rows(patient_id="P3", study_yr=0, image="f.nii.gz", split="test", malignant=0),
            rows(patient_id="P4", nodule_id="7", study_yr=0, image="g.nii.gz", split="test", malignant=0),
            rows(patient_id="P4", nodule_id="7", study_yr=1, image="h.nii.gz", split="test", malignant=0),
        ],
    )


def test_pairs_and_single_timepoints(source):
    summary = build(three_years(source), source / "out", size=32, keep_ids=True)
    datalist = json.loads((source / "out" / "datalist.json").read_text())
    assert [case["case_id"] for case in datalist["training"]] == ["P1_1_T0-T1", "P1_1_T1-T2"]
    assert [case["case_id"] for case in datalist["test"]] == ["P4_7_T0-T1"]
    assert [case["case_id"] for case in datalist["unpaired"]] == ["P2_1_T0", "P2_1_T2"]
    assert summary.left_out == 1 and summary.written == 7
    first, second = datalist["training"]
    assert first["follow_up"] == second["baseline"] == "crops/P1_1_T1.nii.gz"
    assert "sct_margins" not in first["ehr"] and first["ehr"]["age"] == 61 and len(first["ehr"]) == 12
    assert first["follow_up_attributes"]["sct_long_dia"] == 11.5 and len(first["follow_up_attributes"]) == 5
    assert first["malignant"] == 1 and first["interval_days"] == 365
    assert "malignant" not in datalist["unpaired"][0]
    assert datalist["crop_size"] == 32 and datalist["name"] == "out" and datalist["simulated"] == ""
    files = {path.name for path in (source / "out" / "crops").iterdir()}
    names = ["P1_1_T0", "P1_1_T1", "P1_1_T2", "P2_1_T0", "P2_1_T2", "P4_7_T0", "P4_7_T1"]
    assert files == {f"{name}.nii.gz" for name in names}


def test_days_without_years(source):
    table = [rows(image=f"{name}.nii.gz", days_from_baseline=days) for name, days in (("a", 0), ("b", 100), ("c", 420))]
    for row in table:
        del row["study_yr"]
    build(write_table(source, table), source / "out", size=32, keep_ids=True)
    datalist = json.loads((source / "out" / "datalist.json").read_text())
    cases = [(case["case_id"], case["interval_days"]) for case in datalist["training"]]
    assert cases == [
        ("P1_1_D0-D100", 100),
        ("P1_1_D100-D420", 320),
    ]


def test_rerun_cuts_only_what_has_changed(source):
    table = three_years(source)
    build(table, source / "out", size=32, keep_ids=True)
    before = {path.name: path.read_bytes() for path in (source / "out" / "crops").iterdir()}
    assert build(table, source / "out", size=32, keep_ids=True).written == 0
    assert {path.name: path.read_bytes() for path in (source / "out" / "crops").iterdir()} == before
    nib.save(nib.load(source / "d.nii.gz"), source / "a.nii.gz")
    assert build(table, source / "out", size=32, keep_ids=True).written == 1
    assert build(table, source / "out", size=24, keep_ids=True).written == 7


def test_broken_images_are_recorded_and_the_others_taken(source):
    table = three_years(source)
    for name in "bg":
        (source / f"{name}.nii.gz").write_bytes(b"broken")
    summary = build(table, source / "out", size=32, keep_ids=True)
    failures = pd.read_csv(source / "out" / "failures.csv")
    assert failures["case"].tolist() == ["P1_1_T1", "P4_7_T0"]
    assert failures["reason"].str.startswith("unreadable NIfTI").all() and summary.faults == {"unreadable NIfTI": 2}
    datalist = json.loads((source / "out" / "datalist.json").read_text())
    # Without the middle of three years there is no pair; the partner of a test case is left out.
    assert not datalist["training"] and not datalist["test"] and summary.left_out == 2
    assert [case["case_id"] for case in datalist["unpaired"]] == ["P1_1_T0", "P1_1_T2", "P2_1_T0", "P2_1_T2"]
    assert len(list((source / "out" / "crops").iterdir())) == 4
    for name in "bg":
        nib.save(nib.load(source / "a.nii.gz"), source / f"{name}.nii.gz")
    mended = build(table, source / "out", size=32, keep_ids=True)
    assert mended.entries["training"] == 2 and mended.reused == 4 and not mended.faults
    assert pd.read_csv(source / "out" / "failures.csv").empty


def test_pairs_that_all_lose_an_image_leave_no_dataset(source):
    (source / "b.nii.gz").write_bytes(b"broken")
    pair = [rows(split="test"), rows(split="test", study_yr=1, image="b.nii.gz")]
    with pytest.raises(DataError, match="No pair is left without these images; nothing was written:\n.*b.nii.gz"):
        build(write_table(source, pair), source / "out", size=32)
    assert not (source / "out").exists()


def test_no_good_image_no_dataset(source):
    for name in "abcdefgh":
        (source / f"{name}.nii.gz").write_bytes(b"broken")
    with pytest.raises(DataError, match="None of 7 images can be used") as caught:
        build(three_years(source), source / "out", size=32)
    assert "a.nii.gz" in str(caught.value) and not (source / "out").exists()


def test_a_run_that_was_stopped_goes_on(source, monkeypatch):
    cut, table = crops.cut, three_years(source)

    def stopped(image, *arguments):
        if image.name == "c.nii.gz":
            raise KeyboardInterrupt
        return cut(image, *arguments)

    monkeypatch.setattr(crops, "cut", stopped)
    with pytest.raises(KeyboardInterrupt):
        build(table, source / "out", size=32)
    assert not (source / "out").exists()
    monkeypatch.setattr(crops, "cut", cut)
    assert build(table, source / "out", size=32).reused == 2


@pytest.fixture
def other_run(source):
    """Another process that is writing the dataset ``out``."""
    code = "import sys; from pathlib import Path; from data_prep.files import one_writer\n"
    code += "with one_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(source / "out")]
    run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdout.readline() == "held\n"
    yield run
    run.kill()
    run.wait()


def test_a_second_run_is_refused_until_the_first_is_gone_however_it_goes(source, call, other_run):
    """It touches nothing: not what the first has cut, nor the dataset that is there, nor the key."""
    table, crop = three_years(source), source / ".partial-out" / "crops" / "P1_1_T0.nii.gz"
    crop.parent.mkdir(parents=True)
    crop.write_text("the first run's")
    before = sorted(source.rglob("*"))
    code, shown = call("cohort", table, "--out", source / "out", "--size", 32)
    told = f"{source / 'out'}: another run is writing it. Wait until that has ended, or name another --out.\n"
    assert (code, shown.err) == (2, told)
    assert sorted(source.rglob("*")) == before and crop.read_text() == "the first run's"
    assert call("cohort", table, "--out", source / "another", "--size", 32)[0] == 0
    other_run.kill()
    other_run.wait()
    assert (source / ".lock-out").exists()
    assert call("cohort", table, "--out", source / "out", "--size", 32)[0] == 0
    assert call("check", source / "out")[0] == call("check", source / "another")[0]
    assert not list(source.rglob(".*"))


@pytest.mark.parametrize("before", [False, True])
def test_a_crop_that_is_gone_is_not_named(source, monkeypatch, before):
    """Nor does its dataset take the place of a good one; the next run cuts it again."""
    table, cut_all = three_years(source), cohort._cut_all
    if before:
        build(table, source / "out", size=32, keep_ids=True)

    def robbed(used, folder, recipe, *rest):
        results = cut_all(used, folder, recipe, *rest)
        (recipe.folder / "crops" / "P4_7_T1.nii.gz").unlink()
        return results

    monkeypatch.setattr(cohort, "_cut_all", robbed)
    with pytest.raises(DataError, match=r"crops/P4_7_T1\.nii\.gz went missing; nothing was written"):
        build(table, source / "out", size=32, keep_ids=True)
    assert len(list((source / "out" / "crops").glob("*"))) == (7 if before else 0)
    monkeypatch.setattr(cohort, "_cut_all", cut_all)
    assert build(table, source / "out", size=32, keep_ids=True).reused == (7 if before else 6)
    assert len(list((source / "out" / "crops").iterdir())) == 7


def test_other_folders_are_left_alone(source):
    (source / "mine").mkdir()
    (source / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="is no dataset"):
        build(three_years(source), source / "mine")
    assert (source / "mine" / "thesis.txt").read_text() == "precious"


def test_names_that_would_collide(source):
    table = [rows(patient_id="A_1", nodule_id="2"), rows(patient_id="A", nodule_id="1_2", image="b.nii.gz")]
    with pytest.raises(DataError, match="alike"):
        build(write_table(source, table), source / "out", keep_ids=True)


def test_atomic_writing_leaves_nothing_behind(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), write_atomically(target) as path:
        path.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_real_table(shared_data, tmp_path):
    cohort = read_cohort(shared_data / "lidc_progression" / "cohort.csv")
    assert len(cohort) == 1348
    counts = cohort[cohort.study_yr == 0].split.value_counts().to_dict()
    assert counts == {"training": 427, "test": 167, "validation": 80}


def test_ages_above_90_stand_as_90(source, call):
    """A site's oldest patients would be known by their ages; nothing that is shared tells them."""
    ages = {"a": 89, "b": 90, "c": 91, "d": 97.5, "e": 60, "f": 61}
    table = [
        rows(patient_id=f"P{number // 2}", study_yr=number % 2, image=f"{name}.nii.gz", age=age, split="training")
        for number, (name, age) in enumerate(ages.items())
    ]
    code, shown = call("cohort", write_table(source, table), "--out", source / "out", "--size", "32")
    assert code == 0 and "Ages above 90 stand as 90: 2 timepoints." in shown.out
    datalist = json.loads((source / "out" / "datalist.json").read_text())
    assert sorted(case["ehr"]["age"] for case in datalist["training"]) == [60, 89, 90]
    sheet = (source / "out" / "datasheet.md").read_text()
    assert "Ages above 90 stand as 90" in sheet
    ages_told = next(line for line in sheet.splitlines() if line.startswith("| age, years"))
    assert "to 90" in ages_told and "91" not in ages_told and "97" not in ages_told
    for path in (source / "out").iterdir():
        assert path.is_dir() or b"97.5" not in path.read_bytes()
