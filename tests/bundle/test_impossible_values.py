"""Sizes that networks or crops cannot have, and crops without values: every stage refuses them by name, before work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.errors import UserError
from tests.bundle import helpers
from tests.bundle.conftest import MakeWorkflow

STAGES = ("train_autoencoder", "train_unconditional", "train_conditional", "train_classifier")


def refusal(make_workflow: MakeWorkflow, name: str, folder: Path, **settings: Any) -> str:
    """The message with which a stage is refused, in one line; nothing but logs of its start may have been written."""
    with pytest.raises(Exception) as raised:  # noqa: B017
        make_workflow(name, folder, "small", **settings).run()
    error: BaseException | None = raised.value
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    assert error is not None, raised.value
    assert not [path for path in folder.rglob("*") if path.suffix in (".pt", ".gz", ".png", ".html")]
    assert "\n" not in str(error)
    return str(error)


def spoiled(dataset: Path, folder: Path, name: str, value: float = np.nan) -> Path:
    """A copy of a dataset, one of whose crops has a value that is not finite."""
    copy = shutil.copytree(dataset, folder / "dataset")
    crop = nib.load(copy / name)
    pixels = np.array(crop.dataobj, np.float32)
    pixels[60, 60] = value
    nib.save(nib.Nifti1Image(pixels, crop.affine), copy / name)
    return copy


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """An output folder with weights and no more."""
    shutil.copytree(trained / "models", tmp_path / "run" / "models")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (30, "image_size is 30, expected a multiple of 4"),  # by the autoencoder's levels
        (0, "image_size is 0, expected"),
        (2, "image_size is 2, expected a multiple of 4"),  # no input would be left for the probe
        (136, ".nii.gz: has 128 x 128 px, fewer than image_size, which is 136"),
    ],
)
def test_a_size_that_the_autoencoder_or_crops_cannot_have(
    make_workflow: MakeWorkflow, tmp_path: Path, size: int, expected: str
) -> None:
    assert expected in refusal(make_workflow, "train_autoencoder", tmp_path, image_size=size)


def test_a_size_that_the_unet_cannot_have(make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """Of 36 px: the autoencoder's two levels can halve them, the U-Net's another one cannot."""
    make_workflow("train_autoencoder", tmp_path, "small", image_size=36, max_epochs=1).run()
    shutil.rmtree(tmp_path / "autoencoder")
    message = refusal(make_workflow, "train_unconditional", tmp_path, image_size=36)
    assert "image_size gives latents of 9 x 9, but the U-Net's 2 levels expect a multiple of 2" in message


@pytest.mark.parametrize(
    ("size", "network", "expected"),
    [
        (30, "ViTClassifier", "image_size is 30, expected a multiple of patch_size, which is 8"),
        (136, "ViTClassifier", "has 128 x 128 px, fewer than image_size, which is 136"),
    ],
)
def test_a_size_that_the_classifier_or_crops_cannot_have(
    make_workflow: MakeWorkflow, tmp_path: Path, size: int, network: str, expected: str
) -> None:
    settings = {
        "image_size": size,
        "classifier_network": network,
        "classifier_shape": {"hidden_size": 16, "num_layers": 1, "num_heads": 2},
    }
    assert expected in refusal(make_workflow, "train_classifier", tmp_path, **settings)


@pytest.mark.parametrize("size", [30, 0, 36, 136])
@pytest.mark.parametrize("stage", ["train_unconditional", "train_conditional", "inference"])
def test_later_stages_refuse_any_other_size(make_workflow: MakeWorkflow, run: Path, stage: str, size: int) -> None:
    assert f"image_size is {size}" in refusal(make_workflow, stage, run, image_size=size)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_inference_refuses_a_crop_without_values(
    make_workflow: MakeWorkflow, run: Path, tiny_dataset: Path, tmp_path: Path, value: float
) -> None:
    """The last case of the section: those before it are not generated either."""
    dataset = spoiled(tiny_dataset, tmp_path, "11_t0.nii.gz", value)
    message = refusal(make_workflow, "inference", run, dataset_dir=str(dataset))
    assert "11_t0.nii.gz: 1 of 16384 pixels are NaN or infinite" in message


@pytest.mark.parametrize("stage", STAGES)
def test_training_refuses_it_too(
    make_workflow: MakeWorkflow, run: Path, tiny_dataset: Path, tmp_path: Path, stage: str
) -> None:
    dataset = spoiled(tiny_dataset, tmp_path, "3_t1.nii.gz")
    message = refusal(make_workflow, stage, run, dataset_dir=str(dataset))
    assert "3_t1.nii.gz: 1 of 16384 pixels are NaN or infinite" in message


def test_evaluation_refuses_it(make_workflow: MakeWorkflow, trained: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    """And so does inference, as its predictions could not be evaluated."""
    folder = shutil.copytree(trained, tmp_path / "run")
    make_workflow("inference", folder).run()
    dataset = spoiled(tiny_dataset, tmp_path, "9_t1.nii.gz")
    for command in ("inference", "evaluate"):
        message = helpers.refusal(lambda name=command: make_workflow(name, folder, dataset_dir=str(dataset)).run())
        assert "9_t1.nii.gz: 1 of 16384 pixels" in message and not (folder / "evaluation").exists()
