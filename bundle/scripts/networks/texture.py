"""The texture that an autoencoder loses: what crops have at frequencies that its latents do not carry, as noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scripts.arrays import Array

STEPS = 32
"""Steps of frequency to a cycle a pixel."""


def lost_power(crops: Tensor, reconstructions: Tensor) -> list[float]:
    """The power that crops have more than their reconstructions, by frequency; zero where those keep half of it.

    Args:
        crops, reconstructions: (N, 1, H, W).

    Returns:
        Power from no cycle a pixel on, in steps of 1 / :data:`STEPS`, to the highest frequency there is; that of white
        noise is its variance.
    """
    real, kept = power(crops), power(reconstructions)
    return np.where(kept < real / 2, real - kept, 0.0).tolist()


def power(images: Tensor) -> Array:
    """The mean power of images (N, 1, H, W) under a Hann window, averaged over directions, see :func:`lost_power`."""
    height, width = images.shape[-2:]
    window = torch.outer(torch.hann_window(height, False), torch.hann_window(width, False)).to(images)
    spectrum = torch.fft.fft2(images * window).abs().square().mean(dim=(0, 1)) / window.square().sum()
    place = (STEPS * _frequencies(height, width)).round().long().flatten()
    found = torch.bincount(place).numpy()
    total = torch.bincount(place, weights=spectrum.flatten().double().cpu()).numpy()
    known = np.flatnonzero(found)  # small images lack some steps
    return np.interp(np.arange(len(found)), known, total[known] / found[known])


def coloured(noise: Tensor, spectrum: Sequence[float]) -> Tensor:
    """White noise (.., H, W) with the power of :func:`lost_power` at each frequency.

    >>> torch.manual_seed(0).initial_seed()
    0
    >>> f"{coloured(torch.randn(100, 1, 32, 32), [0.0] * 12 + [4.0] * 12).std():.1f}"
    '1.5'
    """
    steps = STEPS * _frequencies(*noise.shape[-2:])
    amplitude = np.interp(steps.numpy(), np.arange(len(spectrum)), np.sqrt(spectrum))
    return torch.fft.ifft2(torch.fft.fft2(noise) * torch.as_tensor(amplitude).to(noise)).real


def _frequencies(height: int, width: int) -> Tensor:
    """Cycles a pixel of each place in a spectrum (H, W)."""
    return torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None])
