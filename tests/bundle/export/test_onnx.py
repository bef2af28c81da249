"""ONNX: its own reference against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bundle.deployed import deploy_parser


def test_onnx_networks_are_pytorchs(bundle: Path, monai: Callable[..., None], tmp_path: Path) -> None:
    """In another batch size than they were traced with, by ONNX's own reference."""
    pytest.importorskip("onnx", reason="onnx is not installed (pip install onnx)")
    from onnx.reference import ReferenceEvaluator

    monai("run", "onnx", "--config_file", bundle / "configs" / "inference.yaml", "--output_dir", tmp_path)
    model = deploy_parser(bundle).get_parsed_content("network_def")
    crops, context = torch.rand(3, 1, 32, 32) * 2 - 1, torch.randn(3, *model.denoiser.conditioner.normaliser.mean.shape)
    with torch.no_grad():
        latents = model.autoencoder.encode_stage_2_inputs(crops)
        noisy, timesteps = torch.cat([torch.randn_like(latents), latents], dim=1), torch.tensor([1, 500, 981])
        cases = {
            "encoder": ([crops], latents),
            "unet": ([noisy, timesteps, context], model.denoiser.unet(noisy, timesteps, context)),
            "decoder": ([latents], model.autoencoder.decode_stage_2_outputs(latents)),
        }
    assert {path.stem for path in (tmp_path / "onnx").iterdir()} == cases.keys()
    for name, (inputs, output) in cases.items():
        network = ReferenceEvaluator(str(tmp_path / "onnx" / f"{name}.onnx"))
        feed = dict(zip(network.input_names, [each.numpy() for each in inputs], strict=True))
        np.testing.assert_allclose(network.run(None, feed)[0], output.numpy(), atol=1e-4, rtol=1e-3, err_msg=name)
