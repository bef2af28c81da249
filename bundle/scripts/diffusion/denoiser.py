"""The denoiser (U-Net and conditioner as one network) and the inferer that trains it (Eq. 9 and 10 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import DiffusionInferer
from torch import Tensor, nn

from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.language_models import recompute_layers
from scripts.diffusion.schedules import training_scheduler
from scripts.networks.unet import StableDiffusionUNet

Condition = Tensor | Sequence[str] | None
"""What the U-Net attends to: a context (B, M, D) of M vectors, one report per case, or None for the null context."""


class Denoiser(nn.Module):
    """The U-Net and the conditioner whose prompts learn with it.

    Args:
        unet: predicts noise, or v, from the noisy latent; the conditional stage's takes the baseline's latent too.
        conditioner: turns reports into the cross-attention's context.
        condition_dropout: in training mode, the share of contexts that are replaced by the null context, so that the
            U-Net learns the unconditional prediction that classifier-free guidance needs (Ho and Salimans 2022).
        latent_size: side of the latents, for a check that the U-Net takes them.

    Raises:
        UserError: it does not.
    """

    def __init__(
        self,
        unet: StableDiffusionUNet,
        conditioner: ReportConditioner,
        condition_dropout: float = 0.0,
        latent_size: int | None = None,
    ) -> None:
        super().__init__()
        if latent_size is not None:
            unet.check_size(latent_size)
        self.unet = unet
        self.conditioner = conditioner
        self.condition_dropout = condition_dropout

    def context(self, condition: Condition, batch_size: int) -> Tensor:
        """The context (B, M, D): reports encoded, a context as it is, the null context for None."""
        if condition is None:
            return self.conditioner.null_context(batch_size)
        return condition if isinstance(condition, Tensor) else self.conditioner(condition)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles the U-Net alone (``torch.nn.Module.compile``), since the conditioner reads text."""
        self.unet.compile(*args, **kwargs)

    def checkpoint_gradients(self) -> None:
        """Computes activations of U-Net and language model again in the backward pass, which saves their memory."""
        self.unet.checkpoint_gradients()
        if isinstance(self.conditioner, ReportConditioner):  # that of the unconditional stage has no language model
            recompute_layers(self.conditioner.llm, self.conditioner.llm_name)

    def forward(self, x: Tensor, timesteps: Tensor, condition: Condition = None) -> Tensor:
        """The U-Net's output (B, 4, h, w) for x (B, 4 or 8, h, w) at timesteps (B,)."""
        context = self.context(condition, len(x))
        if self.training and self.condition_dropout:
            dropped = torch.rand(len(x), 1, 1, device=x.device) < self.condition_dropout
            context = torch.where(dropped, self.context(None, len(x)), context)
        return self.unet(x, timesteps, context)


class ConditionalDiffusionInferer(DiffusionInferer):
    """MONAI's ``DiffusionInferer`` with both conditions of Eq. 10: cross-attention and concatenation.

    MONAI's own takes one or the other. The latents are noised by the training schedule, and the network predicts the
    noise, or v, from them.

    Args:
        beta_schedule: of the training schedule, see :class:`scripts.networks.StableDiffusionUNet`.
    """

    def __init__(self, beta_schedule: str = "scaled_linear") -> None:
        super().__init__(training_scheduler(beta_schedule))

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
            noise: what is added (B, C, h, w).
            timesteps: steps of the schedule (B,), which say how much noise is added.
            condition: reports or a context, for cross-attention.
            concat: the baseline's latent (B, C, h, w), concatenated to the noisy one.
        """
        noisy = self.scheduler.add_noise(original_samples=inputs, noise=noise, timesteps=timesteps)
        if concat is not None:
            noisy = torch.cat([noisy, concat], dim=1)
        return network(noisy, timesteps, condition)
