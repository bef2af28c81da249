"""What the tests of diffusion share."""

from __future__ import annotations

import pytest
import torch

from scripts.diffusion.denoiser import Denoiser
from scripts.diffusion.sampler import ProgressionModel
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.unet import StableDiffusionUNet
from tests.bundle.diffusion.helpers import (
    Reader,
)


@pytest.fixture(scope="session")
def model() -> ProgressionModel:
    """Real networks, tiny and random."""
    torch.manual_seed(0)
    autoencoder = StableDiffusionAutoencoder(channels=(8, 8, 16), num_res_blocks=1, norm_num_groups=4)
    unet = StableDiffusionUNet(in_channels=8, channels=(8, 16), context_dim=6, num_heads=2, norm_num_groups=4)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return ProgressionModel(autoencoder, Denoiser(unet, Reader())).eval()
