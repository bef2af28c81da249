"""What the page shows is what result.json and the images say."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from deploy.page import shown
from deploy.page.sessions import Case, Scan
from scripts.ehr.features import EHR_FEATURES, FEATURES
from tests.deploy.scans import POINT, RECORD


@pytest.fixture
def case(made, tmp_path):
    scan = Scan("scan", tmp_path, tmp_path, {"dicom": True})
    found = Case("case", 4, scan, POINT, {name: float(value) for name, value in RECORD.items()}, 365)
    shutil.copytree(made, found.out)
    return found


def test_the_form_has_each_feature_once_with_all_its_words():
    controls = [each for group in shown.form() for each in group["features"]]
    assert sorted(each["name"] for each in controls) == sorted(EHR_FEATURES)
    for each in controls:
        feature = FEATURES[each["name"]]
        assert each.get("choices", []) == [[code, words] for code, words in feature.codes.items()]
        assert feature.codes or (each["minimum"], each["maximum"]) == (feature.minimum, feature.maximum)


def test_probabilities_stand_side_by_side_with_how_far_they_can_be_trusted(case):
    told = shown.content(case)
    alone, generated, brock = told["methods"]
    assert alone["best"] and (alone["calibrated"], alone["as_it_came"]) == ("42 %", "41 %")
    assert alone["held_out"] == "0.82 [0.78, 0.86] (n = 507)"
    assert generated["calibrated"] == "-" and generated["as_it_came"] == "72 %"
    assert "number of nodules" in brock["reason"] and "at most 66 %" in brock["reason"]
    assert told["report"].startswith("61-year-old woman") and told["growth"][0].startswith("Change of the diameters")


def test_a_nodule_that_is_not_measured_is_shown_too(case):
    path = case.out / shown.RESULT
    result = json.loads(path.read_bytes())
    result["growth"] = {"not_measurable": "in the baseline no nodule is found", "runs_not_found": 0, "runs_cut": 0}
    path.write_text(json.dumps(result))
    told = shown.content(case)
    assert told["growth"] == ["Not measured: in the baseline no nodule is found."] and told["baseline_mm"] is None


def test_images_are_those_of_the_files_rows_first(case):
    planes = np.frombuffer(shown.images(case), "<i2").reshape(6, 64, 64)
    samples = np.asarray(nib.load(case.out / "nodule" / "samples.nii.gz").dataobj, dtype=float)[:, :, 0]
    crop = np.asarray(nib.load(case.out / "nodule.nii.gz").dataobj)[32:96, 32:96, 0]
    assert np.array_equal(planes[0], crop.T) and np.array_equal(planes[3], samples[..., 0].T)
    assert np.array_equal(planes[1], np.rint(samples.mean(axis=-1)).T)
    assert np.array_equal(planes[2], np.rint(samples.std(axis=-1)).T)
