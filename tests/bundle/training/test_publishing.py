"""What a stage leaves to the next."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import Dataset
from safetensors.torch import load_file

from scripts.data.datalist import crops
from scripts.data.transforms import preprocessing
from scripts.weights.checkpoints import read_metadata
from tests.bundle.training.helpers import load


def test_latent_scale_makes_the_training_latents_unit_variance(trained: Path, tiny_dataset: Path) -> None:
    from scripts.weights.checkpoints import load_network

    autoencoder = load_network(trained / "models" / "autoencoder.safetensors")
    dataset = Dataset(crops(tiny_dataset, "training"), preprocessing(["image"], 32))
    images = torch.stack([item["image"].as_tensor() for item in dataset])
    with torch.no_grad():
        latents = autoencoder.encode_stage_2_inputs(images)
    assert len(images) == 13 and latents.std().item() == pytest.approx(1.0, abs=1e-4)
    assert autoencoder.latent_scale.item() != 1.0


@pytest.mark.parametrize("stage", ["autoencoder", "unconditional", "conditional", "classifier"])
def test_what_is_published_is_the_best_average(trained: Path, stage: str) -> None:
    best = load(trained / stage / "best.pt")
    name, key, prefix = {
        "autoencoder": ("autoencoder", "network", "autoencoder."),
        "classifier": ("classifier", "network", ""),
    }.get(stage, (f"unet_{stage}", "unet", ""))
    published = load_file(trained / "models" / f"{name}.safetensors")
    assert {prefix + part for part in published} <= best[key].keys()
    assert all(torch.equal(best[key][prefix + part], published[part]) for part in published if part != "latent_scale")
    extra = read_metadata(trained / "models" / f"{name}.safetensors")["extra"]
    assert extra == {"epoch": best["progress"]["best_epoch"], "val_loss": best["progress"]["best_value"]}
    assert math.isfinite(extra["val_loss"])


def test_published_prompts_are_the_best_ones(trained: Path) -> None:
    best = load(trained / "conditional" / "best.pt")["conditioner"]
    folder = trained / "models" / "conditioner"
    for index, prompts in enumerate(best["prompts"]):
        saved = load_file(folder / f"set_{index}" / "adapter_model.safetensors")["prompt_embeddings"]
        assert torch.equal(saved, prompts)
    statistics = load_file(folder / "context_statistics.safetensors")
    assert torch.equal(statistics["mean"], best["normaliser.mean"]) and torch.equal(
        statistics["std"], best["normaliser.std"]
    )


def test_a_run_shorter_than_its_validation_interval_is_validated_at_its_end(
    make_workflow: Callable[..., Any], tmp_path: Path
) -> None:
    make_workflow("train_classifier", tmp_path, "small", max_epochs=2, val_interval=5).run()
    assert read_metadata(tmp_path / "models" / "classifier.safetensors")["extra"]["epoch"] == 2
