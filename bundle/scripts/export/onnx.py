"""The sampler's networks as ONNX, for runtimes without this code; the language model is not among them."""

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
    """Crop to scaled latent, as a module of its own."""

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, crop: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.encode_stage_2_inputs(crop)


class Decoder(Encoder):
    """Scaled latent to crop, as a module of its own."""

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.decode_stage_2_outputs(latent)


@torch.no_grad()
def export_onnx(model: Any, folder: str | Path) -> None:
    """The sampler's three networks as ``encoder.onnx``, ``unet.onnx`` and ``decoder.onnx``, for any batch size.

    ``monai.bundle onnx_export`` is for networks of one input; MONAI's converter behind it takes the U-Net's three.
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
                dynamo=False,  # the tracing exporter: a tenth of the time, and onnx is all that it needs
            )
    logger.info(f"Wrote {', '.join(f'{name}.onnx' for name in networks)} to {folder}")
