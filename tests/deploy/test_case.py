"""One scan, one point and one record to one result, whole or not at all."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data_prep import BUNDLE
from data_prep.errors import DataError
from data_prep.images import crops
from data_prep.single import cut_single
from deploy import case
from scripts import diffusion
from scripts.data.digest import digest_case
from scripts.diffusion import sampler
from scripts.ehr.report import radiology_report
from scripts.errors import UserError
from scripts.files import write_json
from tests.deploy.scans import POINT, RECORD, write_chest

FEW = {"num_runs": 2, "num_steps": 2, "solver": "dpmpp"}


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return write_chest(tmp_path_factory.mktemp("scan") / "series")


@pytest.fixture(scope="module")
def predictor():
    """By the bundle's weights, which it opens once."""
    return case.Predictor(**FEW)


@pytest.fixture(scope="module")
def made(series, predictor, tmp_path_factory):
    """The folder and the result of a record that has another gender than the scan's header."""
    out = tmp_path_factory.mktemp("case") / "out"
    record = {**RECORD, "gender": 1}
    result = predictor.predict(series, POINT, record, out, interval_days=180)
    return out, result


def test_the_folder_has_the_crop_and_what_inference_writes(made, series):
    out, result = made
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert {"nodule", "nodule.nii.gz", "results.csv"} <= {path.name for path in out.iterdir()}
    samples = nib.load(out / "nodule" / "samples.nii.gz")
    assert samples.shape[2:] == (1, 2) and b"SYNTHETIC" in samples.header["descrip"].item()
    assert (out / "nodule" / "panel.png").is_file()
    assert json.loads((out / "nodule" / "result.json").read_bytes()) == result
    expected = cut_single(series, POINT, 128, 0.5)  # the spacing of the crops that the weights were trained on
    crop = nib.load(out / "nodule.nii.gz")
    assert crops.checksum(expected) == crops.description(out / "nodule.nii.gz")
    assert np.array_equal(crop.dataobj, expected.dataobj) and crops.spacing(crop)[:2] == (0.5, 0.5)


def test_it_was_made_of_this_crop_record_and_interval(made):
    out, result = made
    report = radiology_report({**RECORD, "gender": 1}, 180)
    provenance = json.loads((out / "nodule" / "provenance.json").read_bytes())
    assert provenance["case_sha256"] == digest_case(out / "nodule.nii.gz", report)
    assert provenance["num_runs"] == 2 and result["interval_days"] == 180


def test_the_same_nodule_in_nifti_has_the_same_samples(made, predictor, series, tmp_path):
    """Converted by other code: axes, directions and the point's place are the trap."""
    itk = pytest.importorskip("SimpleITK", reason="no SimpleITK")
    reader = itk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    itk.WriteImage(reader.Execute(), tmp_path / "scan.nii.gz")
    record = {**RECORD, "gender": 1}
    result = predictor.predict(tmp_path / "scan.nii.gz", POINT, record, tmp_path / "out", interval_days=180)
    first, second = (nib.load(out / "nodule" / "samples.nii.gz") for out in (made[0], tmp_path / "out"))
    assert np.array_equal(first.dataobj, second.dataobj) and np.allclose(first.affine, second.affine, atol=1e-4)
    assert result["methods"] == made[1]["methods"] and result["growth"] == made[1]["growth"]


def test_weights_are_opened_once_and_again_where_they_were_replaced(made, series, tmp_path, monkeypatch):
    """The second case by the same predictor is as one by a predictor of its own."""
    models = shutil.copytree(BUNDLE / "models", tmp_path / "models")
    opened, shares = [], []
    load = sampler.load_progression_model
    monkeypatch.setattr(diffusion, "load_progression_model", lambda *a, **k: opened.append(a) or load(*a, **k))
    predictor = case.Predictor(models, **FEW)
    asked = (series, POINT, {**RECORD, "gender": 1})
    predictor.predict(series, POINT, {"age": 70}, tmp_path / "first", progress=shares.append)
    result = predictor.predict(*asked, tmp_path / "second", interval_days=180)
    assert len(opened) == 1 and shares == [0.5, 1.0]
    first, second = (nib.load(out / "nodule" / "samples.nii.gz") for out in (made[0], tmp_path / "second"))
    assert np.array_equal(first.dataobj, second.dataobj) and result == made[1]
    (models / "unet_conditional.safetensors").touch()
    predictor.predict(*asked, tmp_path / "third", interval_days=180)
    assert len(opened) == 2


def test_flags_of_the_scan_are_among_those_of_the_result(made):
    out, result = made
    assert any("PatientSex" in flag for flag in result["flags"])
    assert "PatientSex" in (out / "results.csv").read_text()


def test_nothing_tells_whose_case_it_is(made):
    out, _ = made
    content = b"".join(path.read_bytes() for path in out.rglob("*") if path.suffix in (".json", ".csv"))
    assert b"Doe" not in content and str(Path.home()).encode() not in content and b"ehr.json" not in content


def test_a_record_lies_in_the_results_folder_until_it_was_read(tmp_path, monkeypatch):
    """There a worker finds what a killed one left, and a page what belongs to a session; it is not left there."""
    places = []

    def stopped(*_, ehr, predictions_dir, **__):
        places.append(Path(ehr).relative_to(predictions_dir))
        assert json.loads(Path(ehr).read_bytes()) == {"age": 62} and Path(ehr).parent.stat().st_mode & 0o077 == 0
        raise SystemExit

    monkeypatch.setattr("monai.bundle.ConfigWorkflow", stopped)
    with pytest.raises(SystemExit):
        case.Predictor()._generate(tmp_path, {"age": 62}, 365, None)
    assert len(places) == 1 and not [*tmp_path.iterdir()]


def test_what_a_record_does_not_tell_is_missing(series, tmp_path, monkeypatch):
    """NaN and null, which JSON files hold, are no values."""
    given = []
    monkeypatch.setattr(case.Predictor, "_generate", lambda self, folder, record, *_: given.append(record))
    monkeypatch.setattr("scripts.results.add_flags", lambda folder, _: write_json(folder / "result.json", {}))
    case.Predictor().predict(
        series, POINT, {"age": float("nan"), "gender": None, "sct_long_dia": "9"}, tmp_path / "out"
    )
    assert given == [{"sct_long_dia": 9.0}]


@pytest.fixture
def no_weights(monkeypatch):
    """No network may be opened."""
    monkeypatch.setattr("scripts.diffusion.settings.sampling_settings", lambda *_: pytest.fail("weights were read"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"point": (-70.0, 0.0, 999.0)}, "nodule outside the scan"),
        ({"record": {"age": 630}}, "age: 630"),
        ({"record": {"weight": 70}}, "weight"),
        ({"interval_days": 0}, "interval"),
        ({"series": Path("nowhere")}, "no such file or folder"),
        ({"models_dir": Path("nowhere")}, "expected finished weights"),
        ({"series_uid": "1.2.3"}, "another series"),
    ],
)
def test_what_is_wrong_is_refused_before_the_weights_are_opened(series, tmp_path, no_weights, changed, words):
    asked = {"series": series, "point": POINT, "record": RECORD, **changed}
    predictor = case.Predictor(asked.pop("models_dir", None))
    with pytest.raises((DataError, UserError), match=words) as caught:
        predictor.predict(out=tmp_path / "out", **asked)
    assert "\n" not in str(caught.value).strip() and not list(tmp_path.iterdir())


def test_broken_scans_are_refused_before_the_weights_are_opened(series, tmp_path, no_weights):
    broken = write_chest(tmp_path / "broken")
    path = sorted(broken.iterdir())[1]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="truncated"):
        case.Predictor().predict(broken, POINT, RECORD, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_folders_are_left_alone(series, tmp_path, no_weights):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="is no result of a case"):
        case.Predictor().predict(series, POINT, RECORD, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_that_fails_leaves_the_earlier_result(series, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(case.Predictor, "_generate", fail)
    with pytest.raises(KeyboardInterrupt):
        case.Predictor().predict(series, POINT, RECORD, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "out" / "nodule").mkdir(parents=True)
    (tmp_path / "out" / "nodule" / "result.json").write_text("{}")
    with pytest.raises(KeyboardInterrupt):
        case.Predictor().predict(series, POINT, RECORD, tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "nodule", "result.json"]
