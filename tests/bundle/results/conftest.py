"""A cohort that is large enough for percentiles, weights for it, and what is published of it."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.comparators.direct import DirectClassifier
from scripts.comparators.record import record_regression
from scripts.comparators.regression import RecordRegression
from scripts.data.datalist import inference_items
from scripts.data.digest import digest_dataset
from scripts.files import write_json
from scripts.networks.classifiers import ResNetClassifier
from scripts.predictions import case_provenance, provenance
from scripts.results.case import Results
from scripts.results.write import write_results
from scripts.weights.checkpoints import load_network, read_metadata, save_network
from tests.bundle.helpers import CONFIGS

SIZE, RUNS, FOLDS = 32, 3, 2
STAGES = ("autoencoder", "unet_conditional", "classifier")
"""Whose weights say on which dataset they were trained."""

Predict = Callable[[Path, Path, Sequence[dict[str, Any]]], dict[str, Any]]
"""Writes random follow-ups of items into a folder as if the weights of another had made them; gives their settings."""


def disc(radius: float, noise: np.random.Generator) -> np.ndarray:
    """A nodule in lung, in HU, at 1 mm a pixel."""
    x, y = np.mgrid[-16:16, -16:16]
    return np.where(np.hypot(x, y) < radius, 30.0, -850.0) + noise.normal(0, 20, (SIZE, SIZE))


def follow_ups(case_id: str) -> np.ndarray:
    """The runs (R, H, W) of a case in whole HU, as :data:`Predict` writes them: of each case its own."""
    noise = np.random.default_rng(zlib.crc32(case_id.encode()))
    radii = noise.uniform(-1.5, 1.5) + np.array([4.0, 5.0, 6.0])
    return np.stack([disc(radius, noise) for radius in radii]).astype(np.int16)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120, 40 and 2 cases, two a patient, each with its own age and diameter; the outcome follows the diameter."""
    folder, noise = tmp_path_factory.mktemp("cohort"), np.random.default_rng(0)

    def crop(name: str, radius: float) -> str:
        image = nib.Nifti1Image(disc(radius, noise)[..., None].astype(np.int16), np.diag([-1.0, -1.0, 2.0, 1.0]))
        nib.save(image, folder / name)
        return name

    def case(index: int) -> dict[str, Any]:
        long = float(np.round(noise.uniform(5, 14), 4))
        ehr = {"sct_long_dia": long, "sct_perp_dia": round(0.9 * long, 4), "age": round(noise.uniform(55, 75), 4)}
        ehr |= {"gender": 1 + index % 2, "sct_margins": 1 + index % 3, "sct_pre_att": 1}
        return {
            **{"case_id": f"c{index}", "patient_id": f"p{index // 2}", "ehr": ehr, "interval_days": 350 + index % 30},
            **{"baseline": crop(f"{index}_0.nii", long / 2), "follow_up": crop(f"{index}_1.nii", long / 2 + 0.5)},
            "malignant": int(long + noise.normal(0, 3) > 10),
        }

    cases = [case(index) for index in range(162)]
    sections = {"training": cases[:120], "validation": cases[120:160], "test": cases[160:]}
    (folder / "datalist.json").write_text(json.dumps({"name": "discs", "simulated": "all of it", **sections}))
    return folder


@pytest.fixture(scope="session")
def predict(tiny_settings: dict[str, Any]) -> Predict:
    arguments = tiny_settings["conditioner_arguments"]

    def write(models: Path, folder: Path, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        settings = {"num_runs": RUNS, "num_steps": 12, "solver": "dpmpp", "guidance_scale": 6.0, "image_size": SIZE}
        made_by = provenance(models, **settings, conditioner_arguments=arguments)
        for item in items:
            runs = np.moveaxis(follow_ups(item["case_id"]), 0, -1)
            (folder / item["case_id"]).mkdir(parents=True, exist_ok=True)
            image = nib.Nifti1Image(runs[:, :, None], np.diag([-1.0, -1.0, 2.0, 1.0]))
            nib.save(image, folder / item["case_id"] / "samples.nii.gz")
            made = case_provenance(made_by, item["image"], item["report"])
            write_json(folder / item["case_id"] / "provenance.json", made)
        return made_by

    return write


def say_trained_on(models: Path, dataset: str, stages: Sequence[str] = STAGES) -> None:
    """Writes weights again, with records that name a dataset by its digest."""
    for stage in stages:
        path = models / f"{stage}.safetensors"
        extra = read_metadata(path)["extra"]
        save_network(load_network(path), path, extra | {"record": extra["record"] | {"dataset": dataset}})


@pytest.fixture(scope="package")
def weights(trained: Path, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny weights, whose records name this dataset in the place of theirs, and a direct classifier."""
    folder = tmp_path_factory.mktemp("weights")
    shutil.copytree(trained / "models", folder / "models")
    say_trained_on(folder / "models", digest_dataset(cohort))
    regression = RecordRegression.of(record_regression(cohort, FOLDS))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        direct = DirectClassifier(ResNetClassifier(SIZE, (4, 4, 8, 8)), regression)
    direct.save(folder / "direct.safetensors", extra={"record": {"dataset": digest_dataset(cohort)}})
    return folder


@pytest.fixture(scope="package")
def published(
    cohort: Path,
    weights: Path,
    predict: Predict,
    monai: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder of weights with all that is published for single cases, by the command. Copy it to write to it."""
    folder = tmp_path_factory.mktemp("published")
    shutil.copytree(weights / "models", folder / "models")
    predict(folder / "models", folder / "predictions", inference_items(cohort, "validation", image_size=SIZE))
    (folder / "baselines").mkdir()
    shutil.copy(weights / "direct.safetensors", folder / "baselines" / "direct_classifier_23.safetensors")
    files = ("--config_file", CONFIGS / "publish_reference.yaml", "--dataset_dir", cohort, "--output_dir", folder)
    monai("run", *files, "--folds", FOLDS, "--resamples", 100)
    return folder / "models"


@pytest.fixture(scope="package")
def written(cohort: Path, published: Path, predict: Predict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of the test section with their results. Copy it to write to it."""
    folder = tmp_path_factory.mktemp("written") / "predictions"
    items = inference_items(cohort, "test", image_size=SIZE)
    write_results(folder, items, Results(published, predict(published, folder, items)))
    return folder
