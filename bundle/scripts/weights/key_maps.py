"""Key maps: the tensor names of other projects for the weights of this bundle's networks.

A key map is a table from the name of a tensor here to its name in another project's layout. The tensors themselves are
the same, so one table serves reading and writing. The layouts are those of diffusers (its ``vae`` and ``unet``
folders), CompVis (Stable Diffusion's one-file checkpoints) and MONAI Generative 0.2.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn

from scripts.networks.autoencoder import LatentAutoencoder, StableDiffusionAutoencoder
from scripts.networks.unet import StableDiffusionUNet

Table = dict[str, str]
"""From the name of a tensor here to its name in a layout."""

Rules = tuple[tuple[str, str], ...]
"""Regular expressions and their replacements, applied one after the other."""

OURS = "NAMD"

DIFFUSERS = "diffusers"

OLD_DIFFUSERS = "diffusers before 0.15"

COMPVIS = "CompVis"

COMPVIS_EMA = "CompVis, averaged (EMA)"

COMPVIS_ALONE = "CompVis, one network alone"

GENERATIVE = "MONAI Generative"


def key_maps_of(network: nn.Module) -> dict[str, Table]:
    """The key map of ``network`` in every layout that there is for it, by the layout's name."""
    own = [name for name in network.state_dict() if name != "latent_scale"]
    tables = {OURS: {name: name for name in network.state_dict()}}
    if isinstance(network, StableDiffusionUNet):
        tables[DIFFUSERS] = _table(own, lambda name: _renamed(name, _UNET))
        tables[COMPVIS] = _table(own, lambda name: _compvis_unet(tables[DIFFUSERS][name], network))
        tables[COMPVIS_EMA] = _table(own, lambda name: _averaged(tables[COMPVIS][name]))
        tables[COMPVIS_ALONE] = _table(own, lambda name: tables[COMPVIS][name].removeprefix(_COMPVIS_UNET))
        tables[GENERATIVE] = _table(own, lambda name: _renamed(name, _GENERATIVE_UNET))
    elif isinstance(network, StableDiffusionAutoencoder):
        places = {part: _autoencoder_places(network, part) for part in ("encoder", "decoder")}
        tables[DIFFUSERS] = _table(own, lambda name: _diffusers_autoencoder(name, places))
        tables[OLD_DIFFUSERS] = _table(own, lambda name: _renamed(tables[DIFFUSERS][name], _OLD_ATTENTION))
        tables[COMPVIS] = _table(own, lambda name: _compvis_autoencoder(tables[DIFFUSERS][name], network))
        tables[COMPVIS_ALONE] = _table(own, lambda name: tables[COMPVIS][name].removeprefix(_COMPVIS_AUTOENCODER))
    elif isinstance(network, LatentAutoencoder):
        tables[GENERATIVE] = _table(own, lambda name: _renamed(name, _GENERATIVE_AUTOENCODER))
    return tables


def _table(names: list[str], rename: Callable[[str], str]) -> Table:
    """The key map of ``names`` under a function that renames one of them."""
    return {name: rename(name) for name in names}


def _renamed(name: str, rules: Rules) -> str:
    """The name after all rules."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


_UNET: Rules = (
    (r"^time_embed\.0\.", "time_embedding.linear_1."),
    (r"^time_embed\.2\.", "time_embedding.linear_2."),
    (r"^middle_block\.resnet_1\.", "mid_block.resnets.0."),
    (r"^middle_block\.resnet_2\.", "mid_block.resnets.1."),
    (r"^middle_block\.attention\.", "mid_block.attentions.0."),
    (r"\.downsampler\.op\.conv\.", ".downsamplers.0.conv."),
    (r"\.upsampler\.postconv\.conv\.", ".upsamplers.0.conv."),
    (r"\.out_proj\.", ".to_out.0."),
    (r"\.ff\.linear1\.", ".ff.net.0.proj."),
    (r"\.ff\.linear2\.", ".ff.net.2."),
    (r"^out\.0\.", "conv_norm_out."),
    (r"^out\.2\.conv\.", "conv_out."),
    (r"\.skip_connection\.conv\.", ".conv_shortcut."),
    (r"\b(conv_in|conv1|conv2|proj_in|proj_out)\.conv\.", r"\1."),
)

_AUTOENCODER_BLOCK: Rules = (
    (r"^(conv1|conv2)\.conv\.", r"\1."),
    (r"^nin_shortcut\.conv\.", "conv_shortcut."),
    (r"^norm\.", "group_norm."),
    (r"^attn\.out_proj\.", "to_out.0."),
    (r"^attn\.", ""),
    (r"^(postconv\.|conv\.)?conv\.", ""),
)


def _autoencoder_places(network: StableDiffusionAutoencoder, part: str) -> list[str]:
    """diffusers' name of each block: here blocks have one running number, there level, kind and number."""
    side, sampler, blocks = ("down", "downsamplers", 0) if part == "encoder" else ("up", "upsamplers", 1)
    blocks += network.config["num_res_blocks"]
    levels = len(network.config["channels"])
    ends = ["conv_norm_out", "silu", "conv_out"]
    middle = ["mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"]
    body: list[str] = []
    for level in range(levels):
        body += [f"{side}_blocks.{level}.resnets.{block}" for block in range(blocks)]
        body += [f"{side}_blocks.{level}.{sampler}.0.conv"] if level < levels - 1 else []
    return ["conv_in", *body, *middle, *ends] if part == "encoder" else ["conv_in", *middle, *body, *ends]


def _diffusers_autoencoder(name: str, places: dict[str, list[str]]) -> str:
    """diffusers' name of a tensor of the autoencoder."""
    if found := re.match(r"(encoder|decoder)\.blocks\.(\d+)\.(.+)", name):
        part, index, rest = found.groups()
        place = places[part][int(index)]
        norm = place == "conv_norm_out"  # a layer and no block, so the rules for blocks do not apply
        return f"{part}.{place}.{rest if norm else _renamed(rest, _AUTOENCODER_BLOCK)}"
    return name.replace("quant_conv.conv.", "quant_conv.")


_OLD_ATTENTION: Rules = (
    (r"(attentions\.\d+)\.to_q\.", r"\1.query."),
    (r"(attentions\.\d+)\.to_k\.", r"\1.key."),
    (r"(attentions\.\d+)\.to_v\.", r"\1.value."),
    (r"(attentions\.\d+)\.to_out\.0\.", r"\1.proj_attn."),
)

_COMPVIS_UNET = "model.diffusion_model."

_COMPVIS_AUTOENCODER = "first_stage_model."

_COMPVIS_RESNET: Rules = (
    (r"^norm1\.", "in_layers.0."),
    (r"^conv1\.", "in_layers.2."),
    (r"^time_emb_proj\.", "emb_layers.1."),
    (r"^norm2\.", "out_layers.0."),
    (r"^conv2\.", "out_layers.3."),
    (r"^conv_shortcut\.", "skip_connection."),
)

_COMPVIS_UNET_ENDS: Rules = (
    (r"^time_embedding\.linear_1\.", "time_embed.0."),
    (r"^time_embedding\.linear_2\.", "time_embed.2."),
    (r"^conv_in\.", "input_blocks.0.0."),
    (r"^conv_norm_out\.", "out.0."),
    (r"^conv_out\.", "out.2."),
)


def _compvis_unet(name: str, network: StableDiffusionUNet) -> str:
    """CompVis' name for diffusers' name: blocks of a half have one running number, and hold up to three layers.

    These are a residual layer, attention and down- or upsampling.
    """
    found = re.match(r"(down|mid|up)_block(?:s\.(\d+))?\.(\w+)\.(\d+)\.(.+)", name)
    if found is None:
        return _COMPVIS_UNET + _renamed(name, _COMPVIS_UNET_ENDS)
    side, kind, index, rest = found[1], found[3], int(found[4]), found[5]
    level_start = int(found[2] or 0) * (network.config["num_res_blocks"] + 1)
    if kind == "resnets":
        rest = _renamed(rest, _COMPVIS_RESNET)
    if side == "mid":
        place = f"middle_block.{2 * index if kind == 'resnets' else 1}"
    elif kind == "downsamplers":
        place, rest = f"input_blocks.{level_start + network.config['num_res_blocks'] + 1}.0", rest.replace("conv", "op")
    elif kind == "upsamplers":  # after the attention, which the first level does not have
        place = f"output_blocks.{level_start + network.config['num_res_blocks']}.{2 if level_start else 1}"
    else:  # input block 0 is the first convolution
        number = level_start + index + (side == "down")
        place = f"{'input' if side == 'down' else 'output'}_blocks.{number}.{int(kind == 'attentions')}"
    return f"{_COMPVIS_UNET}{place}.{rest}"


def _averaged(name: str) -> str:
    """CompVis' name of a tensor's moving average: its own name without the dots."""
    return "model_ema." + name.removeprefix("model.").replace(".", "")


_COMPVIS_AUTOENCODER_BLOCK: Rules = (
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.group_norm\.", ".mid.attn_1.norm."),
    (r"\.mid_block\.attentions\.0\.to_(q|k|v)\.", r".mid.attn_1.\1."),
    (r"\.mid_block\.attentions\.0\.to_out\.0\.", ".mid.attn_1.proj_out."),
    (r"\.(down|up)_blocks\.(\d+)\.resnets\.(\d+)\.", r".\1.\2.block.\3."),
    (r"\.(down|up)_blocks\.(\d+)\.(down|up)samplers\.0\.", r".\1.\2.\3sample."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
)


def _compvis_autoencoder(name: str, network: StableDiffusionAutoencoder) -> str:
    """CompVis' name for diffusers' name; CompVis counts the decoder's levels from the finest."""
    last = len(network.config["channels"]) - 1
    name = re.sub(r"(?<=\.up_blocks\.)\d+", lambda found: str(last - int(found[0])), name)
    return _COMPVIS_AUTOENCODER + _renamed(name, _COMPVIS_AUTOENCODER_BLOCK)


_GENERATIVE_UNET: Rules = ((r"\.out_proj\.", ".to_out.0."), (r"\.postconv\.", ".conv."))

_GENERATIVE_AUTOENCODER: Rules = ((r"\.attn\.", "."), (r"\.postconv\.", ".conv."))
