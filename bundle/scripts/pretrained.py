"""Where a network starts: from scratch, from Stable Diffusion 1.5's published weights, or from an earlier stage.

Stable Diffusion's weights come in diffusers' format; the renaming here is exact, and grey input and output fold into
its three colour channels exactly: three equal input channels sum into one, three output channels average into one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scripts.checkpoints import CheckpointError, load_network, load_tensors
from scripts.networks import StableDiffusionAutoencoder, StableDiffusionUNet

State = dict[str, Tensor]

_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # before diffusers 0.15

_UNET_NAMES = (
    (r"time_embedding\.linear_1", "time_embed.0"),
    (r"time_embedding\.linear_2", "time_embed.2"),
    (r"mid_block\.resnets\.0", "middle_block.resnet_1"),
    (r"mid_block\.resnets\.1", "middle_block.resnet_2"),
    (r"mid_block\.attentions\.0", "middle_block.attention"),
    (r"downsamplers\.0\.conv", "downsampler.op.conv"),
    (r"upsamplers\.0\.conv", "upsampler.postconv.conv"),
    (r"to_out\.0", "out_proj"),
    (r"ff\.net\.0\.proj", "ff.linear1"),
    (r"ff\.net\.2", "ff.linear2"),
    (r"conv_norm_out", "out.0"),
    (r"conv_out", "out.2.conv"),
    (r"conv_shortcut", "skip_connection.conv"),
    (r"\b(conv_in|conv1|conv2|proj_in|proj_out)\.", r"\1.conv."),
)


def initial_autoencoder(
    arguments: Mapping[str, Any], pretrained: str | Path | None = None
) -> StableDiffusionAutoencoder:
    """A new autoencoder, or Stable Diffusion's (the ``vae`` folder or its safetensors file)."""
    network = StableDiffusionAutoencoder(**arguments)
    if pretrained is not None:
        _load(network, autoencoder_from_diffusers(_read(pretrained), len(network.config["channels"])), pretrained)
    return network


def initial_unet(
    arguments: Mapping[str, Any], context_dim: int, pretrained: str | Path | None = None
) -> StableDiffusionUNet:
    """A new U-Net whose context is ``context_dim`` wide, or Stable Diffusion's (the ``unet`` folder or its file).

    Cross-attention keys and values are new where Stable Diffusion's context (768) has another width.
    """
    network = StableDiffusionUNet(**{**arguments, "context_dim": context_dim})
    if pretrained is not None:
        _load(network, unet_from_diffusers(_read(pretrained)), pretrained, new_context=True)
    return network


def conditional_unet(
    path: str | Path, context_dim: int, concat_channels: int = 4, keep_weights: bool = True
) -> StableDiffusionUNet:
    """The unconditional stage's U-Net grown to take ``concat_channels`` more input channels (Eq. 10).

    Args:
        path: weights of the unconditional stage.
        context_dim: width of the context; keys and values are new where it differs from the stored one.
        keep_weights: keep the first convolution's weights and start the new channels at zero, so that training starts
            from the unconditional network's very function; False draws that convolution anew (the authors' choice).
    """
    source: Any = load_network(path, "StableDiffusionUNet")
    config = {
        **source.config,
        "in_channels": source.config["in_channels"] + concat_channels,
        "context_dim": context_dim,
    }
    network = StableDiffusionUNet(**config)
    state = source.state_dict()
    weight = state.pop("conv_in.conv.weight")
    if keep_weights:
        state["conv_in.conv.weight"] = nn.functional.pad(weight, (0, 0, 0, 0, 0, concat_channels))
    else:
        state.pop("conv_in.conv.bias")
    _load(network, state, path, new_context=True, new_input=not keep_weights)
    return network


def autoencoder_from_diffusers(state: Mapping[str, Tensor], num_levels: int) -> State:
    """diffusers' ``AutoencoderKL`` weights under our names, colour folded into grey."""
    renamed = {_old_attention(name): tensor for name, tensor in state.items()}
    result: State = {"latent_scale": torch.ones(())}
    for part, steps in (
        ("encoder", _encoder_steps(renamed, num_levels)),
        ("decoder", _decoder_steps(renamed, num_levels)),
    ):
        for index, (source, target) in enumerate(steps):
            for name, tensor in renamed.items():
                if name.startswith(f"{part}.{source}."):
                    rest = _block_name(name.removeprefix(f"{part}.{source}."))
                    result[f"{part}.blocks.{index}.{target}{rest}"] = _flatten_attention(tensor, rest)
    for name in ("quant_conv", "post_quant_conv"):
        for kind in ("weight", "bias"):
            if f"{name}.{kind}" in renamed:
                result[f"{name}.conv.{kind}"] = renamed[f"{name}.{kind}"]
    _fold_grey(result, "encoder.blocks.0.conv.weight", f"decoder.blocks.{len(steps) - 1}.conv")
    return result


def unet_from_diffusers(state: Mapping[str, Tensor]) -> State:
    """diffusers' ``UNet2DConditionModel`` weights under our names."""
    result: State = {}
    for name, tensor in state.items():
        for pattern, replacement in _UNET_NAMES:
            name = re.sub(pattern, replacement, name)
        result[name] = tensor
    return result


def _encoder_steps(state: Mapping[str, Tensor], num_levels: int) -> list[tuple[str, str]]:
    steps = [("conv_in", "conv.")]
    for level in range(num_levels):
        prefix = f"down_blocks.{level}"
        steps += [(f"{prefix}.resnets.{block}", "") for block in _count(state, f"encoder.{prefix}.resnets")]
        if level < num_levels - 1:
            steps.append((f"{prefix}.downsamplers.0.conv", "conv.conv."))
    return [*steps, *_MIDDLE, ("conv_norm_out", ""), ("silu", ""), ("conv_out", "conv.")]


def _decoder_steps(state: Mapping[str, Tensor], num_levels: int) -> list[tuple[str, str]]:
    steps = [("conv_in", "conv."), *_MIDDLE]
    for level in range(num_levels):
        prefix = f"up_blocks.{level}"
        steps += [(f"{prefix}.resnets.{block}", "") for block in _count(state, f"decoder.{prefix}.resnets")]
        if level < num_levels - 1:
            steps.append((f"{prefix}.upsamplers.0.conv", "postconv.conv."))
    return [*steps, ("conv_norm_out", ""), ("silu", ""), ("conv_out", "conv.")]


_MIDDLE = [("mid_block.resnets.0", ""), ("mid_block.attentions.0", ""), ("mid_block.resnets.1", "")]


def _count(state: Mapping[str, Tensor], prefix: str) -> range:
    found = {int(name.removeprefix(prefix + ".").split(".")[0]) for name in state if name.startswith(prefix + ".")}
    return range(len(found))


def _old_attention(name: str) -> str:
    parts = name.split(".")
    return ".".join(_ATTENTION.get(part, part) for part in parts) if "attentions" in parts else name


def _block_name(name: str) -> str:
    name = re.sub(r"^(conv1|conv2)\.", r"\1.conv.", name)
    name = re.sub(r"^conv_shortcut\.", "nin_shortcut.conv.", name)
    name = re.sub(r"^group_norm\.", "norm.", name)
    return re.sub(r"^(to_q|to_k|to_v|to_out\.0)\.", lambda m: f"attn.{m[1].replace('to_out.0', 'out_proj')}.", name)


def _flatten_attention(tensor: Tensor, name: str) -> Tensor:
    """Old checkpoints hold attention weights as 1 x 1 convolutions."""
    return tensor.flatten(1) if name.startswith("attn.") and tensor.ndim == 4 else tensor


def _fold_grey(state: State, first: str, last: str) -> None:
    """In single precision: half would round the sum. What is absent is found missing when the weights are loaded."""
    if first in state and state[first].shape[1] == 3:
        state[first] = state[first].float().sum(dim=1, keepdim=True)
    for name in (f"{last}.weight", f"{last}.bias"):
        if name in state and state[name].shape[0] == 3:
            state[name] = state[name].float().mean(dim=0, keepdim=True)


def _read(path: str | Path) -> State:
    path = Path(path)
    file = path / "diffusion_pytorch_model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file. Expected diffusers' safetensors, a folder or the file itself.")
    return load_tensors(file)


def _load(network: nn.Module, state: State, source: Any, new_context: bool = False, new_input: bool = False) -> None:
    """Strict but for what is new by design; says what does not fit."""
    own = network.state_dict()
    if new_context:
        for name in [name for name in state if re.search(r"attn2\.to_[kv]\.", name)]:
            if state[name].shape != own[name].shape:
                state[name] = own[name]
    if new_input:
        state = {**state, **{name: own[name] for name in own if name.startswith("conv_in.")}}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"{source}: these weights do not fit {type(network).__name__} {network.config}: {error}"
        ) from error
