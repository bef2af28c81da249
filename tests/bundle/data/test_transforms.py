"""Pixels: the window, the middle of a crop, its turns, and the way back to HU."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import CacheDataset, MetaTensor
from monai.transforms import Rotated
from scipy import ndimage

from scripts.data.datalist import DatalistError
from scripts.data.transforms import from_hu, postprocessing, preprocessing, rotation, to_hu
from scripts.errors import UserError


def pixels(path: Path | str) -> np.ndarray:
    """(H, W) in HU, as nibabel reads them."""
    return np.asarray(nib.load(path).dataobj)[..., 0].astype(np.float32)


def windowed(hu: np.ndarray) -> np.ndarray:
    return (np.clip(hu, -1000, 400) + 300) / 700


@given(st.floats(-1000, 400))
def test_window_and_back(hu: float) -> None:
    assert to_hu(from_hu(np.float64(hu))) == pytest.approx(hu, abs=1e-9)
    assert to_hu(from_hu(torch.tensor(hu, dtype=torch.float64))).item() == pytest.approx(hu, abs=1e-9)


def test_window_ends_and_clips() -> None:
    hu = np.array([-3000.0, -1000.0, -300.0, 400.0, 3000.0])
    np.testing.assert_allclose(from_hu(hu), [-1, -1, 0, 1, 1], atol=1e-12)
    np.testing.assert_allclose(to_hu(np.array([-1.0, 0.0, 1.0])), [-1000, -300, 400])


def test_preprocessing_is_the_windowed_middle(tiny_dataset: Path) -> None:
    path = str(tiny_dataset / "3_t0.nii.gz")
    image = preprocessing(["image"], 64)({"image": path})["image"]
    assert isinstance(image, MetaTensor) and image.shape == (1, 64, 64) and image.dtype == torch.float32
    np.testing.assert_allclose(image[0], windowed(pixels(path))[32:96, 32:96], atol=1e-6)
    whole = preprocessing(["image"])({"image": path})["image"]
    np.testing.assert_allclose(whole[0], windowed(pixels(path)), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_crop_with_values_that_are_not_finite_is_refused_by_name(tmp_path: Path, value: float) -> None:
    path = tmp_path / "odd.nii.gz"
    nib.save(nib.Nifti1Image(np.full((128, 128, 1), value, np.float32), np.eye(4)), path)
    with pytest.raises(RuntimeError) as error:  # MONAI wraps what a transform raises
        preprocessing(["image"], 64)({"image": str(path)})
    assert isinstance(error.value.__cause__, DatalistError) and "odd.nii.gz" in str(error.value.__cause__)


@pytest.mark.parametrize(("shape", "size"), [((128, 128), 129), ((128, 60), 64), ((40, 128), 64)])
def test_a_crop_smaller_than_the_networks_see_is_refused_by_name(
    tmp_path: Path, shape: tuple[int, int], size: int
) -> None:
    """MONAI's own transform would leave it as it is, or cut one side alone."""
    path = tmp_path / "small.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((*shape, 1), np.int16), np.eye(4)), path)
    with pytest.raises(RuntimeError) as error:
        preprocessing(["image"], size)({"image": str(path)})
    assert isinstance(error.value.__cause__, DatalistError)
    message = str(error.value.__cause__)
    assert f"small.nii.gz: has {shape[0]} x {shape[1]} px" in message and f"image_size, which is {size}" in message


@pytest.mark.parametrize("size", [0, -1])
def test_no_pixels_are_refused(size: int) -> None:
    """MONAI would take the whole crop."""
    with pytest.raises(UserError, match=f"image_size is {size}, expected 1 or more"):
        preprocessing(["image"], size)


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


def test_a_cache_turns_each_crop_once(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turned: list[int] = []
    turn = Rotated.__call__
    monkeypatch.setattr(Rotated, "__call__", lambda *given, **named: turned.append(1) or turn(*given, **named))
    transform = preprocessing(["image"], 64, (0, 45, 90))
    transform.set_random_state(0)
    items = [{"image": str(tiny_dataset / "3_t0.nii.gz")}]
    cached = CacheDataset(items, transform, progress=False)
    drawn = [cached[0]["image"] for _ in range(8)]
    assert len(turned) == 2 and len({float(image.sum()) for image in drawn}) > 1
    transform.set_random_state(0)
    assert all(torch.equal(image, transform(items[0])["image"]) for image in drawn)


@pytest.mark.parametrize("degrees", [45, 135])
def test_no_corner_is_empty(tmp_path: Path, degrees: int) -> None:
    """A frame where a 45 degree turn of the view ends: none of it, and nothing from beyond, is in the view."""
    hu = np.full((128, 128), 100, np.int16)
    x, y = np.meshgrid(*(np.arange(128) - 63.5,) * 2, indexing="ij")
    hu[np.maximum(abs(x), abs(y)) > 46] = -1000
    nib.save(nib.Nifti1Image(hu[..., None], np.eye(4)), tmp_path / "crop.nii.gz")
    view = preprocessing(["image"], 64, (degrees,))({"image": str(tmp_path / "crop.nii.gz")})["image"]
    np.testing.assert_allclose(view, windowed(np.float32(100)), atol=1e-5)


def test_follow_ups_come_out_in_hu_and_say_that_they_are_synthetic() -> None:
    scaled = torch.tensor([[[-1.0, 0.0], [0.5, 1.0]]])
    item = postprocessing(["pred"])({"pred": scaled, "image": scaled})
    torch.testing.assert_close(item["pred"].as_tensor(), torch.tensor([[[-1000.0, -300.0], [50.0, 400.0]]]))
    assert item["pred"].meta["descrip"].startswith("SYNTHETIC") and item["image"] is scaled
    torch.testing.assert_close(from_hu(item["pred"].as_tensor()), scaled)
