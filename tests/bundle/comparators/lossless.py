"""A latent space that loses nothing, so that what a method learns in it can be told from what an autoencoder does."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 4
"""Pixels of a side that become channels."""


class Lossless(nn.Module):
    """Squares of 4 x 4 pixels as 16 channels, scaled to the discs' spread."""

    latent_channels = SIDE**2

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}
        self.register_buffer("latent_scale", torch.tensor(2.0))

    def latent_size(self, image_size: int) -> int:
        return image_size // SIDE

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = F.pixel_unshuffle(x, SIDE)
        return mean, torch.zeros_like(mean)

    def encode_stage_2_inputs(self, x: Tensor) -> Tensor:
        return self.encode(x)[0] * self.latent_scale

    def decode_stage_2_outputs(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(z / self.latent_scale, SIDE)
