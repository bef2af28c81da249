import hashlib
import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from data_prep.cohort import build
from data_prep.contract import read_cohort
from data_prep.errors import DataError
from data_prep.progression import Control
from data_prep.progression.baselines import read
from data_prep.progression.cohort import draw, make
from data_prep.progression.laws import read as read_law


def fingerprint(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(baselines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "made"
    make(baselines, folder, seed=3)
    return folder


def test_same_seed_same_bytes(baselines, made, tmp_path):
    for name, seed in (("a", 3), ("b", 4)):
        make(baselines, tmp_path / name, seed=seed)
    assert fingerprint(tmp_path / "a") == fingerprint(made) != fingerprint(tmp_path / "b")


@pytest.mark.processes
def test_several_processes_make_the_same(baselines, made, tmp_path):
    pytest.importorskip("distributed")
    make(baselines, tmp_path / "a", seed=3, workers=2)
    assert fingerprint(tmp_path / "a") == fingerprint(made)


def test_a_nodule_is_drawn_alike_whatever_other_patients_there_are(baselines):
    table = read(baselines)
    drawn = ["malignant", "age", "gender", "sct_epi_loc", "simulated_growth", "days"]
    whole = draw(table, read_law("real"), seed=3)
    part = draw(table[table["patient_id"] == "C"], read_law("real"), seed=3)
    assert part[drawn].to_numpy().tolist() == whole.loc[part.index, drawn].to_numpy().tolist()


def test_the_table(made, baselines):
    """Two rows a nodule in the contract's columns; what is the baselines' own stays."""
    table, given = pd.read_csv(made / "cohort.csv"), read(baselines)
    assert len(table) == 14 and table["simulated"].str.contains("law real, seed 3").all()
    first, later = (table[table["study_yr"] == year].reset_index(drop=True) for year in (0, 1))
    for name in ("sct_long_dia", "sct_perp_dia", "sct_pre_att", "sct_margins", "malignancy_rating"):
        assert first[name].tolist() == given[name].tolist()
    assert set(table["split"]) == {"training"} and set(table["licence"]) == {"CC0"}
    assert later["sct_long_dia"].tolist() == np.rint(first["sct_long_dia"] * first["simulated_growth"]).tolist()
    same = ["malignant", "gender", "diagemph", "sct_epi_loc", "oracle", "oracle_growth"]
    assert first[same].equals(later[same]) and (first["days_from_baseline"] == 0).all()
    assert later["days_from_baseline"].between(159, 649).all() and (later["age"] - first["age"]).between(0, 2).all()
    assert table.groupby("patient_id")["age"].nunique().max() <= 2 and table["malignant"].isin((0, 1)).all()
    law = yaml.safe_load((made / "law.yaml").read_text())
    assert law == read_law("real").content and (made / "law.yaml").read_text().startswith("# SIMULATED")


def test_the_images(made, baselines):
    table, given = pd.read_csv(made / "cohort.csv"), read(baselines)
    first, later = (table[table["study_yr"] == year].reset_index(drop=True) for year in (0, 1))
    for before, after, source in zip(first.itertuples(), later.itertuples(), given.itertuples(), strict=True):
        image, mask = nib.load(made / before.image), nib.load(made / before.mask)
        assert np.array_equal(image.get_fdata(), nib.load(source.image).get_fdata())
        assert np.array_equal(mask.get_fdata(), nib.load(source.mask).get_fdata())
        follow_up, grown = nib.load(made / after.image), nib.load(made / after.mask)
        assert follow_up.shape == image.shape and np.array_equal(follow_up.affine, image.affine)
        assert np.sqrt(grown.get_fdata().sum() / mask.get_fdata().sum()) == pytest.approx(
            after.simulated_growth, rel=0.06
        )
        assert follow_up.get_fdata()[grown.get_fdata() > 0].mean() > -250 > follow_up.get_fdata().mean()


def test_it_becomes_a_dataset_with_the_truth_beside_each_case(made, tmp_path):
    build(made / "cohort.csv", tmp_path / "dataset", size=64, keep_ids=True)
    datalist = json.loads((tmp_path / "dataset" / "datalist.json").read_text())
    assert "law real" in datalist["simulated"] and len(datalist["training"]) == 7
    table = pd.read_csv(made / "cohort.csv").query("study_yr == 0")
    for case, row in zip(datalist["training"], table.itertuples(), strict=True):
        truth = {"simulated_growth": row.simulated_growth, "oracle": row.oracle, "oracle_growth": row.oracle_growth}
        assert case["truth"] == pytest.approx(truth) and not set(truth) & set(case["ehr"])


def test_scans_without_masks(baselines, tmp_path, phantom):
    """The phantom's DICOM: a disc of the long diameter stands for the mask."""
    table = pd.read_csv(phantom / "cohort.csv").query("study_yr == 0").head(2)
    table = table.assign(image=[str(phantom / image) for image in table["image"]], malignancy_rating=[4, 2.5])
    table.to_csv(tmp_path / "scans.csv", index=False)
    made = make(tmp_path / "scans.csv", tmp_path / "made", law="published")
    for row in made.itertuples():
        assert nib.load(tmp_path / "made" / row.image).shape == (128, 128, 1)
    assert set(made["days_from_baseline"]) == {0, 365}


def test_controls(baselines, tmp_path):
    """A record that tells all, and one that tells nothing though its features are as frequent as before."""
    table = read(baselines)
    table = pd.concat([table.assign(patient_id=table["patient_id"] + str(number)) for number in range(40)])
    table = table.reset_index(drop=True)
    plain, permuted = (draw(table, read_law("real"), 1, permuted=flag) for flag in (False, True))
    assert permuted["oracle"].tolist() == read_law("real").prior(table["malignancy_rating"]).tolist()
    assert (plain["malignant"] == permuted["malignant"]).all()
    assert (plain["sct_epi_loc"].value_counts() == permuted["sct_epi_loc"].value_counts()).all()
    assert permuted.groupby("patient_id")["age"].nunique().max() == 1
    ages = [each.groupby("malignant")["age"].mean().diff().iloc[1] for each in (plain, permuted)]
    assert ages[0] > 2 > 1 > abs(ages[1])
    told = make(baselines, tmp_path / "told", control=Control.TOLD)
    assert (told["oracle"] == told["malignant"]).all() and (told["oracle_growth"] == told["malignant"]).all()
    assert (told["sct_epi_loc"].isin((1, 4)) == told["malignant"]).all() and "control told" in told["simulated"][0]


def test_what_cannot_be_right_is_refused_before_any_work(baselines, tmp_path, call):
    out = tmp_path / "out"
    table = pd.read_csv(baselines)
    folder = tmp_path / "copy"
    shutil.copytree(baselines.parent, folder)

    def refused(table, fault, *options):
        table.to_csv(folder / "wrong.csv", index=False)
        code, shown = call("progression", folder / "wrong.csv", "--out", out, *options)
        assert code == 2 and fault in shown.err and not out.exists()

    refused(table.drop(columns="lidc_malignancy_rating"), "column malignancy_rating: missing")
    refused(table.assign(lidc_malignancy_rating=6), "row 4, column lidc_malignancy_rating: expected 1 to 5")
    refused(table.assign(sct_long_dia=None), "column sct_long_dia: empty")
    refused(table.assign(x=1, y=2, z=3), "column mask: expected a crop with it")
    refused(table, "no such file; expected published, real", "--law", "reel")
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 1), np.int16), np.eye(4)), folder / "masks" / "A1.nii.gz")
    place = nib.load(folder / "masks" / "C3.nii.gz").affine
    nib.save(nib.Nifti1Image(np.zeros((63, 70, 1), np.int16), place), folder / "masks" / "C3.nii.gz")
    moved = nib.load(folder / "masks" / "B1.nii.gz")
    beside = moved.affine + np.outer([1, 0, 0, 0], [0, 0, 0, 0.6])
    nib.save(nib.Nifti1Image(np.asarray(moved.dataobj), beside), folder / "masks" / "B1.nii.gz")
    refused(table, "A1.nii.gz: another shape")
    refused(table, "C3.nii.gz: empty mask")
    refused(table, f"up to 0.6 mm from those of {folder}/images/B1.nii.gz; expected the same affine")
    code, shown = call("progression", baselines, "--out", baselines.parent)
    assert code == 2 and baselines.is_file()
    out.mkdir()
    (out / "mine.txt").touch()
    with pytest.raises(DataError, match="exists and is no simulated cohort"):
        make(baselines, out)


def test_columns_that_the_contract_needs_stay_though_nothing_is_known(baselines, tmp_path):
    """As of LIDC and LUNA16, which tell nothing of the perpendicular diameter."""
    table = pd.read_csv(baselines).query("patient_id == 'B' and study_yr == 0").drop(columns=["licence", "split"])
    images = {name: [str(baselines.parent / path) for path in table[name]] for name in ("image", "mask")}
    unknown = dict.fromkeys(("sct_perp_dia", "sct_pre_att", "sct_margins"))
    table.assign(**images, **unknown).to_csv(tmp_path / "b.csv", index=False)
    make(tmp_path / "b.csv", tmp_path / "made")
    assert not {"licence", "split"} & set(pd.read_csv(tmp_path / "made" / "cohort.csv"))
    assert len(read_cohort(tmp_path / "made" / "cohort.csv")) == 2


def test_a_cohort_is_not_replaced_by_one_that_is_made_of_it(made, tmp_path, call):
    folder = shutil.copytree(made, tmp_path / "made")
    before = fingerprint(folder)
    code, shown = call("progression", folder / "cohort.csv", "--out", folder)
    assert code == 2 and "would be written over" in shown.err and fingerprint(folder) == before


def test_of_two_geometries_one_is_chosen(baselines, tmp_path, call):
    table = pd.read_csv(baselines).query("patient_id == 'B' and study_yr == 0")
    image = nib.load(baselines.parent / table["image"].iloc[0])
    image.header.set_qform(image.affine, code=1)
    image.header.set_sform(image.affine @ np.diag([2.0, 2.0, 1.0, 1.0]), code=1)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), tmp_path / "two.nii.gz")
    mask = str(baselines.parent / table["mask"].iloc[0])
    table.assign(image="two.nii.gz", mask=mask).to_csv(tmp_path / "b.csv", index=False)
    asked = ("progression", tmp_path / "b.csv", "--out", tmp_path / "made")
    code, shown = call(*asked)
    assert code == 2 and "--transform qform" in shown.err
    code, shown = call(*asked, "--transform", "sform")
    assert code == 2 and "another place" in shown.err
    code, shown = call(*asked, "--transform", "qform")
    assert code == 0 and nib.load(tmp_path / "made" / "images/B/1_T0.nii.gz").header.get_zooms()[0] == pytest.approx(
        0.6
    )
