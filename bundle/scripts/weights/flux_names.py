"""Flux's tensors by the names of black-forest-labs, for diffusers' ``FluxTransformer2DModel``.

The original joins what diffusers has apart (queries, keys and values; in single-stream blocks the MLP too) and has the
last modulation's shift before its scale. So an entry of this key map names a tensor and the parts of it that are taken,
of equal rows each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from scripts.weights.checkpoints import CheckpointError


class Source(NamedTuple):
    """Where a tensor comes from: ``parts`` of the ``total`` equal parts of the rows of ``name``, in this order."""

    name: str
    total: int = 1
    parts: tuple[int, ...] = (0,)


_PLAIN = (
    (r"^time_text_embed\.timestep_embedder\.", "time_in."),
    (r"^time_text_embed\.text_embedder\.", "vector_in."),
    (r"^time_text_embed\.guidance_embedder\.", "guidance_in."),
    (r"^(\w+_in)\.linear_1\.", r"\1.in_layer."),
    (r"^(\w+_in)\.linear_2\.", r"\1.out_layer."),
    (r"^context_embedder\.", "txt_in."),
    (r"^x_embedder\.", "img_in."),
    (r"^proj_out\.", "final_layer.linear."),
    (r"^norm_out\.linear\.", "final_layer.adaLN_modulation.1."),
    (r"^transformer_blocks\.", "double_blocks."),
    (r"^single_transformer_blocks\.", "single_blocks."),
    (r"^(double_blocks\.\d+)\.norm1\.linear\.", r"\1.img_mod.lin."),
    (r"^(double_blocks\.\d+)\.norm1_context\.linear\.", r"\1.txt_mod.lin."),
    (r"^(double_blocks\.\d+)\.ff\.net\.0\.proj\.", r"\1.img_mlp.0."),
    (r"^(double_blocks\.\d+)\.ff\.net\.2\.", r"\1.img_mlp.2."),
    (r"^(double_blocks\.\d+)\.ff_context\.net\.0\.proj\.", r"\1.txt_mlp.0."),
    (r"^(double_blocks\.\d+)\.ff_context\.net\.2\.", r"\1.txt_mlp.2."),
    (r"^(double_blocks\.\d+)\.attn\.to_[qkv]\.", r"\1.img_attn.qkv."),
    (r"^(double_blocks\.\d+)\.attn\.add_[qkv]_proj\.", r"\1.txt_attn.qkv."),
    (r"^(double_blocks\.\d+)\.attn\.norm_q\.weight", r"\1.img_attn.norm.query_norm.scale"),
    (r"^(double_blocks\.\d+)\.attn\.norm_k\.weight", r"\1.img_attn.norm.key_norm.scale"),
    (r"^(double_blocks\.\d+)\.attn\.norm_added_q\.weight", r"\1.txt_attn.norm.query_norm.scale"),
    (r"^(double_blocks\.\d+)\.attn\.norm_added_k\.weight", r"\1.txt_attn.norm.key_norm.scale"),
    (r"^(double_blocks\.\d+)\.attn\.to_out\.0\.", r"\1.img_attn.proj."),
    (r"^(double_blocks\.\d+)\.attn\.to_add_out\.", r"\1.txt_attn.proj."),
    (r"^(single_blocks\.\d+)\.norm\.linear\.", r"\1.modulation.lin."),
    (r"^(single_blocks\.\d+)\.(attn\.to_[qkv]|proj_mlp)\.", r"\1.linear1."),
    (r"^(single_blocks\.\d+)\.proj_out\.", r"\1.linear2."),
    (r"^(single_blocks\.\d+)\.attn\.norm_q\.weight", r"\1.norm.query_norm.scale"),
    (r"^(single_blocks\.\d+)\.attn\.norm_k\.weight", r"\1.norm.key_norm.scale"),
)

_MLP = 4
"""Width of a block's MLP in units of the block's own."""


def original_source(name: str) -> Source:
    """Where the original has the tensor that diffusers calls ``name``.

    >>> original_source("single_transformer_blocks.2.attn.to_k.weight")
    Source(name='single_blocks.2.linear1.weight', total=7, parts=(1,))
    """
    theirs = name
    for pattern, replacement in _PLAIN:
        theirs = re.sub(pattern, replacement, theirs)
    if name.startswith("norm_out."):
        return Source(theirs, 2, (1, 0))
    if ".proj_mlp." in name:
        return Source(theirs, 3 + _MLP, tuple(range(3, 3 + _MLP)))
    if found := re.search(r"\.attn\.(?:to|add)_([qkv])(?:_proj)?\.", name):
        return Source(theirs, 3 + _MLP if name.startswith("single_") else 3, ("qkv".index(found[1]),))
    return Source(theirs)


def flux_tensors(tensors: Mapping[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """Flux's tensors by diffusers' names, from a file with these or with the original's names.

    Args:
        tensors: of a file, with or without the prefix ``model.diffusion_model.``.
        names: diffusers' names of the tensors that are wanted.

    Raises:
        CheckpointError: some are not there; or some there are of another Flux, with more blocks, or with guidance.
    """
    plain = {name.removeprefix("model.diffusion_model."): tensor for name, tensor in tensors.items()}
    if "x_embedder.weight" in plain:
        sources = {name: Source(name) for name in names}
    else:
        sources = {name: original_source(name) for name in names}
    missing = sorted({source.name for source in sources.values()} - plain.keys())
    unknown = sorted(plain.keys() - {source.name for source in sources.values()})
    if missing or unknown:
        faults = [f"{name} is missing" for name in missing] + [f"{name} has no place" for name in unknown]
        raise CheckpointError(
            f"These weights do not fit this Flux: {'; '.join(faults[:6])}; {len(faults)} in all. Give a whole file of "
            "FLUX.1's transformer, or change the shape (dev has guidance, schnell has none)."
        )
    return {name: _taken(plain[source.name], source) for name, source in sources.items()}


def _taken(tensor: Tensor, source: Source) -> Tensor:
    """The parts of a tensor that a source names."""
    if source.total == 1:
        return tensor
    parts = tensor.chunk(source.total)
    return torch.cat([parts[index] for index in source.parts])
