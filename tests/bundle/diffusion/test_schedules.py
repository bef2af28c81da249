"""The schedule in closed form, and the steps of sampling."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from scripts.diffusion.schedules import FULL_NOISE, DPMSolverPlusPlus, sampling_scheduler, training_scheduler
from tests.bundle.diffusion.helpers import diffusers_ddim


def test_schedule_is_linear_in_the_square_root_of_beta() -> None:
    steps = np.arange(1000)
    betas = (np.sqrt(0.00085) + steps / 999 * (np.sqrt(0.012) - np.sqrt(0.00085))) ** 2
    for scheduler in (training_scheduler(), sampling_scheduler()):
        assert scheduler.num_train_timesteps == 1000
        np.testing.assert_allclose(scheduler.betas, betas, rtol=1e-5)
        np.testing.assert_allclose(scheduler.alphas_cumprod, np.cumprod(1 - betas), rtol=1e-4)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp"])
def test_the_literal_schedule_is_linear_in_beta(solver: str) -> None:
    share = np.cumprod(1 - np.linspace(0.00085, 0.012, 1000))
    np.testing.assert_allclose(training_scheduler("linear").alphas_cumprod, share, rtol=1e-4)
    sampler = sampling_scheduler(10, "epsilon", solver, "linear")
    if solver == "ddim":
        np.testing.assert_allclose(sampler.alphas_cumprod, share, rtol=1e-4)
    else:
        np.testing.assert_allclose([sampler.alphas[0] ** 2, sampler.alphas[-1] ** 2], share[[FULL_NOISE, 0]], rtol=1e-4)


def test_fifty_steps_are_981_to_1() -> None:
    assert sampling_scheduler().timesteps.tolist() == list(range(981, 0, -20))


@pytest.mark.parametrize("num_steps", [2, 3, 20, 50, 333, 500, 999])
def test_timesteps_are_diffusers(num_steps: int) -> None:
    assert sampling_scheduler(num_steps).timesteps.tolist() == diffusers_ddim(num_steps).timesteps.tolist()


def test_every_number_of_steps_starts_within_a_step_of_full_noise_and_ends_at_one() -> None:
    assert sampling_scheduler(1).timesteps.tolist() == [FULL_NOISE]
    for num_steps in range(2, 1000):
        timesteps = sampling_scheduler(num_steps).timesteps
        assert len(timesteps) == num_steps and timesteps[0] > 900 - 1000 / num_steps
        assert timesteps[-1] == 1 and bool((timesteps.diff() < 0).all())


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_steps_that_are_spread_are_those_of_ddim(kind: str) -> None:
    """Eq. 12 of Song et al. 2021 with eta 0, from each timestep to the next."""
    solver = sampling_scheduler(334, kind)
    sample = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = training_scheduler().alphas_cumprod.double()
    expected = sample
    for step, following in pairwise([*solver.timesteps.int().tolist(), 0]):
        alpha, sigma = share[step].sqrt(), (1 - share[step]).sqrt()
        predicted = output(expected, step)
        clean, noise = alpha * expected - sigma * predicted, sigma * expected + alpha * predicted
        if kind == "epsilon":
            clean, noise = (expected - sigma * predicted) / alpha, predicted
        expected = share[following].sqrt() * clean + (1 - share[following]).sqrt() * noise
        sample = solver.step(output(sample, step), step, sample)[0]
    torch.testing.assert_close(sample, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_steps", [201, 334, 501, 700, 900])
def test_many_steps_end_near_the_solution_whatever_their_number(num_steps: int) -> None:
    """Nearer than fifty: those that started far below full noise ended elsewhere."""
    start = torch.randn(64, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = solved(start, 990, "dpmpp")
    far = float((solved(start, 50, "ddim") - exact).square().mean().sqrt())
    assert float((solved(start, num_steps, "ddim") - exact).square().mean().sqrt()) < far / 2


@pytest.mark.parametrize("num_steps", [0, -1, 1000])
def test_impossible_numbers_of_steps_are_refused(num_steps: int) -> None:
    with pytest.raises(ValueError, match=f"num_steps is {num_steps}"):
        sampling_scheduler(num_steps)


def test_an_unknown_solver_is_refused() -> None:
    with pytest.raises(ValueError, match="solver is 'euler', expected ddim or dpmpp"):
        sampling_scheduler(solver="euler")


def output(sample: torch.Tensor, timestep: float) -> torch.Tensor:
    """A network's, smooth in sample and time."""
    return torch.tanh(sample + 0.3 * sample.roll(1, 0)) * np.cos(float(timestep) / 400)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("num_steps", [1, 2, 8, 21])
def test_dpmpp_takes_the_steps_of_diffusers(num_steps: int, kind: str) -> None:
    """On the same grid, which diffusers spaces otherwise: it starts at 999 and rounds to trained timesteps."""
    ours: DPMSolverPlusPlus = sampling_scheduler(num_steps, kind, "dpmpp")
    theirs = DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=kind,
        lower_order_final=False,
        final_sigmas_type="sigma_min",
    )
    theirs.set_timesteps(num_steps)
    theirs.sigmas, theirs.timesteps = torch.from_numpy(ours.sigmas / ours.alphas), ours.timesteps
    first = second = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for step in ours.timesteps:
        first = ours.step(output(first, step), step, first)[0]
        second = theirs.step(output(second, step), step, second).prev_sample
    torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("num_steps", [1, 5, 12, 400])
def test_dpmpp_starts_at_full_noise_and_ends_at_the_least(num_steps: int) -> None:
    solver = DPMSolverPlusPlus(num_steps, "epsilon")
    share = training_scheduler().alphas_cumprod.double().numpy()
    assert len(solver.timesteps) == num_steps and float(solver.timesteps[0]) == FULL_NOISE
    np.testing.assert_allclose([solver.alphas[0], solver.alphas[-1]], np.sqrt(share[[FULL_NOISE, 0]]), rtol=1e-9)
    np.testing.assert_allclose(solver.alphas**2 + solver.sigmas**2, 1)
    np.testing.assert_allclose(np.diff(solver.lambdas), np.diff(solver.lambdas)[0])


def test_dpmpp_is_of_second_order_and_ddim_of_first() -> None:
    """Twice the steps: about a quarter of the distance to the ODE's solution, of DDIM about half."""
    start = torch.randn(64, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    exact = solved(start, 990, "dpmpp")
    distances = [float((solved(start, count, "dpmpp") - exact).square().mean().sqrt()) for count in (10, 20, 40)]
    assert distances[0] / distances[1] > 3 and distances[1] / distances[2] > 3
    assert distances[0] < float((solved(start, 50, "ddim") - exact).square().mean().sqrt())


def solved(start: torch.Tensor, num_steps: int, solver: str) -> torch.Tensor:
    """The sample that a solver ends with."""
    scheduler, sample = sampling_scheduler(num_steps, "v_prediction", solver), start
    for step in scheduler.timesteps:
        sample = scheduler.step(0.5 * output(sample, step), step, sample)[0]
    return sample
