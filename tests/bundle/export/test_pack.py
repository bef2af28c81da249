"""One file for the Model Zoo."""

from __future__ import annotations

from pathlib import Path

import torch

from scripts.diffusion.sampler import load_progression_model


def test_packed_weights_are_the_models_and_open_without_its_code(bundle: Path, trained: Path, tiny_llm: Path) -> None:
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    model = load_progression_model(trained / "models", llm=tiny_llm)
    assert state.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        atol = 0.0 if state[name].dtype == torch.float32 else 1e-3
        torch.testing.assert_close(state[name].float(), tensor, atol=atol, rtol=1e-3 if atol else 0.0)
    assert state["denoiser.conditioner.normaliser.mean"].dtype == torch.float32
    assert state["denoiser.unet.conv_in.conv.weight"].dtype == torch.float16
