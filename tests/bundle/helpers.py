"""What tests of several rooms share: where the bundle is, and networks that hide nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scripts.errors import UserError
from scripts.weights.key_maps import DIFFUSERS, key_maps_of

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
CONFIGS = BUNDLE / "configs"


def stirred(network: Any) -> Any:
    """With no parameter at a value (zero, one) that would hide a wrong place."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def refusal(start: Callable[[], Any]) -> str:
    """The one line of the UserError that a call ends with, as the command line would show it."""
    with pytest.raises(Exception) as caught:  # noqa: B017 (MONAI's, around ours)
        start()
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__
    assert cause is not None, "an error for people"
    assert "\n" not in str(cause)
    return str(cause)


def count(network: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def renamed(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor by its name in diffusers."""
    state = shapes(network.state_dict())
    return {theirs: state[ours] for ours, theirs in key_maps_of(network)[DIFFUSERS].items()}


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor by its name."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def rebuilt(network: Any, folder: Path) -> None:
    """The network's ``config`` makes one that takes its weights."""
    again = type(network)(**network.config)
    assert again.config == network.config
    save_file(network.state_dict(), folder / "weights.safetensors")
    again.load_state_dict(load_file(folder / "weights.safetensors"))


def their_unet(in_channels: int = 4) -> Any:
    """diffusers' U-Net of two levels and two heads."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        in_channels=in_channels,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=6,
        norm_num_groups=4,
    )


def their_autoencoder() -> Any:
    """diffusers' autoencoder of two levels."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
    )
