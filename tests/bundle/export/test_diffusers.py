"""diffusers opens what we export, and computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

from scripts.diffusion.schedules import sampling_scheduler
from scripts.export.diffusers import export_diffusers
from scripts.networks.autoencoder import LatentAutoencoder, StableDiffusionAutoencoder
from scripts.networks.unet import StableDiffusionUNet
from scripts.weights.checkpoints import CheckpointError, read_metadata, save_network
from scripts.weights.pretrained import convert_published, initial_autoencoder, initial_unet

AUTOENCODER: dict[str, Any] = {"channels": (8, 16, 16), "num_res_blocks": 1, "norm_num_groups": 4}
UNET: dict[str, Any] = {"channels": (16, 32, 32), "num_res_blocks": 2, "num_heads": 2, "norm_num_groups": 4}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    """Our networks with no parameter at zero or one, and the folder for diffusers."""
    torch.manual_seed(0)
    autoencoder = StableDiffusionAutoencoder(**AUTOENCODER)
    unet = StableDiffusionUNet(in_channels=8, context_dim=12, prediction_type="v_prediction", **UNET)
    with torch.no_grad():
        for parameter in [*autoencoder.parameters(), *unet.parameters()]:
            parameter.add_(0.05 * torch.randn_like(parameter))
    autoencoder.latent_scale.fill_(0.625)
    folder = tmp_path_factory.mktemp("models")
    save_network(autoencoder, folder / "autoencoder.safetensors")
    save_network(unet, folder / "unet_conditional.safetensors")
    export_diffusers(folder, folder / "out" / "diffusers")
    return autoencoder.eval(), unet.eval(), folder / "out" / "diffusers"


@torch.no_grad()
def test_diffusers_computes_the_same(exported: tuple[Any, Any, Path]) -> None:
    autoencoder, unet, folder = exported
    their_autoencoder = AutoencoderKL.from_pretrained(folder / "vae")
    their_unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    image, latent = torch.rand(2, 1, 32, 32) * 2 - 1, torch.randn(2, 8, 8, 8)
    steps, context = torch.tensor([3, 900]), torch.randn(2, 2, 12)
    scale = their_autoencoder.config["scaling_factor"]
    scaled = their_autoencoder.encode(image).latent_dist.mean * scale
    torch.testing.assert_close(autoencoder.encode_stage_2_inputs(image), scaled, rtol=1e-5, atol=1e-6)
    crop = their_autoencoder.decode(scaled / scale).sample
    torch.testing.assert_close(autoencoder.decode_stage_2_outputs(scaled), crop, rtol=1e-5, atol=1e-5)
    noise = their_unet(latent, steps, context).sample
    assert noise.std() > 0.05
    torch.testing.assert_close(unet(latent, steps, context), noise, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_fifty_steps_of_diffusers_reach_our_sample(exported: tuple[Any, Any, Path]) -> None:
    _, unet, folder = exported
    their_unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    theirs, ours = DDIMScheduler.from_pretrained(folder / "scheduler"), sampling_scheduler(50, unet.prediction_type)
    theirs.set_timesteps(50)
    assert theirs.timesteps.tolist() == ours.timesteps.tolist()
    torch.manual_seed(1)
    baseline, context = torch.randn(1, 4, 8, 8), torch.randn(1, 2, 12)
    mine = other = torch.randn(1, 4, 8, 8)
    for step in ours.timesteps:
        mine = ours.step(unet(torch.cat([mine, baseline], 1), step[None], context), int(step), mine)[0]
        predicted = their_unet(torch.cat([other, baseline], 1), step, context).sample
        other = theirs.step(predicted, step, other).prev_sample
    assert float((mine - other).abs().max() / other.abs().max()) < 1e-5


def test_there_and_back_again(exported: tuple[Any, Any, Path]) -> None:
    autoencoder, unet, folder = exported
    again = initial_autoencoder(AUTOENCODER, folder), initial_unet({**UNET, "in_channels": 8}, 12, folder)
    for before, after in zip((autoencoder, unet), again, strict=True):
        state = after.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in before.state_dict().items())
        assert after.config == before.config


def test_the_way_back_by_the_import(exported: tuple[Any, Any, Path], tmp_path: Path) -> None:
    """What the U-Net predicts comes back from the scheduler's file."""
    _, unet, folder = exported
    convert_published(folder, tmp_path, AUTOENCODER, {**UNET, "in_channels": 8, "context_dim": 12})
    assert read_metadata(tmp_path / "unet_unconditional.safetensors")["config"] == unet.config
    assert unet.prediction_type == "v_prediction"


def test_nothing_is_overwritten_and_nothing_left_half(exported: tuple[Any, Any, Path], tmp_path: Path) -> None:
    models = exported[2].parents[1]
    with pytest.raises(CheckpointError, match="diffusers: is there already"):
        export_diffusers(models, exported[2])
    with pytest.raises(CheckpointError, match="unet_unconditional.safetensors: no such weights file"):
        export_diffusers(models, tmp_path / "new", unet="unet_unconditional")
    assert not list(tmp_path.iterdir())


def test_a_network_that_diffusers_has_not(exported: tuple[Any, Any, Path], tmp_path: Path) -> None:
    save_network(LatentAutoencoder((8, 8), 1, norm_num_groups=4), tmp_path / "autoencoder.safetensors")
    with pytest.raises(CheckpointError, match="holds a LatentAutoencoder, expected a StableDiffusionAutoencoder"):
        export_diffusers(tmp_path, tmp_path / "out")
