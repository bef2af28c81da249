"""Functions that turn a data loader's batch into the network's input and the loss's target (MONAI: prepare_batch)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from monai.engines import DiffusionPrepareBatch
from torch import Tensor

from scripts.data.padding import without_padding
from scripts.diffusion.schedules import training_scheduler
from scripts.networks.unet import SCHEDULE


def prepare_crop_batch(
    batch: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """The batch of autoencoder and classifier.

    Returns:
        The crops (B, 1, H, W), and as target a dictionary with ``image``, NaN where it is padded, and, where the batch
        has them, ``attributes`` (B, F) and ``malignant`` (B,).
    """
    moved = {
        name: torch.as_tensor(value).to(device=device, non_blocking=non_blocking, **kwargs)
        for name, value in batch.items()
        if name in ("image", "attributes", "malignant")
    }
    image = moved["image"].as_tensor() if hasattr(moved["image"], "as_tensor") else moved["image"]
    return image, moved | {"image": without_padding(image, batch, "image")}


def prepare_baseline_batch(
    batch: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, None, tuple, dict[str, Any]]:
    """The batch of inference: the baseline crops (B, 1, H, W), and the reports as the inferer's ``condition``."""
    image = batch["image"].to(device=device, non_blocking=non_blocking, **kwargs)
    return image, None, (), {"condition": batch["report"]}


class LatentPrepareBatch(DiffusionPrepareBatch):
    """The batch of the diffusion stages: MONAI's, with the two conditions of Eq. 10, baseline latent and report.

    Args:
        image_key: key of the latents that are noised.
        concat_key: key of the latents that are concatenated to them, if any.
        condition_key: key of the reports (one string per sample); None gives the unconditional stage's null context.
        prediction_type: what the network predicts, ``epsilon`` (the noise) or ``v_prediction``.
        beta_schedule: of the training schedule, by which v is computed.
        fixed: the same noise and evenly spread timesteps in every call, so that validation losses of different epochs
            can be compared. The global random generator is not used then.
    """

    def __init__(
        self,
        image_key: str = "follow_up",
        concat_key: str | None = None,
        condition_key: str | None = None,
        prediction_type: str = "epsilon",
        beta_schedule: str = "scaled_linear",
        fixed: bool = False,
    ) -> None:
        super().__init__(SCHEDULE["num_train_timesteps"])
        self.scheduler = training_scheduler(beta_schedule)
        self.prediction_type = prediction_type
        self.image_key = image_key
        self.concat_key = concat_key
        self.condition_key = condition_key
        self.fixed = fixed

    def get_noise(self, images: Tensor) -> Tensor:
        """Gaussian noise of the latents' shape."""
        if not self.fixed:
            return torch.randn_like(images)
        return torch.randn(images.shape, generator=torch.Generator().manual_seed(len(images))).to(images)

    def get_target(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network should predict: ``noise``, or v = alpha noise - sigma latent."""
        if self.prediction_type == "v_prediction":
            return self.scheduler.get_velocity(images, noise, timesteps)
        return noise

    def get_timesteps(self, images: Tensor) -> Tensor:
        """A timestep (B,) for each latent: random ones, or with ``fixed`` evenly spread ones."""
        if not self.fixed:
            return super().get_timesteps(images)
        # a stride coprime to the batch size visits every step once, and puts neighbours far apart
        stride = next(stride for stride in itertools.count(7) if math.gcd(stride, len(images)) == 1)
        steps = (torch.arange(len(images)) * stride % len(images) + 0.5) * self.num_train_timesteps / len(images)
        return steps.long().to(images.device)

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple, dict]:
        """Latents, target (NaN where it is padded), no positional arguments, and the inferer's keyword arguments."""
        move: dict[str, Any] = {"device": device, "non_blocking": non_blocking, **kwargs}
        latents = batchdata[self.image_key].to(**move)
        noise, timesteps = self.get_noise(latents), self.get_timesteps(latents)
        inferer_arguments = {
            "noise": noise,
            "timesteps": timesteps,
            "concat": None if self.concat_key is None else batchdata[self.concat_key].to(**move),
            "condition": None if self.condition_key is None else batchdata[self.condition_key],
        }
        target = without_padding(self.get_target(latents, noise, timesteps), batchdata, self.image_key)
        return latents, target, (), inferer_arguments
