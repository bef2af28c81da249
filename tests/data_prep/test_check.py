import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from data_prep.check import examine, print_overview
from data_prep.cohort import build
from data_prep.errors import DataError
from data_prep.picture import draw_sample


@pytest.fixture(scope="module")
def made(phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("check") / "dataset"
    build(phantom / "cohort.csv", folder)
    return folder


@pytest.fixture
def dataset(made, tmp_path):
    return shutil.copytree(made, tmp_path / "dataset")


def edit(dataset, change):
    path = dataset / "datalist.json"
    datalist = json.loads(path.read_text())
    change(datalist)
    path.write_text(json.dumps(datalist))
    return examine(dataset).findings


def spoil(dataset, name, pixels=None, affine=None):
    image = nib.load(dataset / name)
    pixels = np.asarray(image.dataobj).copy() if pixels is None else pixels
    nib.save(nib.Nifti1Image(pixels, image.affine if affine is None else affine), dataset / name)
    return examine(dataset).findings


def first(dataset, key="baseline"):
    return json.loads((dataset / "datalist.json").read_text())["training"][0][key]


def test_a_good_dataset(dataset):
    overview = examine(dataset)
    assert not overview.findings and "phantom" in overview.simulated
    assert all(overview.sections[split].cases for split in ("training", "validation", "test"))
    console = Console(record=True, width=100)
    print_overview(overview, console)
    text = console.export_text()
    assert "SIMULATED" in text and "Nothing is wrong" in text


def test_an_age_that_identifies(dataset):
    def grow_old(datalist):
        datalist["training"][0]["ehr"]["age"] = 93
        datalist["training"][1]["ehr"]["age"] = 90

    (finding,) = edit(dataset, grow_old)
    assert "age above 90, which identifies" in finding and not re.search(r"\b93\b", finding)


def test_leaking_patient(dataset):
    def leak(datalist):
        datalist["test"].append({**datalist["training"][0], "case_id": "again"})

    findings = edit(dataset, leak)
    assert any("leakage: patient" in finding and "training and in test" in finding for finding in findings)


def test_leaking_pixels_and_duplicates(dataset):
    datalist = json.loads((dataset / "datalist.json").read_text())
    shutil.copy(dataset / datalist["training"][0]["baseline"], dataset / datalist["test"][0]["baseline"])
    shutil.copy(dataset / datalist["training"][1]["baseline"], dataset / datalist["training"][1]["follow_up"])
    findings = examine(dataset).findings
    assert any("leakage between test and training: identical pixels" in finding for finding in findings)
    assert any(finding.startswith("duplicates: identical pixels") for finding in findings)


def test_equal_case_names(dataset):
    findings = edit(dataset, lambda datalist: datalist["training"].append(datalist["training"][0]))
    assert any("stands 2 times" in finding for finding in findings)


def test_missing_and_broken_files(dataset):
    (dataset / first(dataset)).unlink()
    (dataset / first(dataset, "follow_up")).write_bytes(b"x")
    findings = examine(dataset).findings
    assert any("missing file" in finding for finding in findings)
    assert any("unreadable NIfTI" in finding for finding in findings)


def test_files_elsewhere(dataset):
    findings = edit(dataset, lambda datalist: datalist["training"][0].update(baseline="../x.nii.gz"))
    assert any("outside the dataset's folder" in finding for finding in findings)


def test_shape_values_spacing_axes(dataset):
    name = first(dataset)
    assert any("shape (64, 128, 1)" in text for text in spoil(dataset, name, np.full((64, 128, 1), -900, np.int16)))
    assert any("expected HU from" in text for text in spoil(dataset, name, np.full((128, 128, 1), 9000, np.int16)))
    assert any("no lung" in text for text in spoil(dataset, name, np.linspace(0, 1, 128**2).reshape(128, 128, 1)))
    assert any("pixel spacing" in text for text in spoil(dataset, name, affine=np.diag([-9.0, -9.0, 1.0, 1.0])))
    assert any("axes RAS" in text for text in spoil(dataset, name, affine=np.eye(4)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(dataset, value):
    name = first(dataset)
    pixels = np.full((128, 128, 1), -900, np.float32)
    pixels[3, 4] = pixels[5, 6] = value
    assert spoil(dataset, name, pixels) == [f"training: {name}: 2 of 16384 pixels are NaN or infinite; expected HU."]
    console = Console(record=True, width=200)
    print_overview(examine(dataset), console)
    text = console.export_text()
    assert f"wrong: training: {name}" in text and "nan.." not in text and "..inf" not in text


def test_a_crop_without_any_value(dataset):
    findings = spoil(dataset, first(dataset), np.full((128, 128, 1), np.nan, np.float32))
    assert len(findings) == 1 and "16384 of 16384 pixels" in findings[0]


def test_facts(dataset):
    def change(datalist):
        datalist["training"][0]["ehr"]["gender"] = 7
        datalist["training"][0]["malignant"] = 2
        datalist["training"][0]["interval_days"] = 0
        datalist["test"] = []

    text = "\n".join(edit(dataset, change))
    for words in ("gender: 7 is not allowed", "malignant is 2", "interval_days is 0", "section test: no cases"):
        assert words in text


def test_missing_features_are_counted(dataset):
    edit(dataset, lambda datalist: [case["ehr"].pop("age") for case in datalist["training"]])
    overview = examine(dataset)
    assert overview.sections["training"].missing["age"] == overview.sections["training"].cases


def test_no_dataset(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        examine(tmp_path)
    (tmp_path / "datalist.json").write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        examine(tmp_path)


def forecast(datalist, *sections):
    """Moves baselines of training into ``predict``, and empties sections."""
    cases = datalist["training"][:2]
    facts = ("case_id", "patient_id", "nodule_id", "baseline", "ehr")
    datalist["predict"] = [
        {name: case[name] for name in facts} | {"case_id": f"new {n}"} for n, case in enumerate(cases)
    ]
    datalist.update({section: [] for section in sections})
    datalist.pop("unpadded", None)


def test_baselines_without_a_follow_up(dataset):
    assert edit(dataset, forecast) == []
    (note,) = examine(dataset).notes
    assert re.match(r"(\d) of \1 patients in predict are in training or validation too", note)
    assert edit(dataset, lambda datalist: datalist["predict"][0].update(interval_days=0)) == [
        "predict, new 0: interval_days is 0; expected 1 or more."
    ]
    edit(dataset, lambda datalist: datalist["predict"][0].update(interval_days=180, patient_id="another"))
    assert re.match(r"1 of 2 patients in predict", examine(dataset).notes[0])


def test_a_dataset_of_baselines_alone(dataset, tmp_path):
    """Needs no other section; its crops are looked at as all others."""
    assert edit(dataset, lambda datalist: forecast(datalist, "training", "validation", "test", "unpaired")) == []
    overview = examine(dataset)
    assert overview.sections["predict"].cases == 2 and not overview.notes
    draw_sample(dataset, tmp_path / "a.png", count=2)
    first = (tmp_path / "a.png").read_bytes()
    crop = json.loads((dataset / "datalist.json").read_text())["predict"][0]["baseline"]
    (finding,) = spoil(dataset, crop, np.full((128, 128, 1), np.nan, np.float32))
    assert finding.startswith(f"predict: {crop}: 16384 of 16384 pixels")
    draw_sample(dataset, tmp_path / "a.png", count=2)
    assert (tmp_path / "a.png").read_bytes() != first
    (dataset / crop).unlink()
    draw_sample(dataset, tmp_path / "a.png", count=2)


def test_a_dataset_to_train_on_needs_all_sections(dataset):
    assert "section test: no cases." in edit(dataset, lambda datalist: datalist.update(test=[]))
    assert "section test: no cases." in edit(dataset, lambda datalist: datalist.update(training=[], validation=[]))


def test_all_cases_may_train_where_the_epochs_are_known(dataset):
    assert edit(dataset, lambda datalist: datalist.update(validation=[])) == []
    assert "section validation: no cases; training needs no_validation.yaml" in "\n".join(examine(dataset).notes)


def test_picture_is_the_same_for_the_same_seed(dataset, tmp_path):
    for name in ("a.png", "b.png"):
        draw_sample(dataset, tmp_path / name, seed=3, count=2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
