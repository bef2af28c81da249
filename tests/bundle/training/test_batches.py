"""Batches as MONAI's engines take them: noise, timesteps, targets."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.networks.unet import PREDICTION_TYPES
from scripts.training.batches import LatentPrepareBatch, prepare_baseline_batch, prepare_crop_batch
from scripts.weights.checkpoints import save_network
from tests.bundle.conftest import MakeWorkflow
from tests.bundle.diffusion.helpers import (
    diffusers_ddim,
)


def test_crop_batch() -> None:
    batch = {"image": torch.rand(2, 1, 4, 4), "attributes": torch.rand(2, 5), "malignant": torch.rand(2), "x": ["a"]}
    image, target = prepare_crop_batch(batch, "cpu")
    assert torch.equal(image, batch["image"]) and target.keys() == {"image", "attributes", "malignant"}


def test_baseline_batch_takes_the_report_as_condition() -> None:
    image, label, arguments, keywords = prepare_baseline_batch({"image": torch.rand(2, 1, 4, 4), "report": ["a", "b"]})
    assert image.shape == (2, 1, 4, 4) and label is None and arguments == ()
    assert keywords == {"condition": ["a", "b"]}


def test_training_noise_is_drawn_and_validation_noise_is_fixed() -> None:
    batch = {"follow_up": torch.rand(8, 4, 4, 4), "baseline": torch.rand(8, 4, 4, 4), "report": ["r"] * 8}
    torch.manual_seed(0)
    drawn = LatentPrepareBatch(concat_key="baseline", condition_key="report")
    first, second = drawn(batch, "cpu"), drawn(batch, "cpu")
    for latents, target, _, keywords in (first, second):
        assert torch.equal(latents, batch["follow_up"]) and torch.equal(target, keywords["noise"])
        assert torch.equal(keywords["concat"], batch["baseline"]) and keywords["condition"] == batch["report"]
    assert not torch.equal(first[1], second[1]) and not torch.equal(first[3]["timesteps"], second[3]["timesteps"])

    fixed = LatentPrepareBatch(fixed=True)
    state = torch.get_rng_state()
    one, other = fixed(batch, "cpu")[3], fixed(batch, "cpu")[3]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one["noise"], other["noise"]) and one["concat"] is None and one["condition"] is None
    assert sorted(one["timesteps"].tolist()) == [62, 187, 312, 437, 562, 687, 812, 937]
    assert torch.equal(one["timesteps"], other["timesteps"])


@pytest.mark.parametrize("count", [1, 2, 7, 14, 32])
def test_validation_timesteps_cover_the_schedule(count: int) -> None:
    steps = LatentPrepareBatch(fixed=True).get_timesteps(torch.zeros(count, 1)).tolist()
    assert sorted(steps) == [int((index + 0.5) * 1000 / count) for index in range(count)]


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_what_is_learnt_is_what_diffusers_learns(kind: str) -> None:
    """The target of training, noise or v, from which with the noisy latent the clean one comes back."""
    latent, noise, timesteps = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 499, 999])
    target = LatentPrepareBatch(prediction_type=kind).get_target(latent, noise, timesteps)
    theirs = diffusers_ddim(50)
    expected = noise if kind == "epsilon" else theirs.get_velocity(latent, noise, timesteps)
    torch.testing.assert_close(target, expected, atol=1e-5, rtol=1e-5)


def test_a_stage_learns_what_its_unet_predicts_by_its_schedule(
    make_workflow: MakeWorkflow, trained: Path, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    """In training and in validation, whose noise alone is fixed; the schedule comes with stage 2's first U-Net."""
    shutil.copytree(trained / "models", tmp_path / "models")
    shape = {**tiny_settings["unet_shape"], "beta_schedule": "linear"}
    betas = torch.linspace(0.00085, 0.012, 1000)
    for stage in ("unconditional", "conditional"):
        value = make_workflow(f"train_{stage}", tmp_path, "small", unet_shape=shape).parser.get_parsed_content
        for part, engine in (("train", "trainer"), ("validate", "evaluator")):
            prepare, inferer = value(f"{part}::{engine}::prepare_batch"), value(f"{part}::inferer")
            assert (prepare.prediction_type, prepare.fixed) == ("v_prediction", part == "validate")
            for scheduler in (prepare.scheduler, inferer.scheduler):
                torch.testing.assert_close(scheduler.betas, betas)
        save_network(value("network_def"), tmp_path / "models" / f"unet_{stage}.safetensors")
