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
