"""The finished model as TorchScript (``ckpt_export``).

It holds no language model: a context comes in as numbers, or is the average report.
"""

# No "from __future__ import annotations": TorchScript compiles the annotations here, and cannot read them as strings.
from typing import Any, Optional

import torch
from monai.networks.schedulers import DDIMScheduler
from torch import nn


class ScriptableDenoiser(nn.Module):
    """A traced U-Net with the calls of :class:`scripts.diffusion.Denoiser`."""

    null_context: torch.Tensor

    def __init__(self, unet: nn.Module, null_context: torch.Tensor) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("null_context", null_context)

    @torch.jit.export
    def context(self, condition: Optional[torch.Tensor], batch_size: int) -> torch.Tensor:  # noqa: UP045
        """The context as it is, or the null context (1, M, D) for each of the batch."""
        return self.null_context.expand(batch_size, -1, -1) if condition is None else condition

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        condition: Optional[torch.Tensor] = None,  # noqa: UP045
    ) -> torch.Tensor:
        return self.unet(x, timesteps, self.context(condition, x.shape[0]))


class ScriptableModel(nn.Module):
    """What ``torch.jit.script`` compiles of a :class:`scripts.diffusion.ProgressionModel`: all that its inferer calls.

    MONAI's U-Net cannot be scripted (``WrappedUpsample`` calls its parent's ``forward``), so the networks are traced.
    What is a loop is scripted. ``forward`` draws its noise from the global generator.

    Args:
        model: the finished model.
        scheduler: the sampler's.
    """

    prediction_type: str
    steps: torch.Tensor
    coefficients: torch.Tensor

    def __init__(self, model: Any, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.prediction_type = model.prediction_type
        crop, latent, timesteps, context = example_inputs(model)
        methods = {"encode_stage_2_inputs": crop, "decode_stage_2_outputs": latent[:, : latent.shape[1] // 2]}
        with torch.no_grad():
            self.autoencoder = torch.jit.trace_module(model.autoencoder, methods)
            unet = torch.jit.trace(model.denoiser.unet, (latent, timesteps, context))
            # MONAI's timestep embedding makes its frequencies where it runs, and the trace would have them made on this
            # device for ever; as constants they go where the file is loaded to
            torch._C._jit_pass_constant_propagation(unet.graph)
            self.denoiser = ScriptableDenoiser(unet, model.denoiser.context(None, 1).clone())
            # DDIM without clipping is linear in latent and output: its factors are read off MONAI's scheduler
            one, zero = torch.ones(()), torch.zeros(())
            factors = [
                torch.stack([scheduler.step(output, step, latent)[0] for latent, output in ((one, zero), (zero, one))])
                for step in scheduler.timesteps.tolist()
            ]
        self.register_buffer("steps", scheduler.timesteps)
        self.register_buffer("coefficients", torch.stack(factors))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """One generated follow-up (B, 1, H, W) of baselines (B, 1, H, W) in [-1, 1], without a report."""
        baseline = self.autoencoder.encode_stage_2_inputs(image)
        latents = torch.randn_like(baseline)
        for index in range(self.steps.shape[0]):
            timesteps = self.steps[index].expand(image.shape[0])
            output = self.denoiser(torch.cat([latents, baseline], dim=1), timesteps)
            latents = self.coefficients[index, 0] * latents + self.coefficients[index, 1] * output
        return self.autoencoder.decode_stage_2_outputs(latents).clamp(-1.0, 1.0)


def example_inputs(model: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A crop, a noisy latent with the baseline's, timesteps and a context, two of each, as the exporters need them."""
    crop = torch.zeros(2, 1, *[8 * model.autoencoder.compression] * 2)
    latent = model.autoencoder.encode_stage_2_inputs(crop)
    return crop, torch.cat([latent, latent], dim=1), torch.tensor([981, 1]), model.denoiser.context(None, 2)
