"""From the dataset folder to crops and latents: values, geometry, rotation, order, and what is refused."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy import ndimage
from torch import Tensor, nn

from scripts.data.datalist import DatalistError, crops, inference_items, load_datalist, pairs
from scripts.data.latents import LatentDataset
from scripts.data.transforms import from_hu, postprocessing, preprocessing, rotation, to_hu
from scripts.ehr.encoding import attributes
from scripts.ehr.features import EHRError
from scripts.ehr.report import radiology_report
from scripts.networks.autoencoder import StableDiffusionAutoencoder


@pytest.fixture
def datalist(tiny_dataset: Path) -> dict[str, Any]:
    return json.loads((tiny_dataset / "datalist.json").read_text())


def pixels(path: Path | str) -> np.ndarray:
    """(H, W) in HU, as nibabel reads them."""
    return np.asarray(nib.load(path).dataobj)[..., 0].astype(np.float32)


def windowed(hu: np.ndarray) -> np.ndarray:
    return (np.clip(hu, -1000, 400) + 300) / 700


# --- the window


@given(st.floats(-1000, 400))
def test_window_and_back(hu: float) -> None:
    assert to_hu(from_hu(np.float64(hu))) == pytest.approx(hu, abs=1e-9)
    assert to_hu(from_hu(torch.tensor(hu, dtype=torch.float64))).item() == pytest.approx(hu, abs=1e-9)


def test_window_ends_and_clips() -> None:
    hu = np.array([-3000.0, -1000.0, -300.0, 400.0, 3000.0])
    np.testing.assert_allclose(from_hu(hu), [-1, -1, 0, 1, 1], atol=1e-12)
    np.testing.assert_allclose(to_hu(np.array([-1.0, 0.0, 1.0])), [-1000, -300, 400])


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
    del datalist["validation"]
    with pytest.raises(DatalistError, match=r"no list validation"):
        load_datalist(write(tmp_path, datalist))


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
    assert all(item.keys() == {"case_id", "image", "report"} for item in items)


def test_inference_of_one_crop_needs_no_dataset(tiny_dataset: Path, tmp_path: Path) -> None:
    ehr = {"age": 63, "gender": 2}
    (tmp_path / "ehr.json").write_text(json.dumps(ehr))
    crop = tiny_dataset / "9_t0.nii.gz"
    items = inference_items("nowhere", "test", crop, tmp_path / "ehr.json", 180)
    assert items == [{"case_id": "9_t0", "image": str(crop), "report": radiology_report(ehr, 180)}]
    assert inference_items("nowhere", "test", crop)[0]["report"] == radiology_report({}, None)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, DatalistError, r"ehr.json: expected a JSON object"),
        ("{", DatalistError, r"ehr.json: expected a JSON object"),
        ("[1, 2]", DatalistError, r"ehr.json: expected a JSON object"),
        ('{"age": 630}', EHRError, r"age: 630"),
    ],
)
def test_a_broken_record_is_refused(
    tiny_dataset: Path, tmp_path: Path, content: str | None, error: type[Exception], message: str
) -> None:
    if content is not None:
        (tmp_path / "ehr.json").write_text(content)
    with pytest.raises(error, match=message):
        inference_items(tiny_dataset, "test", tiny_dataset / "9_t0.nii.gz", tmp_path / "ehr.json")


def test_a_missing_crop_is_named(tiny_dataset: Path) -> None:
    with pytest.raises(DatalistError, match=r"absent.nii.gz: no such file"):
        inference_items(tiny_dataset, "test", tiny_dataset / "absent.nii.gz")


# --- pixels


def test_preprocessing_is_the_windowed_middle(tiny_dataset: Path) -> None:
    path = str(tiny_dataset / "3_t0.nii.gz")
    image = preprocessing(["image"], 64)({"image": path})["image"]
    assert isinstance(image, MetaTensor) and image.shape == (1, 64, 64) and image.dtype == torch.float32
    np.testing.assert_allclose(image[0], windowed(pixels(path))[32:96, 32:96], atol=1e-6)
    whole = preprocessing(["image"])({"image": path})["image"]
    np.testing.assert_allclose(whole[0], windowed(pixels(path)), atol=1e-6)


@pytest.mark.parametrize("degrees", [45, 90, 135, 180])
def test_rotation_about_the_middle(tiny_dataset: Path, degrees: int) -> None:
    """Against SciPy's interpolation, which turns the other way."""
    whole = preprocessing(["image"])({"image": str(tiny_dataset / "3_t0.nii.gz")})
    turned = rotation(["image"], degrees)(whole)["image"]
    expected = ndimage.rotate(np.asarray(whole["image"][0]), -degrees, reshape=False, order=1, mode="nearest")
    np.testing.assert_allclose(turned[0, 32:96, 32:96], expected[32:96, 32:96], atol=2e-4)


def test_baseline_and_follow_up_turn_together(tiny_dataset: Path) -> None:
    """The same file as both times: whichever rotation is drawn, they stay equal; and all rotations are drawn."""
    path = str(tiny_dataset / "3_t0.nii.gz")
    angles = (0, 45, 90, 135, 180)
    transform = preprocessing(["baseline", "follow_up"], 64, angles)
    transform.set_random_state(0)
    fixed = [preprocessing(["image"], 64, (angle,))({"image": path})["image"] for angle in angles]
    drawn = set()
    for _ in range(40):
        item = transform({"baseline": path, "follow_up": path})
        assert torch.equal(item["baseline"], item["follow_up"])
        drawn |= {angle for angle, image in zip(angles, fixed, strict=True) if torch.equal(image, item["baseline"])}
    assert drawn == set(angles)


@pytest.mark.parametrize("degrees", [45, 135])
def test_no_corner_is_empty(tmp_path: Path, degrees: int) -> None:
    """A frame where a 45 degree turn of the view ends: none of it, and nothing from beyond, is in the view."""
    hu = np.full((128, 128), 100, np.int16)
    x, y = np.meshgrid(*(np.arange(128) - 63.5,) * 2, indexing="ij")
    hu[np.maximum(abs(x), abs(y)) > 46] = -1000
    nib.save(nib.Nifti1Image(hu[..., None], np.eye(4)), tmp_path / "crop.nii.gz")
    view = preprocessing(["image"], 64, (degrees,))({"image": str(tmp_path / "crop.nii.gz")})["image"]
    np.testing.assert_allclose(view, windowed(np.float32(100)), atol=1e-5)


# --- latents


class Counting(nn.Module):
    """A real autoencoder that counts the crops it encodes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = StableDiffusionAutoencoder(channels=(8, 8, 16), num_res_blocks=1, norm_num_groups=4)
        self.network.latent_scale.fill_(2.5)
        self.count = 0

    def encode_stage_2_inputs(self, x: Tensor) -> Tensor:
        self.count += len(x)
        return self.network.encode_stage_2_inputs(x)


@torch.no_grad()
def test_latents_are_those_of_the_preprocessed_crops_encoded_once(tiny_dataset: Path) -> None:
    items, angles = pairs(tiny_dataset, "validation"), (0, 45, 180)
    autoencoder = Counting()
    dataset = LatentDataset(items, ["baseline", "follow_up"], autoencoder, 32, angles, batch_size=4)
    assert autoencoder.count == 0 and len(dataset) == 3
    torch.manual_seed(0)
    drawn: set[int] = set()
    for index in [0, 1, 2] * 12:
        item = dataset[index]
        expected = {
            angle: {
                key: autoencoder.network.encode_stage_2_inputs(image.as_tensor()[None])[0]
                for key, image in preprocessing(["baseline", "follow_up"], 32, (angle,))(items[index]).items()
                if key in ("baseline", "follow_up")
            }
            for angle in angles
        }
        matches = [a for a in angles if torch.allclose(item["baseline"], expected[a]["baseline"], atol=1e-5)]
        assert len(matches) == 1
        torch.testing.assert_close(item["follow_up"], expected[matches[0]]["follow_up"], atol=1e-5, rtol=0)
        assert item["report"] == items[index]["report"] and item["follow_up"].shape == (4, 8, 8)
        drawn.update(matches)
    assert drawn == set(angles)
    assert autoencoder.count == 2 * 3 * 3


def test_latents_without_rotation_draw_no_random_numbers(tiny_dataset: Path) -> None:
    dataset = LatentDataset(pairs(tiny_dataset, "validation"), ["baseline"], Counting(), 32)
    state = torch.get_rng_state()
    assert torch.equal(dataset[1]["baseline"], dataset[1]["baseline"])
    assert torch.equal(torch.get_rng_state(), state)


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


def test_follow_ups_come_out_in_hu_and_say_that_they_are_synthetic() -> None:
    scaled = torch.tensor([[[-1.0, 0.0], [0.5, 1.0]]])
    item = postprocessing(["pred"])({"pred": scaled, "image": scaled})
    torch.testing.assert_close(item["pred"].as_tensor(), torch.tensor([[[-1000.0, -300.0], [50.0, 400.0]]]))
    assert item["pred"].meta["descrip"].startswith("SYNTHETIC") and item["image"] is scaled
    torch.testing.assert_close(from_hu(item["pred"].as_tensor()), scaled)
