"""The U-Net: the published shape, and its own promises. What it computes: ``weights/test_pretrained.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from scripts.errors import UserError
from scripts.networks.unet import StableDiffusionUNet
from tests.bundle.helpers import count, rebuilt, renamed, shapes

UNET = {"channels": (16, 32, 32), "num_res_blocks": 2, "num_heads": 2, "norm_num_groups": 4}


def diffusers_unet(channels: tuple[int, ...], heads: int, groups: int, context: int) -> UNet2DConditionModel:
    """Stable Diffusion 1.5's `unet/config.json` but for the width. Its "attention_head_dim" is the number of heads."""
    levels = len(channels) - 1
    return UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * levels + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * levels,
        block_out_channels=channels,
        layers_per_block=2,
        attention_head_dim=heads,
        cross_attention_dim=context,
        norm_num_groups=groups,
    )


def test_default_shape_is_stable_diffusion_15s() -> None:
    """Every tensor, without the memory: names after renaming, and shapes."""
    with torch.device("meta"):
        unet = StableDiffusionUNet(context_dim=768)
        theirs = diffusers_unet((320, 640, 1280, 1280), heads=8, groups=32, context=768)
    assert count(theirs) == 859_520_964, "the published network"
    assert renamed(unet) == shapes(theirs.state_dict())
    assert StableDiffusionUNet.__init__.__defaults__[2] == 2560, "MedGemma's hidden size"


def test_config_rebuilds_the_network(tmp_path: Path) -> None:
    rebuilt(StableDiffusionUNet(context_dim=12, in_channels=8, **UNET), tmp_path)


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(UserError, match="prediction_type is 'sample', expected epsilon or v_prediction"):
        StableDiffusionUNet(channels=(8, 8), norm_num_groups=4, prediction_type="sample")


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(UserError, match="beta_schedule is 'cosine', expected scaled_linear or linear"):
        StableDiffusionUNet(channels=(8, 8), norm_num_groups=4, beta_schedule="cosine")


@pytest.mark.parametrize(("size", "fits"), [(8, True), (4, True), (12, True), (6, False), (3, False)])
def test_latents_that_the_levels_cannot_halve_are_refused(size: int, fits: bool) -> None:
    """Those are the ones that the network itself cannot compute."""
    unet = StableDiffusionUNet(8, channels=(8, 8, 16), context_dim=4, num_res_blocks=1, num_heads=2, norm_num_groups=4)
    inputs = torch.zeros(1, 8, size, size), torch.tensor([1]), torch.zeros(1, 2, 4)
    if fits:
        unet.check_size(size)
        assert unet(*inputs).shape == (1, 4, size, size)
        return
    with pytest.raises(UserError, match=f"latents of {size} x {size}, but the U-Net's 3 levels expect a multiple of 4"):
        unet.check_size(size)
    with pytest.raises(RuntimeError):
        unet(*inputs)
