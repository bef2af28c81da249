"""Where networks start: what is kept, what is new, and what is said about weights that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from scripts.checkpoints import CheckpointError, save_network
from scripts.networks import StableDiffusionAutoencoder, StableDiffusionUNet
from scripts.pretrained import conditional_unet, initial_autoencoder, initial_unet

AUTOENCODER: dict[str, Any] = {"channels": (8, 8), "num_res_blocks": 1, "norm_num_groups": 4}
UNET: dict[str, Any] = {"channels": (8, 16), "num_res_blocks": 1, "num_heads": 2, "norm_num_groups": 4}
KEYS_AND_VALUES = ("attn2.to_k.weight", "attn2.to_v.weight")


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory: pytest.TempPathFactory) -> tuple[StableDiffusionUNet, Path]:
    """A U-Net whose output layer is no longer zero, and its file."""
    torch.manual_seed(0)
    network = StableDiffusionUNet(context_dim=6, **UNET).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network, save_network(network, tmp_path_factory.mktemp("models") / "unet_unconditional.safetensors")


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """diffusers' autoencoder in half precision, as Stable Diffusion is often stored."""
    torch.manual_seed(0)
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
    )
    folder = tmp_path_factory.mktemp("vae")
    network.half().save_pretrained(folder)
    return folder


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 4, 8, 8), torch.tensor([3, 900]), torch.randn(2, 2, 6)


@torch.no_grad()
def test_grown_network_starts_as_the_unconditional_one(unconditional: tuple[StableDiffusionUNet, Path]) -> None:
    network, path = unconditional
    grown = conditional_unet(path, context_dim=6).eval()
    latent, steps, context = inputs()
    expected = network(latent, steps, context)
    assert grown.config == {**network.config, "in_channels": 8} and expected.std() > 0.01
    for baseline in (torch.zeros_like(latent), torch.randn_like(latent), 1e3 * torch.randn_like(latent)):
        output = grown(torch.cat([latent, baseline], dim=1), steps, context)
        torch.testing.assert_close(output, expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_first_convolution_drawn_anew(unconditional: tuple[StableDiffusionUNet, Path]) -> None:
    network, path = unconditional
    grown = conditional_unet(path, context_dim=6, keep_weights=False).eval()
    kept, old = grown.state_dict(), network.state_dict()
    new = {name for name in kept if kept[name].shape != old[name].shape or not torch.equal(kept[name], old[name])}
    assert new == {"conv_in.conv.weight", "conv_in.conv.bias"}
    latent, steps, context = inputs()
    outputs = [grown(torch.cat([latent, baseline], 1), steps, context) for baseline in (latent, -latent)]
    assert not torch.allclose(*outputs, atol=1e-4), "the baseline is seen from the first step"


@pytest.mark.parametrize("keep_weights", [True, False])
def test_another_context_brings_new_keys_and_values_only(
    unconditional: tuple[StableDiffusionUNet, Path], keep_weights: bool
) -> None:
    network, path = unconditional
    grown = conditional_unet(path, context_dim=10, keep_weights=keep_weights)
    kept, old = grown.state_dict(), network.state_dict()
    changed = [name for name in kept if kept[name].shape != old[name].shape]
    assert {name for name in changed if not name.startswith("conv_in")} == {
        name for name in old if name.endswith(KEYS_AND_VALUES)
    }
    assert all(kept[name].shape[1] == 10 for name in changed if name.endswith(KEYS_AND_VALUES))
    assert all(torch.equal(kept[name], old[name]) for name in old if name not in changed and "conv_in" not in name)


def test_published_unet_keeps_all_but_keys_and_values(tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    theirs = UNet2DConditionModel(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=6,
        norm_num_groups=4,
    )
    theirs.save_pretrained(tmp_path)
    same, wider = initial_unet(UNET, 6, tmp_path).state_dict(), initial_unet(UNET, 10, tmp_path).state_dict()
    new = {name for name in same if same[name].shape != wider[name].shape or not torch.equal(same[name], wider[name])}
    assert new == {name for name in same if name.endswith(KEYS_AND_VALUES)} and new


def test_grey_is_folded_in_single_precision(vae: Path) -> None:
    """Half precision would round the sum of three colours."""
    stored = load_file(vae / "diffusion_pytorch_model.safetensors")
    assert stored["encoder.conv_in.weight"].dtype == torch.float16
    state = initial_autoencoder(AUTOENCODER, vae).state_dict()
    colours = stored["encoder.conv_in.weight"].float()
    torch.testing.assert_close(
        state["encoder.blocks.0.conv.weight"], colours[:, :1] + colours[:, 1:2] + colours[:, 2:], atol=1e-7, rtol=0
    )
    last = max(int(name.split(".")[2]) for name in state if name.startswith("decoder.blocks."))
    for kind in ("weight", "bias"):
        out = stored[f"decoder.conv_out.{kind}"].float()
        expected = (out[:1] + out[1:2] + out[2:]) / 3
        torch.testing.assert_close(state[f"decoder.blocks.{last}.conv.{kind}"], expected, atol=1e-7, rtol=0)


# --- weights that do not fit


def test_a_conditional_unet_of_another_network_is_refused(tmp_path: Path) -> None:
    path = save_network(StableDiffusionAutoencoder(**AUTOENCODER), tmp_path / "unet_unconditional.safetensors")
    with pytest.raises(CheckpointError, match="holds a StableDiffusionAutoencoder, expected a StableDiffusionUNet"):
        conditional_unet(path, context_dim=6)


def test_published_weights_of_another_network_are_refused(vae: Path) -> None:
    with pytest.raises(CheckpointError, match="do not fit StableDiffusionUNet") as error:
        initial_unet(UNET, 6, vae)
    assert str(vae) in str(error.value)


@pytest.mark.parametrize("arguments", [{"channels": (8, 16)}, {"channels": (8, 8, 8)}, {"num_res_blocks": 2}])
def test_published_weights_of_another_shape_are_refused(vae: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="do not fit StableDiffusionAutoencoder") as error:
        initial_autoencoder({**AUTOENCODER, **arguments}, vae)
    assert str(vae) in str(error.value)


def test_a_unets_file_is_no_autoencoder(tmp_path: Path) -> None:
    save_file({"time_embedding.linear_1.weight": torch.zeros(1)}, tmp_path / "unet.safetensors")
    with pytest.raises(CheckpointError, match="unet.safetensors: these weights do not fit"):
        initial_autoencoder(AUTOENCODER, tmp_path / "unet.safetensors")


def test_missing_and_damaged_published_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="diffusion_pytorch_model.safetensors: no such file"):
        initial_autoencoder(AUTOENCODER, tmp_path)
    (tmp_path / "vae.safetensors").write_text("<html>404</html>")
    with pytest.raises(CheckpointError, match="vae.safetensors: not a readable safetensors file"):
        initial_autoencoder(AUTOENCODER, tmp_path / "vae.safetensors")
