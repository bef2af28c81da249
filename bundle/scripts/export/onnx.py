"""Export of the sampler's networks to ONNX, for runtimes without this code; without the language model."""

import logging
from pathlib import Path
from typing import Any

import torch
from monai.networks.utils import convert_to_onnx
from torch import nn

from scripts.diffusion.torchscript import example_inputs
from scripts.files import whole_folder

logger = logging.getLogger(__name__)


class Encoder(nn.Module):
    """A module from crops (B, 1, H, W) to scaled latents, as ONNX export needs one."""

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, crop: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.encode_stage_2_inputs(crop)


class Decoder(Encoder):
    """A module from scaled latents to crops (B, 1, H, W), as ONNX export needs one."""

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.decode_stage_2_outputs(latent)


@torch.no_grad()
def export_onnx(model: Any, folder: str | Path) -> None:
    """Writes ``encoder.onnx``, ``unet.onnx`` and ``decoder.onnx`` to a folder, for any batch size.

    ``monai.bundle onnx_export`` takes networks of one input; MONAI's converter, used here, takes the U-Net's three.

    Args:
        model: a :class:`scripts.diffusion.ProgressionModel`.
        folder: to write; one that exists is replaced atomically.
    """
    crop, latent, timesteps, context = example_inputs(model)
    networks: dict[str, tuple[nn.Module, dict[str, torch.Tensor], str]] = {
        "encoder": (Encoder(model.autoencoder), {"crop": crop}, "latent"),
        "unet": (
            model.denoiser.unet,
            {"noisy_and_baseline": latent, "timesteps": timesteps, "context": context},
            "noise" if model.prediction_type == "epsilon" else "v",
        ),
        "decoder": (Decoder(model.autoencoder), {"latent": latent[:, : latent.shape[1] // 2]}, "crop"),
    }
    with whole_folder(folder) as new:
        for name, (network, inputs, output) in networks.items():
            convert_to_onnx(
                network,
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=[output],
                dynamic_axes={axis: {0: "batch"} for axis in (*inputs, output)},
                filename=str(new / f"{name}.onnx"),
                use_trace=True,
                dynamo=False,  # the tracing exporter is faster and needs the package onnx alone
            )
    logger.info(f"Wrote {', '.join(f'{name}.onnx' for name in networks)} to {folder}")
