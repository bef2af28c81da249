"""The noise schedule, linear in sqrt(beta) or in beta: for training (DDPM), and the solvers that sample by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from scripts.errors import UserError
from scripts.networks.unet import SCHEDULE

SOLVERS = ("ddim", "dpmpp")

FULL_NOISE = 981
"""The timestep at which DPM-Solver++ starts, whatever the number of its steps; DDIM's fifty start there too."""

MAY_BE_LEFT_OUT = 99
"""Timesteps at the noisy end that DDIM's stride of whole numbers may leave out; an initial latent is noise alone."""


def training_scheduler(beta_schedule: str = "scaled_linear") -> DDPMScheduler:
    """The forward process of training (Ho et al. 2020), which adds noise to latents.

    Args:
        beta_schedule: one of :data:`scripts.networks.unet.BETA_SCHEDULES`.
    """
    return DDPMScheduler(**SCHEDULE, schedule=f"{beta_schedule}_beta", clip_sample=False)


def sampling_scheduler(
    num_steps: int = 50, prediction_type: str = "epsilon", solver: str = "ddim", beta_schedule: str = "scaled_linear"
) -> DDIMScheduler | DPMSolverPlusPlus:
    """A solver of the sampling ODE: DDIM over evenly spaced timesteps, or :class:`DPMSolverPlusPlus`.

    Of DDIM (Song et al. 2021), MONAI's ``set_timesteps`` spreads the steps up to 999, but its ``step`` assumes a stride
    of 1000 // num_steps. Here the steps have that stride, as in diffusers with ``timestep_spacing="leading"`` and
    ``steps_offset=1``. Where the stride leaves out much, as that of 334 steps, which would start at timestep 667, they
    are spread from :data:`FULL_NOISE` to 1 instead; so is a single step, which would start at 1.

    Args:
        num_steps: 1 to 999.
        prediction_type: what the network predicts, ``epsilon`` or ``v_prediction``.
        solver: ``ddim`` or ``dpmpp``.
        beta_schedule: noise schedule that the network was trained by.

    Raises:
        UserError: a number of steps or a solver that there is not.

    Example:
        >>> sampling_scheduler(num_steps=4).timesteps
        tensor([751, 501, 251,   1])
        >>> sampling_scheduler(num_steps=334).timesteps[:4]
        tensor([981., 978., 975., 972.])
    """
    total = SCHEDULE["num_train_timesteps"]
    if solver not in SOLVERS:
        raise UserError(f"solver is {solver!r}, expected {' or '.join(SOLVERS)}.")
    if not 1 <= num_steps < total:
        raise UserError(f"num_steps is {num_steps}, expected 1 to {total - 1} steps.")
    if solver == "dpmpp":
        return DPMSolverPlusPlus(num_steps, prediction_type, beta_schedule)
    stride, left_out = divmod(total, num_steps)
    if left_out > MAY_BE_LEFT_OUT or num_steps == 1:
        return DPMSolverPlusPlus(num_steps, prediction_type, beta_schedule, order=1)
    noise: dict[str, Any] = {**SCHEDULE, "schedule": f"{beta_schedule}_beta", "clip_sample": False}
    scheduler = DDIMScheduler(**noise, set_alpha_to_one=False, prediction_type=prediction_type)
    scheduler.num_inference_steps = num_steps
    scheduler.timesteps = torch.arange(num_steps - 1, -1, -1) * stride + 1
    return scheduler


class DPMSolverPlusPlus:
    """DPM-Solver++ (2M), a multistep solver of second order (Lu et al. 2022, Algorithm 2): one network call a step.

    x' = (sigma' / sigma) x - alpha' (exp(-h) - 1) D, where h is the step in lambda = log(alpha / sigma), half the
    log-SNR, and D the clean latent that the network estimates, extrapolated from its last two estimates. The steps are
    equal in lambda, from :data:`FULL_NOISE` to the schedule's least noise; between timesteps they are interpolated.

    The solver of first order, without the extrapolation, is DDIM (ibid., section 4); its timesteps are evenly spaced.

    Args:
        num_steps: network calls.
        prediction_type: what the network predicts, ``epsilon`` or ``v_prediction``.
        beta_schedule: noise schedule that it was trained by.
        order: 2, or 1 for DDIM.

    Attributes:
        timesteps: (num_steps,) float32.

    Example:
        >>> DPMSolverPlusPlus(4, "epsilon").timesteps.round().tolist()
        [981.0, 660.0, 219.0, 19.0]
    """

    def __init__(
        self, num_steps: int, prediction_type: str, beta_schedule: str = "scaled_linear", order: int = 2
    ) -> None:
        share = training_scheduler(beta_schedule).alphas_cumprod.double().numpy()
        known = 0.5 * np.log(share / (1.0 - share))  # falls with the timestep
        self.lambdas = np.linspace(known[FULL_NOISE], known[0], num_steps + 1)
        if order == 1:
            even = np.linspace(FULL_NOISE, 1, num_steps).round().astype(int)
            self.lambdas = known[np.append(even, 0)]
        self.alphas = 1.0 / np.sqrt(1.0 + np.exp(-2.0 * self.lambdas))
        self.sigmas = 1.0 / np.sqrt(1.0 + np.exp(2.0 * self.lambdas))
        steps = np.interp(self.lambdas[:-1], known[::-1], np.arange(len(known))[::-1])
        self.timesteps = torch.from_numpy(steps).float()
        self.prediction_type, self.order = prediction_type, order
        self._index = 0
        self._last: Tensor | None = None

    def step(self, output: Tensor, timestep: Any, sample: Tensor) -> tuple[Tensor, Tensor]:
        """The next sample and the clean latent that the network estimates, as MONAI's schedulers return them.

        Args:
            output: of the network.
            timestep: the one of :attr:`timesteps` whose turn it is; they come in order, each once.
            sample: the noisy latent.
        """
        alpha, sigma = float(self.alphas[self._index]), float(self.sigmas[self._index])
        following = self._index + 1
        if self.prediction_type == "v_prediction":
            clean = alpha * sample - sigma * output
        else:
            clean = (sample - sigma * output) / alpha
        estimate = clean
        if self.order == 2 and self._last is not None:
            estimate = 1.5 * clean - 0.5 * self._last  # half a step of equal steps ahead
        decay = float(self.alphas[following] * np.expm1(self.lambdas[self._index] - self.lambdas[following]))
        ratio = float(self.sigmas[following] / sigma)
        self._index, self._last = following, clean
        return ratio * sample - decay * estimate, clean
