"""The finished model as TorchScript, as MONAI's ``ckpt_export`` writes it.

It holds no language model. Its condition is a context, as numbers, or None for the null context.
"""

# No "from __future__ import annotations": TorchScript evaluates annotations, and fails on those that are strings.
from typing import Any, Optional

import torch
from torch import nn


class ScriptableDenoiser(nn.Module):
    """A traced U-Net with the same methods as :class:`scripts.diffusion.Denoiser`, for contexts alone."""

    null_context: torch.Tensor

    def __init__(self, unet: nn.Module, null_context: torch.Tensor) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("null_context", null_context)

    @torch.jit.export
    def context(self, condition: Optional[torch.Tensor], batch_size: int) -> torch.Tensor:  # noqa: UP045
        """The context (B, M, D) as it is; for None, the null context repeated ``batch_size`` times."""
        return self.null_context.expand(batch_size, -1, -1) if condition is None else condition

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        condition: Optional[torch.Tensor] = None,  # noqa: UP045
    ) -> torch.Tensor:
        """The U-Net's output (B, 4, h, w) for x (B, 8, h, w) at timesteps (B,)."""
        return self.unet(x, timesteps, self.context(condition, x.shape[0]))


class ScriptableModel(nn.Module):
    """What the inferer calls of a :class:`scripts.diffusion.ProgressionModel`, in a form that TorchScript compiles.

    The networks are traced, because MONAI's U-Net cannot be scripted (``WrappedUpsample`` calls its parent's
    ``forward``); the sampling loop is scripted. ``forward`` draws its noise from torch's global generator.

    Args:
        model: the finished model.
        scheduler: DDIM of :func:`scripts.diffusion.sampling_scheduler`; it fixes the number of steps.
    """

    prediction_type: str
    beta_schedule: str
    steps: torch.Tensor
    coefficients: torch.Tensor

    def __init__(self, model: Any, scheduler: Any) -> None:
        super().__init__()
        self.prediction_type, self.beta_schedule = model.prediction_type, model.beta_schedule
        crop, latent, timesteps, context = example_inputs(model)
        methods = {"encode_stage_2_inputs": crop, "decode_stage_2_outputs": latent[:, : latent.shape[1] // 2]}
        with torch.no_grad():
            self.autoencoder = torch.jit.trace_module(model.autoencoder, methods)
            unet = torch.jit.trace(model.denoiser.unet, (latent, timesteps, context))
            # MONAI's timestep embedding creates its frequencies on the current device, and the trace records that
            # device; as constants of the graph they move to the device that the file is loaded on
            torch._C._jit_pass_constant_propagation(unet.graph)
            self.denoiser = ScriptableDenoiser(unet, model.denoiser.context(None, 1).clone())
            # A DDIM step without clipping is linear in latent and output; MONAI's scheduler gives the two factors
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
    """Inputs for tracing, a batch of two: crop, noisy latent with the baseline's concatenated, timesteps, context."""
    crop = torch.zeros(2, 1, *[8 * model.autoencoder.compression] * 2)
    latent = model.autoencoder.encode_stage_2_inputs(crop)
    return crop, torch.cat([latent, latent], dim=1), torch.tensor([981, 1]), model.denoiser.context(None, 2)
