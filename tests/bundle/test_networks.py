"""The networks: the published shapes, and their own promises. What they compute: ``test_pretrained.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scripts.errors import UserError
from scripts.networks.autoencoder import AlignedAutoencoder, StableDiffusionAutoencoder
from scripts.networks.classifiers import ResNetClassifier, ViTClassifier
from scripts.networks.unet import StableDiffusionUNet
from scripts.weights.key_maps import DIFFUSERS, key_maps_of
from tests.bundle.helpers import stirred

AUTOENCODER = {"channels": (8, 16, 16), "num_res_blocks": 2, "norm_num_groups": 4}
UNET = {"channels": (16, 32, 32), "num_res_blocks": 2, "num_heads": 2, "norm_num_groups": 4}


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


def test_default_shapes_are_stable_diffusion_15s() -> None:
    """Every tensor of both networks, without the memory: names after renaming, and shapes."""
    with torch.device("meta"):
        unet, autoencoder = StableDiffusionUNet(context_dim=768), StableDiffusionAutoencoder()
        their_unet = diffusers_unet((320, 640, 1280, 1280), heads=8, groups=32, context=768)
        theirs = diffusers_autoencoder((128, 256, 512, 512), groups=32)
    assert count(their_unet) == 859_520_964 and count(theirs) == 83_653_863, "the published networks"
    assert renamed(unet) == shapes(their_unet.state_dict())
    colours = {"encoder.conv_in.weight", "decoder.conv_out.weight", "decoder.conv_out.bias"}
    ours, grey = renamed(autoencoder), shapes(theirs.state_dict())
    assert ours.keys() == grey.keys() and {name for name in ours if ours[name] != grey[name]} == colours
    assert count(autoencoder) == 83_653_863 - 2 * 128 * 9 - 2 * (128 * 9 + 1), "two colours fewer in, two fewer out"
    assert StableDiffusionUNet.__init__.__defaults__[2] == 2560, "MedGemma's hidden size"


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def renamed(network: nn.Module) -> dict[str, tuple[int, ...]]:
    state = shapes(network.state_dict())
    return {theirs: state[ours] for ours, theirs in key_maps_of(network)[DIFFUSERS].items()}


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


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


@pytest.mark.parametrize(
    "network",
    [
        ViTClassifier(image_size=32, hidden_size=32, num_layers=2, mlp_dim=32, num_heads=4),
        ResNetClassifier(32, (4, 8, 8, 16)),
    ],
    ids=lambda network: type(network).__name__,
)
@torch.no_grad()
def test_classifier_gives_one_logit_a_crop_and_depends_on_no_other_crop(network: Any) -> None:
    network = stirred(network).eval()
    crops = torch.rand(5, 1, 32, 32) * 2 - 1
    logits = network(crops)
    assert logits.shape == (5, 1) and logits.std() > 1e-3
    torch.testing.assert_close(network(crops[2:3]), logits[2:3])
    torch.testing.assert_close(network.head(network.features(crops)), logits)
    assert network.features(crops).shape == (5, network.width)
    with pytest.raises(UserError, match="crops of 1 x 32 x 32, these are 1 x 64 x 64"):
        network(torch.zeros(1, 1, 64, 64))


def test_default_classifier_is_the_authors() -> None:
    with torch.device("meta"):
        network = ViTClassifier()
    block = network.vit.blocks[0]
    assert len(network.vit.blocks) == 6 and block.mlp.linear1.weight.shape == (2048, 1024)
    assert network.vit.patch_embedding.position_embeddings.shape == (1, (64 // 8) ** 2, 1024)
    assert block.mlp.drop1.p == 0.5


@pytest.mark.parametrize(
    "network",
    [
        StableDiffusionAutoencoder(**AUTOENCODER),
        StableDiffusionUNet(context_dim=12, in_channels=8, **UNET),
        ViTClassifier(image_size=32, hidden_size=16, num_layers=1, mlp_dim=16, num_heads=2),
        ResNetClassifier(32, (4, 4, 8, 8), (1, 2, 1, 1)),
    ],
    ids=lambda network: type(network).__name__,
)
def test_config_rebuilds_the_network(network: Any, tmp_path: Path) -> None:
    again = type(network)(**network.config)
    assert again.config == network.config
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
