"""Flux's original names, against diffusers' own converter."""

from __future__ import annotations

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers

from scripts.weights.checkpoints import CheckpointError
from scripts.weights.flux_names import flux_tensors, original_source


def made_up(guidance: bool) -> dict[str, torch.Tensor]:
    """A file by the original's names, of two and two blocks at the published width, but one column of each matrix."""
    with torch.device("meta"):
        network = FluxTransformer2DModel(num_layers=2, num_single_layers=2, guidance_embeds=guidance)
    rows: dict[str, int] = {}
    for name, tensor in network.state_dict().items():
        source = original_source(name)
        rows[source.name] = len(tensor) // len(source.parts) * source.total
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn((count, 1) if name.endswith("weight") else (count,), generator=generator)
        for name, count in rows.items()
    }


@pytest.mark.parametrize("guidance", [True, False])
def test_they_are_diffusers_tensors(guidance: bool) -> None:
    original = made_up(guidance)
    theirs = convert_flux_transformer_checkpoint_to_diffusers(dict(original))
    ours = flux_tensors({f"model.diffusion_model.{name}": value for name, value in original.items()}, list(theirs))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert all(torch.equal(values, theirs[name]) for name, values in flux_tensors(theirs, list(theirs)).items())


def test_another_flux_is_refused_by_name() -> None:
    original = made_up(True)
    names = [
        name for name in convert_flux_transformer_checkpoint_to_diffusers(dict(original)) if "guidance" not in name
    ]
    with pytest.raises(CheckpointError, match=r"guidance_in.in_layer.bias has no place.*4 in all.*dev has guidance"):
        flux_tensors(original, names)
    del original["txt_in.bias"]
    with pytest.raises(CheckpointError, match="txt_in.bias is missing"):
        flux_tensors(original, names)
