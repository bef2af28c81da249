"""The noise that a sample starts from: each case's own."""

from __future__ import annotations

import pytest
import torch

from scripts.diffusion.sampler import ProgressionInferer, ProgressionModel
from tests.bundle.diffusion.helpers import (
    REPORTS,
    crops,
    generate,
    toy,
)


def test_runs_cases_and_seeds_have_their_own_noise() -> None:
    """Independent standard normal numbers: no two of them correlate."""
    noise = []
    for seed in (23, 24):
        network = toy()
        ProgressionInferer(1, num_runs=4, seed=seed)(crops(2, 32), network)
        noise.append(network.denoiser.unet.seen[0][:, :4])
    rows = torch.cat(noise).flatten(1)
    assert rows.shape == (16, 4 * 32 * 32)
    correlation = torch.corrcoef(rows) - torch.eye(16)
    assert correlation.abs().max() < 0.08
    assert rows.mean().item() == pytest.approx(0.0, abs=0.02) and rows.std().item() == pytest.approx(1.0, abs=0.02)


def test_noise_depends_on_the_seed_alone(model: ProgressionModel) -> None:
    """Neither on the global generator nor does it touch it; and equal seeds give equal samples."""
    torch.manual_seed(1)
    first = generate(model, crops(1), REPORTS[:1])
    after = torch.random.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(after, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(generate(model, crops(1), REPORTS[:1]), first)
    assert not torch.allclose(generate(model, crops(1), REPORTS[:1], seed=24), first, atol=1e-2)


def test_rounding_of_pixels_does_not_change_the_noise() -> None:
    noise = []
    for shift in (0.0, 1e-7):
        network = toy()
        ProgressionInferer(1, num_runs=1)(torch.full((1, 1, 8, 8), 0.25) + shift, network)
        noise.append(network.denoiser.unet.seen[0][:, :4])
    assert torch.equal(*noise)
