"""The autoencoder: the published shape, and its own promises. What it computes: ``weights/test_pretrained.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from scripts.errors import UserError
from scripts.networks.autoencoder import AlignedAutoencoder, StableDiffusionAutoencoder
from tests.bundle.helpers import count, rebuilt, renamed, shapes, stirred

AUTOENCODER = {"channels": (8, 16, 16), "num_res_blocks": 2, "norm_num_groups": 4}


def diffusers_autoencoder(channels: tuple[int, ...], groups: int, colours: int = 3) -> AutoencoderKL:
    """Stable Diffusion 1.5's `vae/config.json` but for the width."""
    return AutoencoderKL(
        in_channels=colours,
        out_channels=colours,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=groups,
    )


def test_default_shape_is_stable_diffusion_15s() -> None:
    """Every tensor, without the memory: names after renaming, and shapes; but for the colours."""
    with torch.device("meta"):
        autoencoder = StableDiffusionAutoencoder()
        theirs = diffusers_autoencoder((128, 256, 512, 512), groups=32)
    assert count(theirs) == 83_653_863, "the published network"
    colours = {"encoder.conv_in.weight", "decoder.conv_out.weight", "decoder.conv_out.bias"}
    ours, grey = renamed(autoencoder), shapes(theirs.state_dict())
    assert ours.keys() == grey.keys() and {name for name in ours if ours[name] != grey[name]} == colours
    assert count(autoencoder) == 83_653_863 - 2 * 128 * 9 - 2 * (128 * 9 + 1), "two colours fewer in, two fewer out"


@torch.no_grad()
def test_latent_scale_is_applied_once_each_way_and_travels_with_the_weights() -> None:
    autoencoder = stirred(StableDiffusionAutoencoder(**AUTOENCODER))
    image = torch.rand(2, 1, 32, 32) * 2 - 1
    plain = autoencoder.encode_stage_2_inputs(image)
    assert torch.equal(plain, autoencoder.encode(image)[0])
    reconstruction = autoencoder.decode(plain)
    autoencoder.latent_scale.fill_(4.0)
    scaled = autoencoder.encode_stage_2_inputs(image)
    assert torch.equal(scaled, 4.0 * plain)
    assert torch.equal(autoencoder.decode_stage_2_outputs(scaled), reconstruction)
    other = StableDiffusionAutoencoder(**AUTOENCODER)
    other.load_state_dict(autoencoder.state_dict())
    assert other.latent_scale.item() == 4.0


@torch.no_grad()
def test_aligned_autoencoder_decodes_and_probes_a_sampled_latent() -> None:
    network = AlignedAutoencoder(StableDiffusionAutoencoder(channels=(8, 8, 8, 8), norm_num_groups=4))
    stirred(network)
    image = torch.rand(3, 1, 64, 64) * 2 - 1
    torch.manual_seed(5)
    output = network(image)
    assert network.autoencoder.compression == 8 and network.probe.in_features == 4 * 8 * 8
    sizes = {name: tuple(value.shape) for name, value in output.items()}
    spatial = dict.fromkeys(("mean", "std", "latent"), (3, 4, 8, 8))
    assert sizes == {"reconstruction": (3, 1, 64, 64), "logit": (3, 1), **spatial}
    torch.manual_seed(5)
    latent = output["mean"] + output["std"] * torch.randn_like(output["std"])
    torch.testing.assert_close(output["latent"], latent)
    torch.testing.assert_close(output["reconstruction"], network.autoencoder.decode(latent))
    weight, bias = network.probe.weight[0].view(4, 8, 8), network.probe.bias[0]
    torch.testing.assert_close(output["logit"][:, 0], (latent * weight).sum(dim=(1, 2, 3)) + bias)


@pytest.mark.parametrize("size", [0, 4, 60, 65, -8])
def test_sizes_that_cannot_be_halved_often_enough_are_refused(size: int) -> None:
    """Of 60 pixels, the decoder would make 56; below 8, the probe would have no inputs."""
    autoencoder = StableDiffusionAutoencoder(channels=(8, 8, 8, 8), num_res_blocks=1, norm_num_groups=4)
    assert [autoencoder.latent_size(good) for good in (8, 24, 64)] == [1, 3, 8]
    with pytest.raises(UserError, match=f"image_size is {size}, expected a multiple of 8"):
        AlignedAutoencoder(autoencoder, size)


def test_config_rebuilds_the_network(tmp_path: Path) -> None:
    rebuilt(StableDiffusionAutoencoder(**AUTOENCODER), tmp_path)
