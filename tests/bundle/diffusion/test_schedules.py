"""The schedule in closed form, and the steps of sampling."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.diffusion.schedules import sampling_scheduler, training_scheduler
from tests.bundle.diffusion.helpers import (
    diffusers_ddim,
)


def test_schedule_is_linear_in_the_square_root_of_beta() -> None:
    steps = np.arange(1000)
    betas = (np.sqrt(0.00085) + steps / 999 * (np.sqrt(0.012) - np.sqrt(0.00085))) ** 2
    for scheduler in (training_scheduler(), sampling_scheduler()):
        assert scheduler.num_train_timesteps == 1000
        np.testing.assert_allclose(scheduler.betas, betas, rtol=1e-5)
        np.testing.assert_allclose(scheduler.alphas_cumprod, np.cumprod(1 - betas), rtol=1e-4)


def test_fifty_steps_are_981_to_1() -> None:
    assert sampling_scheduler().timesteps.tolist() == list(range(981, 0, -20))


@pytest.mark.parametrize("num_steps", [1, 3, 20, 50, 333, 600, 999])
def test_timesteps_are_diffusers(num_steps: int) -> None:
    assert sampling_scheduler(num_steps).timesteps.tolist() == diffusers_ddim(num_steps).timesteps.tolist()


@pytest.mark.parametrize("num_steps", [0, -1, 1000])
def test_impossible_numbers_of_steps_are_refused(num_steps: int) -> None:
    with pytest.raises(ValueError, match=f"num_steps is {num_steps}"):
        sampling_scheduler(num_steps)
