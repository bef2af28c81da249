"""From the dataset folder to items: what is read, what is refused, and what each use may see."""

from __future__ import annotations

import json
import locale
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.data.datalist import DatalistError, crops, inference_items, load_datalist, pairs
from scripts.ehr.encoding import attributes
from scripts.ehr.features import EHR_FEATURES, EHRError
from scripts.ehr.report import radiology_report


@pytest.fixture
def datalist(tiny_dataset: Path) -> dict[str, Any]:
    return json.loads((tiny_dataset / "datalist.json").read_text())


# --- the datalist


def write(folder: Path, datalist: Any) -> Path:
    (folder / "datalist.json").write_text(datalist if isinstance(datalist, str) else json.dumps(datalist))
    return folder


def test_datalist_is_read_as_it_is(tiny_dataset: Path, datalist: dict[str, Any]) -> None:
    assert load_datalist(tiny_dataset) == datalist


@pytest.mark.parametrize("sections", [("training", "validation"), ("training", "test"), ("validation", "test")])
def test_a_patient_in_two_sections_is_refused(
    datalist: dict[str, Any], tmp_path: Path, sections: tuple[str, str]
) -> None:
    first, second = sections
    datalist[second].append({**datalist[first][0], "case_id": "another nodule"})
    with pytest.raises(DatalistError, match=f"1 patients stand in {first} and in {second}.*first: patient-"):
        load_datalist(write(tmp_path, datalist))


@pytest.mark.parametrize("section", ["validation", "test"])
def test_an_unpaired_crop_of_a_held_out_patient_is_refused(
    datalist: dict[str, Any], tmp_path: Path, section: str
) -> None:
    datalist["unpaired"][0]["patient_id"] = datalist[section][0]["patient_id"]
    with pytest.raises(DatalistError, match=f"stand in training and in {section}"):
        load_datalist(write(tmp_path, datalist))


def test_broken_datalists_are_named(datalist: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DatalistError, match=r"datalist.json: no datalist.*data_prep"):
        load_datalist(tmp_path)
    with pytest.raises(DatalistError, match=r"datalist.json: not JSON"):
        load_datalist(write(tmp_path, '{"training": ['))
    with pytest.raises(DatalistError, match=r"datalist.json: holds a list; expected an object with training"):
        load_datalist(write(tmp_path, "[]"))
    del datalist["validation"]
    with pytest.raises(DatalistError, match=r"no list validation"):
        load_datalist(write(tmp_path, datalist))


@pytest.mark.parametrize(
    ("section", "key"),
    [
        *(("training", key) for key in ("patient_id", "case_id", "baseline", "follow_up", "ehr")),
        *(("unpaired", key) for key in ("patient_id", "image")),
        ("predict", "baseline"),
    ],
)
def test_an_entry_with_a_gap_is_named(datalist: dict[str, Any], tmp_path: Path, section: str, key: str) -> None:
    datalist["predict"] = [{"patient_id": "new", "baseline": "9_t0.nii.gz"}]
    del datalist[section][0][key]
    write(tmp_path, datalist)
    readers: list[Callable[[], Any]] = [lambda: crops(tmp_path, "training"), lambda: pairs(tmp_path, "training")]
    reads = readers[key == "case_id"] if section != "predict" else lambda: inference_items(tmp_path, "predict")
    with pytest.raises(DatalistError, match=rf"datalist\.json: entry 1 of {section} \(.*\) has no {key}"):
        reads()
    datalist[section][0] = "a.nii.gz"
    with pytest.raises(DatalistError, match=rf"entry 1 of {section} is a str; expected an object"):
        load_datalist(write(tmp_path, datalist))


def test_a_code_that_is_none_is_told_with_its_case(datalist: dict[str, Any], tmp_path: Path) -> None:
    datalist["training"][0]["ehr"] |= {"sct_pre_att": 5, "age": 7}
    write(tmp_path, datalist)
    readers: list[Callable[..., Any]] = [pairs, inference_items, crops]
    for reads in readers:
        with pytest.raises(EHRError) as caught:
            reads(tmp_path, "training")
        lines = str(caught.value).splitlines()
        assert len(lines) == 2
        assert all(line.startswith(f"{tmp_path / 'datalist.json'}: patient-0_n1: ") for line in lines)


# --- items


def test_pairs(tiny_dataset: Path, datalist: dict[str, Any]) -> None:
    items = pairs(tiny_dataset, "training")
    assert [item["case_id"] for item in items] == [case["case_id"] for case in datalist["training"]]
    for item, case in zip(items, datalist["training"], strict=True):
        assert Path(item["baseline"]) == tiny_dataset / case["baseline"]
        assert Path(item["follow_up"]) == tiny_dataset / case["follow_up"]
        assert item["report"] == radiology_report(case["ehr"], 365)
    assert [item["malignant"] for item in items if item["case_id"] != "patient-2_n1"] == [0, 1, 1, 0, 1]
    assert math.isnan(items[2]["malignant"])


def test_reports_without_their_interval(tiny_dataset: Path, tmp_path: Path) -> None:
    for items in (
        pairs(tiny_dataset, "test", report_interval=False),
        inference_items(tiny_dataset, "test", report_interval=False),
        inference_items(tmp_path, "test", tiny_dataset / "4_t0.nii.gz", interval_days=365, report_interval=False),
    ):
        assert items and not any("Follow-up after" in item["report"] for item in items)


def test_no_follow_up_fact_reaches_the_report(datalist: dict[str, Any], tmp_path: Path) -> None:
    before = [item["report"] for item in pairs(write(tmp_path, datalist), "training")]
    for case in datalist["training"]:
        case["follow_up_attributes"] = {"sct_long_dia": 99.0}
        case["malignant"] = 1
    assert [item["report"] for item in pairs(write(tmp_path, datalist), "training")] == before


def test_crops_are_both_times_of_each_case_then_the_unpaired(tiny_dataset: Path, datalist: dict[str, Any]) -> None:
    items = crops(tiny_dataset, "training", "standardised")
    paired = [case[time] for case in datalist["training"] for time in ("baseline", "follow_up")]
    assert [Path(item["image"]) for item in items] == [tiny_dataset / name for name in [*paired, "u.nii.gz"]]
    records = [case[key] for case in datalist["training"] for key in ("ehr", "follow_up_attributes")]
    expected = np.array([attributes(record) for record in [*records, {}]])
    np.testing.assert_allclose(np.stack([item["attributes"] for item in items]), expected, rtol=1e-6)
    assert np.isnan(expected[-1]).all() and items[0]["attributes"].dtype == np.float32
    outcomes = [math.nan if case["malignant"] is None else case["malignant"] for case in datalist["training"]]
    np.testing.assert_equal([item["malignant"] for item in items], [*np.repeat(outcomes, 2), math.nan])


def test_unpaired_crops_are_for_training_only(tiny_dataset: Path) -> None:
    assert [len(crops(tiny_dataset, section)) for section in ("training", "validation", "test")] == [13, 6, 6]
    assert crops(tiny_dataset, "test", "raw")[0]["attributes"].shape == (5,)


def test_inference_over_a_section_sees_no_outcome(tiny_dataset: Path) -> None:
    items = inference_items(tiny_dataset, "test")
    assert [item["case_id"] for item in items] == ["patient-9_n1", "patient-10_n1", "patient-11_n1"]
    assert all(item.keys() == {"case_id", "image", "report", "ehr", "interval_days"} for item in items)


def test_inference_of_one_crop_needs_no_dataset(tiny_dataset: Path, tmp_path: Path) -> None:
    ehr = {"age": 63, "gender": 2}
    (tmp_path / "ehr.json").write_text(json.dumps(ehr))
    crop = tiny_dataset / "9_t0.nii.gz"
    items = inference_items("nowhere", "test", crop, tmp_path / "ehr.json", 180)
    expected = {"case_id": "9_t0", "image": str(crop), "report": radiology_report(ehr, 180)}
    assert items == [expected | {"ehr": ehr, "interval_days": 180}]
    assert inference_items("nowhere", "test", crop)[0]["report"] == radiology_report({}, None)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, DatalistError, r"ehr.json: expected a JSON object"),
        ("{", DatalistError, r"ehr.json: expected a JSON object"),
        ("[1, 2]", DatalistError, r"ehr.json: expected a JSON object"),
        ('{"age": 630}', EHRError, r"ehr.json: age: 630"),
    ],
)
def test_a_broken_record_is_refused(
    tiny_dataset: Path, tmp_path: Path, content: str | None, error: type[Exception], message: str
) -> None:
    if content is not None:
        (tmp_path / "ehr.json").write_text(content)
    with pytest.raises(error, match=message):
        inference_items(tiny_dataset, "test", tiny_dataset / "9_t0.nii.gz", tmp_path / "ehr.json")


def test_an_interval_without_a_record_is_refused_with_the_crop(tiny_dataset: Path) -> None:
    with pytest.raises(EHRError, match=r"9_t0.nii.gz: interval_days: -3"):
        inference_items("nowhere", "test", tiny_dataset / "9_t0.nii.gz", interval_days=-3)


def test_a_missing_crop_is_named(tiny_dataset: Path) -> None:
    with pytest.raises(DatalistError, match=r"absent.nii.gz: no such file"):
        inference_items(tiny_dataset, "test", tiny_dataset / "absent.nii.gz")


@pytest.mark.parametrize("shape", [(128, 128, 9), (60, 128, 1), (128, 128)])
def test_a_scan_or_a_small_crop_is_refused_with_its_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "crop.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), path)
    with pytest.raises(DatalistError, match=re.escape(str(shape))):
        inference_items("unused", "test", image=path)


def test_what_is_no_nifti_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "crop.nii.gz"
    path.write_text("not an image")
    with pytest.raises(DatalistError, match=r"crop\.nii\.gz"):
        inference_items("unused", "test", image=path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_crop_with_a_value_that_is_not_finite_is_refused_by_name(tmp_path: Path, value: float) -> None:
    path = tmp_path / "crop.nii.gz"
    pixels = np.full((128, 128, 1), -800, np.float32)
    pixels[0, 127] = value  # outside what the networks see: the crop was cut from something that is not HU
    nib.save(nib.Nifti1Image(pixels, np.eye(4)), path)
    with pytest.raises(DatalistError, match=r"crop\.nii\.gz: 1 of 16384 pixels are NaN or infinite"):
        inference_items("unused", "test", image=path)


def test_every_crop_of_a_section_is_looked_at_before_any_work(tiny_dataset: Path, tmp_path: Path) -> None:
    """Values that are not finite, sizes, and files cut short, in the last case as in the first."""
    dataset = shutil.copytree(tiny_dataset, tmp_path / "dataset")
    crop = dataset / "11_t0.nii.gz"
    image = nib.load(crop)
    with pytest.raises(DatalistError, match=r"t0\.nii\.gz: has shape \(128, 128, 1\).*at least 200 px"):
        inference_items(dataset, "test", image_size=200)
    nib.save(nib.Nifti1Image(np.full((128, 128, 1), np.nan, np.float32), image.affine), crop)
    with pytest.raises(DatalistError, match=r"11_t0\.nii\.gz: 16384 of 16384"):
        inference_items(dataset, "test")
    crop.write_bytes((dataset / "10_t0.nii.gz").read_bytes()[:2000])
    with pytest.raises(DatalistError, match=r"11_t0\.nii\.gz: cannot be read"):
        inference_items(dataset, "test")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_whatever_the_locale(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """A datalist and a record, as editors of different systems save them."""
    monkeypatch.setattr(locale, "getencoding", lambda: "ascii")
    datalist = json.loads((tiny_dataset / "datalist.json").read_bytes()) | {"name": "K\u00f6ln \u2013 \u03b1"}
    (tmp_path / "datalist.json").write_text(json.dumps(datalist, ensure_ascii=False), encoding=encoding)
    assert load_datalist(tmp_path) == datalist
    (tmp_path / "ehr.json").write_text(json.dumps({"age": 62}), encoding=encoding)
    items = inference_items("unused", "test", tiny_dataset / "9_t0.nii.gz", tmp_path / "ehr.json")
    assert "62" in items[0]["report"]


def test_text_in_another_encoding_is_refused_by_name(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "datalist.json").write_text('{"name": "K\u00f6ln"}', encoding="latin-1")
    with pytest.raises(DatalistError, match=r"datalist\.json: not JSON"):
        load_datalist(tmp_path)
    (tmp_path / "ehr.json").write_text('{"note": "K\u00f6ln"}', encoding="latin-1")
    with pytest.raises(DatalistError, match=r"ehr\.json: expected a JSON object"):
        inference_items("unused", "test", tiny_dataset / "9_t0.nii.gz", tmp_path / "ehr.json")


def test_records_with_gaps_are_warned_of(tiny_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Weights that were trained on whole records give images that dissolve; a whole record is taken without a word."""
    crop = next(tiny_dataset.glob("*.nii.gz"))
    whole = dict(zip(EHR_FEATURES, (1, 1, 12, 9, 1, 62, 1, 1, 0, 0, 0, 0, 0), strict=True))
    (tmp_path / "ehr.json").write_text(json.dumps(whole))
    inference_items(tiny_dataset, "test", crop, tmp_path / "ehr.json")
    assert not caplog.records
    (tmp_path / "ehr.json").write_text(json.dumps({name: whole[name] for name in whole if name != "famchild"}))
    inference_items(tiny_dataset, "test", crop, tmp_path / "ehr.json")
    assert "1 of 1 records lack features (famchild)" in caplog.text
    inference_items(tiny_dataset, "test")
    assert "3 of 3 records lack features (diagemph, fam" in caplog.text


def test_a_crop_of_another_view_is_warned_of(
    tiny_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Mirrored or turned, or without a pixel that lung has; one as those of training is taken without a word."""
    (tmp_path / "ehr.json").write_text(json.dumps(dict.fromkeys(EHR_FEATURES, 1) | {"age": 62}))
    image = nib.load(tiny_dataset / "9_t0.nii.gz")
    pixels, path = np.asarray(image.dataobj), tmp_path / "crop.nii.gz"

    def told(pixels: Any, turn: Any) -> list[str]:
        caplog.clear()
        nib.save(nib.Nifti1Image(pixels, image.affine @ turn), path)
        inference_items("unused", "test", path, tmp_path / "ehr.json")
        return caplog.messages

    same = np.eye(4)
    assert told(pixels, same) == []
    assert "its axes run to RP; expected LP" in told(pixels, np.diag([-1.0, 1.0, 1.0, 1.0]))[0]
    assert "its axes run to PL; expected LP" in told(pixels, same[[1, 0, 2, 3]])[0]
    (message,) = told(pixels + 1024, same)
    assert message.startswith(f"{path}: no pixel is below -400 (the lowest: ") and "expected HU" in message


def test_an_empty_section_is_refused(tmp_path: Path) -> None:
    (tmp_path / "datalist.json").write_text(json.dumps({"training": [], "validation": [], "test": []}))
    with pytest.raises(DatalistError, match="its test section is empty; name another with --section"):
        inference_items(tmp_path, "test")


# --- single crops: what has no follow-up


def with_predict(folder: Path, datalist: dict[str, Any], **interval: Any) -> Path:
    """The dataset with two baselines in ``predict``, the first with an interval of its own."""
    single = {"patient_id": "new", "nodule_id": "n", "baseline": "9_t0.nii.gz", "ehr": {"age": 63}}
    datalist["predict"] = [{**single, "case_id": "new_1", **interval}, {**single, "case_id": "new_2"}]
    return write(folder, datalist)


def test_baselines_without_a_follow_up_are_items(tiny_dataset: Path, datalist: dict[str, Any], tmp_path: Path) -> None:
    dataset = with_predict(shutil.copytree(tiny_dataset, tmp_path / "dataset"), datalist, interval_days=180)
    items = inference_items(dataset, "predict", interval_days=365)
    assert [item["case_id"] for item in items] == ["new_1", "new_2"]
    assert [item["interval_days"] for item in items] == [180, 365]
    assert [item["report"] for item in items] == [radiology_report({"age": 63}, days) for days in (180, 365)]
    assert {item["image"] for item in items} == {str(dataset / "9_t0.nii.gz")}
    assert "Follow-up" not in inference_items(dataset, "predict", interval_days=365, report_interval=False)[0]["report"]
    (unpaired,) = inference_items(dataset, "unpaired", interval_days=365)
    assert unpaired["case_id"] == "u" and unpaired["image"] == str(dataset / "u.nii.gz")
    assert unpaired["report"] == radiology_report({}, 365)
    (dataset / "9_t0.nii.gz").write_bytes(b"broken")
    with pytest.raises(DatalistError, match=r"9_t0\.nii\.gz: cannot be read"):
        inference_items(dataset, "predict")


@pytest.mark.parametrize("section", ["predict", "unpaired", "test"])
def test_two_entries_of_one_case_are_refused_before_any_work(
    datalist: dict[str, Any], tmp_path: Path, section: str
) -> None:
    """One would replace the other on disk: crops of one file name in two folders, or of one case id."""
    key = {"predict": "baseline", "unpaired": "image"}.get(section, "baseline")
    first, second = ({"patient_id": "new", key: f"{folder}/0001.nii", "ehr": {}} for folder in "ab")
    if section == "test":
        first, second = ({**each, "case_id": "0001", "follow_up": "1.nii"} for each in (first, second))
    write(tmp_path, {**datalist, section: [first, second]})
    message = rf"datalist.json: entries 1 \(a/0001.nii\) and 2 \(b/0001.nii\) of {section} are both case 0001, so"
    with pytest.raises(DatalistError, match=message):
        inference_items(tmp_path, section)
    assert load_datalist(tmp_path)[section] == [first, second], "training reads no name"


def test_training_does_not_see_predict(tiny_dataset: Path, datalist: dict[str, Any], tmp_path: Path) -> None:
    dataset = with_predict(shutil.copytree(tiny_dataset, tmp_path / "dataset"), datalist)
    for section in ("training", "validation", "test"):
        assert len(crops(dataset, section)) == len(crops(tiny_dataset, section))
        assert len(pairs(dataset, section)) == len(pairs(tiny_dataset, section))
    datalist["predict"][0]["patient_id"] = datalist["training"][0]["patient_id"]  # may be in another section too
    assert load_datalist(write(dataset, datalist))["predict"]


@pytest.mark.parametrize("section", ["predict", "unpaired", "tests"])
def test_what_has_no_follow_ups_is_refused_where_they_are_needed(tiny_dataset: Path, section: str) -> None:
    expected = (
        rf"{section} (has no follow-ups|is no section); expected --section with one of training, validation, test"
    )
    with pytest.raises(DatalistError, match=expected):
        pairs(tiny_dataset, section)


def test_sections_that_are_none_are_named(tiny_dataset: Path, datalist: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DatalistError, match="tests is no section; expected .* test, unpaired, predict"):
        inference_items(tiny_dataset, "tests")
    with pytest.raises(DatalistError, match="its predict section is empty"):  # as in datasets of earlier versions
        inference_items(tiny_dataset, "predict")
    with pytest.raises(DatalistError, match=r"entry 1 of predict \(a\) has no baseline"):
        inference_items(write(tmp_path, {**datalist, "predict": [{"case_id": "a", "image": "a.nii.gz"}]}), "predict")
    with pytest.raises(DatalistError, match="predict is no list"):
        load_datalist(write(tmp_path, {**datalist, "predict": {}}))
