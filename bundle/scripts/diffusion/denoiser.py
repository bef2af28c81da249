"""U-Net and conditioner as one network, and the inferer of its training (Eq. 9 and 10)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.inferers import DiffusionInferer
from torch import Tensor, nn

from scripts.conditioning.conditioner import ReportConditioner
from scripts.diffusion.schedules import training_scheduler
from scripts.networks.unet import StableDiffusionUNet

Condition = Tensor | Sequence[str] | None
"""A context (B, M, D), a report a case, or none."""


class Denoiser(nn.Module):
    """The U-Net and the conditioner whose prompts learn with it.

    Args:
        unet: predicts noise, or v, from the noisy latent; the conditional stage's takes the baseline's latent too.
        conditioner: turns reports into the cross-attention's context.
        condition_dropout: share of the contexts that training mode replaces by the null context (Ho and Salimans
            2022), so that what guidance leads away from has been learned.
    """

    def __init__(
        self, unet: StableDiffusionUNet, conditioner: ReportConditioner, condition_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.unet = unet
        self.conditioner = conditioner
        self.condition_dropout = condition_dropout

    def context(self, condition: Condition, batch_size: int) -> Tensor:
        """(B, M, D) of reports, of a context as it is, or of nothing (the null context)."""
        if condition is None:
            return self.conditioner.null_context(batch_size)
        return condition if isinstance(condition, Tensor) else self.conditioner(condition)

    def forward(self, x: Tensor, timesteps: Tensor, condition: Condition = None) -> Tensor:
        """The U-Net's output (B, 4, h, w) for x (B, 4 or 8, h, w) at timesteps (B,)."""
        context = self.context(condition, len(x))
        if self.training and self.condition_dropout:
            dropped = torch.rand(len(x), 1, 1, device=x.device) < self.condition_dropout
            context = torch.where(dropped, self.context(None, len(x)), context)
        return self.unet(x, timesteps, context)


class ConditionalDiffusionInferer(DiffusionInferer):
    """MONAI's ``DiffusionInferer`` with both conditions of Eq. 10 at once, where MONAI's takes one or the other.

    It noises the latents by the training's schedule and lets the network predict what was added.
    """

    def __init__(self) -> None:
        super().__init__(training_scheduler())

    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        network: nn.Module,
        noise: Tensor,
        timesteps: Tensor,
        condition: Condition = None,
        concat: Tensor | None = None,
    ) -> Tensor:
        """The network's output (B, C, h, w).

        Args:
            inputs: latents (B, C, h, w).
            network: the denoiser.
            noise, timesteps: what is added, (B, C, h, w), and how much of it, (B,).
            condition: the reports, or a context, for cross-attention.
            concat: the baseline's latent (B, C, h, w), concatenated to the noisy one.
        """
        noisy = self.scheduler.add_noise(original_samples=inputs, noise=noise, timesteps=timesteps)
        if concat is not None:
            noisy = torch.cat([noisy, concat], dim=1)
        return network(noisy, timesteps, condition)
