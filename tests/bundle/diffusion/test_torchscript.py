"""TorchScript against the sampler."""

from __future__ import annotations

from pathlib import Path

import torch

from scripts.diffusion.sampler import ProgressionInferer
from scripts.diffusion.schedules import sampling_scheduler
from tests.bundle.deployed import deploy_network, deploy_parser


def test_torchscript_alone_generates_what_the_sampler_does(torchscript: Path, bundle: Path) -> None:
    """Its own ``forward``, from the same noise, in another batch size than it was traced with; and with a context."""
    network, parser = torch.jit.load(torchscript).eval(), deploy_parser(bundle)
    model = deploy_network(bundle, parser)
    crops = torch.rand(3, 1, 32, 32) * 2 - 1
    torch.manual_seed(5)
    images = network(crops)
    torch.manual_seed(5)
    noise = torch.randn_like(model.autoencoder.encode_stage_2_inputs(crops))
    expected = ProgressionInferer(num_runs=1)(crops, model, draw=lambda shape: noise)
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=0)
    assert len(network.steps) == len(sampling_scheduler().timesteps)
    assert "device(" not in network.denoiser.unet.code, "nothing in it is tied to the device where it was made"
    context = torch.randn(3, *model.denoiser.conditioner.normaliser.mean.shape)
    both = [ProgressionInferer(num_steps=3, num_runs=2)(crops, each, context) for each in (network, model)]
    torch.testing.assert_close(*both, atol=1e-4, rtol=0)
