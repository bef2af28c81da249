"""The padded part of a crop: from the datalist to what losses, distances and errors leave out; by arithmetic."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from torch import Tensor, nn

from scripts.data.datalist import DatalistError, crops, pairs
from scripts.data.latents import LatentDataset
from scripts.data.padding import boxes, mask, real_key
from scripts.data.transforms import from_hu, preprocessing
from scripts.training.batches import LatentPrepareBatch, prepare_crop_batch

SIZE = 48
BOXES = {"a": [14, 40, 0, SIZE], "b": [0, SIZE, 20, 31]}
"""Within the middle 32 pixels, 8 to 40: the first misses six rows, the second twenty-one columns."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three crops of noise, two of them padded; the third is a case's follow-up."""
    rng = np.random.default_rng(0)
    for name in "abc":
        hu = rng.integers(-1000, 400, (SIZE, SIZE, 1)).astype(np.int16)
        nib.save(nib.Nifti1Image(hu, np.diag([-0.5, -0.5, 1.0, 1.0])), tmp_path / f"{name}.nii.gz")
    ehr = {"sct_long_dia": 8}
    cases = [
        {"case_id": f"{n}", "patient_id": f"{n}", "baseline": f"{b}.nii.gz", "follow_up": f"{f}.nii.gz", "ehr": ehr}
        for n, (b, f) in enumerate([("a", "b"), ("c", "a"), ("b", "c")])
    ]
    datalist = {"training": cases, "validation": [], "test": [], "crop_size": SIZE}
    datalist["unpadded"] = {f"{name}.nii.gz": box for name, box in BOXES.items()}
    (tmp_path / "datalist.json").write_text(json.dumps(datalist))
    return tmp_path


def without(folder: Path, target: Path) -> Path:
    """The same dataset, of which nothing is known to be padded."""
    shutil.copytree(folder, target)
    datalist = json.loads((target / "datalist.json").read_text())
    del datalist["unpadded"]
    (target / "datalist.json").write_text(json.dumps(datalist))
    return target


def expected(name: str) -> np.ndarray:
    """The mask of the middle 32 pixels, by hand."""
    real = np.zeros((SIZE, SIZE), bool)
    low, high, left, right = BOXES.get(name, [0, SIZE, 0, SIZE])
    real[low:high, left:right] = True
    return real[8:40, 8:40]


def test_masks_follow_crops_through_preprocessing(folder: Path) -> None:
    load = preprocessing(["baseline", "follow_up"], 32)
    for item, names in zip(pairs(folder, "training"), ("ab", "ca", "bc"), strict=True):
        made = load(item)
        for key, name in zip(("baseline", "follow_up"), names, strict=True):
            assert made[real_key(key)].dtype == torch.bool and made[key].shape == made[real_key(key)].shape
            np.testing.assert_array_equal(made[real_key(key)][0], expected(name))
            hu = np.asarray(nib.load(folder / f"{name}.nii.gz").dataobj)[8:40, 8:40, 0]
            np.testing.assert_allclose(made[key][0], from_hu(hu.astype(np.float64)), atol=1e-6)
            assert str(made[key].meta["filename_or_obj"]).endswith(f"{name}.nii.gz")
        assert not any("unpadded" in str(key) for key in made)


@pytest.mark.parametrize("degrees", [45, 90, 180])
def test_masks_turn_with_their_crops(folder: Path, degrees: int) -> None:
    """An image that is white where it is not padded: rotated, it is white where the mask says so."""
    hu = np.full((SIZE, SIZE, 1), -1000, np.int16)
    hu[14:40] = 400
    nib.save(nib.Nifti1Image(hu, np.diag([-0.5, -0.5, 1.0, 1.0])), folder / "a.nii.gz")
    made = preprocessing(["image"], 32, (degrees,))(crops(folder, "training")[0])
    np.testing.assert_array_equal(made["image_real"], np.asarray(made["image"]) > 0.997)
    assert 0 < made["image_real"].sum() < 32 * 32


def test_a_dataset_without_padding_is_as_ever(folder: Path, tmp_path: Path) -> None:
    """No key, no mask, and of padded crops the same pixels to the bit, in every rotation."""
    plain = without(folder, tmp_path / "plain")
    assert not any("unpadded" in key for item in (*pairs(plain, "training"), *crops(plain, "training")) for key in item)
    for degrees in (0, 45, 90):
        load = preprocessing(["image"], 32, (degrees,))
        for one, other in zip(crops(folder, "training"), crops(plain, "training"), strict=True):
            marked, bare = load(one), load(other)
            assert torch.equal(marked["image"].as_tensor(), bare["image"].as_tensor()) and real_key("image") not in bare
            assert marked["image"].meta["original_affine"] == pytest.approx(bare["image"].meta["original_affine"])


def test_boxes_are_told_of_all_crops_or_of_none() -> None:
    datalist = {"unpadded": {"a": [1, 9, 0, 9]}}
    assert boxes(datalist, {"image": "a"}) == {"image_unpadded": [1, 9, 0, 9]}
    assert boxes(datalist, {"image": "b"}) == {"image_unpadded": None} and boxes({}, {"image": "a"}) == {}
    assert mask(None, torch.zeros(1, 9, 9)).all() and mask([1, 9, 0, 9], torch.zeros(1, 9, 9)).sum() == 72


def test_padded_targets_are_not_known(folder: Path) -> None:
    items = Dataset(crops(folder, "training"), preprocessing(["image"], 32))
    batch: Any = next(iter(DataLoader(items, batch_size=6)))
    image, target = prepare_crop_batch(batch, "cpu")
    assert image.isfinite().all() and target.keys() == {"image", "attributes", "malignant"}
    names = [Path(item["image"]).name[0] for item in crops(folder, "training")]
    for known, name in zip(~target["image"].isnan(), names, strict=True):
        np.testing.assert_array_equal(known[0], expected(name))


class Averaging(nn.Module):
    """Stands for an autoencoder: a latent is the mean of four by four pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def latent_size(self, image_size: int) -> int:
        return image_size // 4

    def encode_stage_2_inputs(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 4).repeat(1, 2, 1, 1)


def test_latents_of_padding_are_not_known(folder: Path) -> None:
    """Of a latent at least half must be an image: by hand, of blocks of four by four."""
    dataset = LatentDataset(pairs(folder, "training"), ["baseline", "follow_up"], Averaging(), 32)
    assert not any("unpadded" in key for key in dataset[0])
    batch: Any = next(iter(DataLoader(dataset, batch_size=3)))
    latents, target, _, _ = LatentPrepareBatch(image_key="follow_up", concat_key="baseline", fixed=True)(batch, "cpu")
    assert latents.isfinite().all() and target.shape == latents.shape == (3, 2, 8, 8)
    for known, name in zip(~target.isnan(), "bac", strict=True):
        share = expected(name).reshape(8, 4, 8, 4).mean(axis=(1, 3))
        np.testing.assert_array_equal(known, np.stack([share >= 0.5] * 2))


def test_latents_turn_with_their_masks(folder: Path) -> None:
    dataset = LatentDataset(crops(folder, "training")[:1], ["image"], Averaging(), 32, rotations=(0, 90))
    torch.manual_seed(0)
    drawn = {tuple(dataset[0]["image_real"].flatten().tolist()) for _ in range(20)}
    share = expected("a").reshape(8, 4, 8, 4).mean(axis=(1, 3)) >= 0.5
    turned = [tuple(np.rot90(share, times).ravel().tolist()) for times in (0, 1, 3)]
    assert len(drawn) == 2 and turned[0] in drawn and drawn & set(turned[1:])


def test_padding_of_crops_by_other_paths_is_refused(folder: Path) -> None:
    """As where a script has made paths absolute: nothing would be masked, and padding be learnt."""
    datalist = json.loads((folder / "datalist.json").read_text())
    for case in datalist["training"]:
        case |= {key: str(folder / case[key]) for key in ("baseline", "follow_up")}
    (folder / "datalist.json").write_text(json.dumps(datalist))
    with pytest.raises(DatalistError, match=r"datalist.json: unpadded knows 2 crops .first: a.nii.gz., but none"):
        pairs(folder, "training")
