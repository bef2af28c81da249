"""Stable Diffusion's noise schedule, linear in sqrt(beta), for training (DDPM) and for sampling (DDIM)."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

from scripts.errors import UserError

SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "schedule": "scaled_linear_beta",
    "beta_start": 0.00085,
    "beta_end": 0.012,
}
"""Arguments of MONAI's schedulers: beta runs from 0.00085 to 0.012 over 1,000 steps."""


def training_scheduler() -> DDPMScheduler:
    """The forward process of training (Ho et al. 2020), which adds noise to latents by :data:`SCHEDULE`."""
    return DDPMScheduler(**SCHEDULE, clip_sample=False)


def sampling_scheduler(num_steps: int = 50, prediction_type: str = "epsilon") -> DDIMScheduler:
    """DDIM (Song et al. 2021) over ``num_steps`` evenly spaced steps.

    MONAI's ``set_timesteps`` spreads the steps up to 999, but its ``step`` assumes a stride of 1000 // num_steps. Here
    the steps have that stride, as in diffusers with ``timestep_spacing="leading"`` and ``steps_offset=1``.

    Args:
        num_steps: 1 to 999.
        prediction_type: what the network predicts, ``epsilon`` or ``v_prediction``.

    Example:
        >>> sampling_scheduler(num_steps=4).timesteps
        tensor([751, 501, 251,   1])
    """
    total = SCHEDULE["num_train_timesteps"]
    if not 1 <= num_steps < total:
        raise UserError(f"num_steps is {num_steps}, expected 1 to {total - 1} DDIM steps.")
    scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, prediction_type=prediction_type)
    scheduler.num_inference_steps = num_steps
    scheduler.timesteps = torch.arange(num_steps - 1, -1, -1) * (total // num_steps) + 1
    return scheduler
