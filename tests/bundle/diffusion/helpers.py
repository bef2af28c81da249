"""Toy networks for the tests of diffusion, and diffusers' scheduler to hold ours against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from scripts.diffusion.denoiser import Denoiser
from scripts.diffusion.sampler import ProgressionInferer, ProgressionModel


class Reader(nn.Module):
    """In the conditioner's place: the context is a function of the report's characters."""

    def null_context(self, batch_size: int) -> Tensor:
        return torch.full((batch_size, 2, 6), -0.3)

    def forward(self, reports: Sequence[str]) -> Tensor:
        return torch.stack([torch.sin(torch.arange(12.0) * len(text)).view(2, 6) for text in reports])


class ToyAutoencoder(nn.Module):
    """8 x 8 crops to four channels and back, small enough that nothing is clamped."""

    def latent_size(self, image_size: int) -> int:
        return image_size

    def encode_stage_2_inputs(self, x: Tensor) -> Tensor:
        return torch.cat([x, 2 * x, x.square(), 1 - x], dim=1)

    def decode_stage_2_outputs(self, z: Tensor) -> Tensor:
        return 0.002 * z.sum(dim=1, keepdim=True)


class ToyUNet(nn.Module):
    """Depends on latent, baseline, timestep and context; remembers its inputs."""

    beta_schedule = "scaled_linear"

    def __init__(self, prediction_type: str = "epsilon") -> None:
        super().__init__()
        self.prediction_type = prediction_type
        self.seen: list[Tensor] = []

    def check_size(self, latent_size: int) -> None:
        pass

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        self.seen.append(x)
        latent, baseline = x.chunk(2, dim=1)
        time = torch.cos(timesteps / 300.0).view(-1, 1, 1, 1)
        return (
            torch.tanh(latent + 0.5 * latent.roll(1, dims=1)) * time
            + 0.1 * baseline
            + context.mean((1, 2))[:, None, None, None]
        )


def toy(prediction_type: str = "epsilon") -> ProgressionModel:
    return ProgressionModel(ToyAutoencoder(), Denoiser(ToyUNet(prediction_type), Reader()))


def crops(count: int, size: int = 32) -> Tensor:
    return torch.rand((count, 1, size, size), generator=torch.Generator().manual_seed(3)) * 2 - 1


REPORTS = ["short", "a longer report", "the longest of these reports"]


def diffusers_ddim(
    num_steps: int, prediction_type: str = "epsilon", beta_schedule: str = "scaled_linear"
) -> DDIMScheduler:
    scheduler = DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule=beta_schedule,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
        prediction_type=prediction_type,
    )
    scheduler.set_timesteps(num_steps)
    return scheduler


def generate(model: ProgressionModel, images: Tensor, reports: Any, **settings: Any) -> Tensor:
    return ProgressionInferer(**{"num_steps": 4, "num_runs": 3, **settings})(images, model, reports)
