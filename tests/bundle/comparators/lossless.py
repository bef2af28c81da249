"""A latent space that loses nothing, so that what a method learns in it can be told from what an autoencoder does."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.bundle.comparators.toy import Pairs


class Lossless(nn.Module):
    """Squares of pixels as channels, scaled to the discs' spread.

    Args:
        side: of a square, in pixels.
    """

    def __init__(self, side: int = 4) -> None:
        super().__init__()
        self.side, self.latent_channels = side, side**2
        self.config: dict[str, Any] = {"side": side}
        self.register_buffer("latent_scale", torch.tensor(2.0))

    def latent_size(self, image_size: int) -> int:
        return image_size // self.side

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = F.pixel_unshuffle(x, self.side)
        return mean, torch.zeros_like(mean)

    def encode_stage_2_inputs(self, x: Tensor) -> Tensor:
        return self.encode(x)[0] * self.latent_scale

    def decode_stage_2_outputs(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(z / self.latent_scale, self.side)

    def latents(self, pairs: Pairs) -> Pairs:
        """Pairs whose images are latents."""
        return Pairs(*(self.encode_stage_2_inputs(each) for each in pairs[:2]), pairs.conditions)
