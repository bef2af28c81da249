"""Names of weights in other projects: against diffusers' own converter of Stable Diffusion's files, and literally."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor

from scripts.export.diffusers import diffusers_config
from scripts.networks.autoencoder import LatentAutoencoder, StableDiffusionAutoencoder
from scripts.networks.classifiers import ViTClassifier
from scripts.networks.unet import StableDiffusionUNet
from scripts.weights.key_maps import COMPVIS, COMPVIS_EMA, DIFFUSERS, OLD_DIFFUSERS, OURS, key_maps_of

NETWORKS: dict[str, Any] = {
    "autoencoder": lambda: StableDiffusionAutoencoder((8, 16, 16), norm_num_groups=4),
    "shallow autoencoder": lambda: StableDiffusionAutoencoder((8, 8), num_res_blocks=1, norm_num_groups=4),
    "unet": lambda: StableDiffusionUNet(channels=(8, 16, 16), context_dim=6, num_heads=2, norm_num_groups=4),
    "shallow unet": lambda: StableDiffusionUNet(
        channels=(8, 16), context_dim=6, num_res_blocks=1, num_heads=2, norm_num_groups=4
    ),
    "MONAI autoencoder": lambda: LatentAutoencoder((8, 16), 1, norm_num_groups=4, attention_levels=(False, True)),
}


def laid_out(network: Any, layout: str) -> dict[str, Tensor]:
    state = network.state_dict()
    return {theirs: state[ours] for ours, theirs in key_maps_of(network)[layout].items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_has_one_name_in_every_layout(name: str) -> None:
    network = NETWORKS[name]()
    own = set(network.state_dict())
    for layout, table in key_maps_of(network).items():
        assert set(table) in (own, own - {"latent_scale"}), layout
        assert len(set(table.values())) == len(table), f"{layout}: two tensors under one name"


@pytest.mark.parametrize("name", ["unet", "shallow unet"])
@pytest.mark.parametrize("averaged", [False, True])
def test_stable_diffusions_unet_by_diffusers_own_converter(name: str, averaged: bool) -> None:
    network = NETWORKS[name]()
    checkpoint = laid_out(network, COMPVIS)
    if averaged:  # the plain weights are there too, and are not to be taken
        checkpoint = {name: torch.zeros_like(tensor) for name, tensor in checkpoint.items()}
        checkpoint |= laid_out(network, COMPVIS_EMA)
    # its own mark of a checkpoint with both kinds
    checkpoint |= {f"model_ema.padding{index}": torch.zeros(()) for index in range(101)} if averaged else {}
    converted = convert_ldm_unet_checkpoint(checkpoint, diffusers_config(network), extract_ema=averaged)
    expected = laid_out(network, DIFFUSERS)
    assert set(converted) == set(expected)
    assert all(torch.equal(converted[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["autoencoder", "shallow autoencoder"])
def test_stable_diffusions_autoencoder_by_diffusers_own_converter(name: str) -> None:
    network = NETWORKS[name]()
    converted = convert_ldm_vae_checkpoint(laid_out(network, COMPVIS), diffusers_config(network))
    expected = laid_out(network, DIFFUSERS)
    assert set(converted) == set(expected)
    assert all(torch.equal(converted[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("layout", "name", "shape"),
    [
        # of v1-5-pruned.ckpt, as its tensors are widely listed
        (COMPVIS, "model.diffusion_model.time_embed.0.weight", (1280, 320)),
        (COMPVIS, "model.diffusion_model.input_blocks.0.0.weight", (320, 4, 3, 3)),
        (COMPVIS, "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", (320, 768)),
        (COMPVIS, "model.diffusion_model.input_blocks.3.0.op.weight", (320, 320, 3, 3)),
        (COMPVIS, "model.diffusion_model.input_blocks.4.0.skip_connection.weight", (640, 320, 1, 1)),
        (COMPVIS, "model.diffusion_model.input_blocks.11.0.out_layers.3.weight", (1280, 1280, 3, 3)),
        (COMPVIS, "model.diffusion_model.middle_block.1.proj_in.weight", (1280, 1280, 1, 1)),
        (COMPVIS, "model.diffusion_model.output_blocks.2.1.conv.weight", (1280, 1280, 3, 3)),
        (COMPVIS, "model.diffusion_model.output_blocks.5.2.conv.weight", (1280, 1280, 3, 3)),
        (COMPVIS, "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.ff.net.0.proj.weight", (2560, 320)),
        (COMPVIS, "model.diffusion_model.out.2.bias", (4,)),
        (COMPVIS_EMA, "model_ema.diffusion_modelinput_blocks00weight", (320, 4, 3, 3)),
    ],
)
def test_published_names_of_the_unet(layout: str, name: str, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        names = laid_out(StableDiffusionUNet(context_dim=768), layout)
    assert len(names) == 686 and tuple(names[name].shape) == shape


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        (COMPVIS, "first_stage_model.encoder.down.1.block.0.nin_shortcut.weight"),
        (COMPVIS, "first_stage_model.encoder.down.0.downsample.conv.weight"),
        (COMPVIS, "first_stage_model.encoder.mid.attn_1.proj_out.weight"),
        (COMPVIS, "first_stage_model.decoder.up.3.upsample.conv.weight"),
        (COMPVIS, "first_stage_model.decoder.up.0.block.2.conv2.weight"),
        (COMPVIS, "first_stage_model.decoder.norm_out.bias"),
        (COMPVIS, "first_stage_model.post_quant_conv.weight"),
        (DIFFUSERS, "encoder.mid_block.attentions.0.to_out.0.weight"),
        (OLD_DIFFUSERS, "decoder.mid_block.attentions.0.proj_attn.bias"),
    ],
)
def test_published_names_of_the_autoencoder(layout: str, name: str) -> None:
    with torch.device("meta"):
        names = laid_out(StableDiffusionAutoencoder(), layout)
    assert len(names) == 248 and name in names


def test_other_networks_are_known_in_our_layout_alone() -> None:
    network = ViTClassifier(image_size=16, hidden_size=16, num_layers=1, mlp_dim=16, num_heads=2)
    assert set(key_maps_of(network)) == {OURS}
