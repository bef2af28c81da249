"""What training on MONAI's Ignite engines needs: batches, order, learning rate, validation's losses, processes."""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import ignite.distributed as idist
import torch
from ignite.metrics import Loss, Metric
from monai.engines import DiffusionPrepareBatch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from torch.utils.data import DistributedSampler

from scripts.data import to_hu
from scripts.diffusion import training_scheduler

# ---- batches -------------------------------------------------------------------------------------------------------


def prepare_crop_batch(
    batch: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """For autoencoder and classifier: the crops, and as target all that their losses compare with."""
    moved = {
        name: torch.as_tensor(value).to(device=device, non_blocking=non_blocking, **kwargs)
        for name, value in batch.items()
        if name in ("image", "attributes", "malignant")
    }
    image = moved["image"].as_tensor() if hasattr(moved["image"], "as_tensor") else moved["image"]
    return image, moved | {"image": image}


def prepare_baseline_batch(
    batch: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, None, tuple, dict[str, Any]]:
    """For inference: the baseline crops, and the report as the inferer's ``condition``."""
    image = batch["image"].to(device=device, non_blocking=non_blocking, **kwargs)
    return image, None, (), {"condition": batch["report"]}


class LatentPrepareBatch(DiffusionPrepareBatch):
    """MONAI's diffusion batch with the two conditions of Eq. 10: the baseline's latent and the report.

    Args:
        num_train_timesteps: length of the noise schedule.
        image_key: the latent to be noised.
        concat_key: the latent to be concatenated, if any.
        condition_key: the report (a string a sample), or None for the unconditional stage's null context.
        prediction_type: of the network, which decides what it is to learn: the noise, or v.
        fixed: the same noise and evenly spread timesteps in every call, so that validation losses of different epochs
            can be compared; the training's random stream is left alone.
    """

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        image_key: str = "follow_up",
        concat_key: str | None = None,
        condition_key: str | None = None,
        prediction_type: str = "epsilon",
        fixed: bool = False,
    ) -> None:
        super().__init__(num_train_timesteps)
        self.scheduler = training_scheduler()
        self.prediction_type = prediction_type
        self.image_key = image_key
        self.concat_key = concat_key
        self.condition_key = condition_key
        self.fixed = fixed

    def get_noise(self, images: Tensor) -> Tensor:
        if not self.fixed:
            return torch.randn_like(images)
        return torch.randn(images.shape, generator=torch.Generator().manual_seed(len(images))).to(images)

    def get_target(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        if self.prediction_type == "v_prediction":
            return self.scheduler.get_velocity(images, noise, timesteps)
        return noise

    def get_timesteps(self, images: Tensor) -> Tensor:
        if not self.fixed:
            return super().get_timesteps(images)
        # evenly spread over the schedule, neighbours in a batch far apart
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
        move: dict[str, Any] = {"device": device, "non_blocking": non_blocking, **kwargs}
        latents = batchdata[self.image_key].to(**move)
        noise, timesteps = self.get_noise(latents), self.get_timesteps(latents)
        inferer_arguments = {
            "noise": noise,
            "timesteps": timesteps,
            "concat": None if self.concat_key is None else batchdata[self.concat_key].to(**move),
            "condition": None if self.condition_key is None else batchdata[self.condition_key],
        }
        return latents, self.get_target(latents, noise, timesteps), (), inferer_arguments


def epoch_sampler(dataset: Any, seed: int) -> DistributedSampler:
    """Shuffles by seed and epoch alone (MONAI's trainer tells it the epoch) and shares out among processes."""
    return DistributedSampler(dataset, idist.get_world_size(), idist.get_rank(), shuffle=True, seed=seed)


def warmup_cosine(optimizer: Optimizer, peak: float, warmup_steps: int, decay_steps: int) -> LRScheduler:
    """Learning rate of stage 2: linear from peak/100 over ``warmup_steps``, then cosine to peak/10 at ``decay_steps``.

    Args:
        decay_steps: the step, warm-up included, where the decay ends and the rate stays; 0 keeps the peak for ever.
    """
    schedules: list[LRScheduler] = []
    if warmup_steps:
        schedules.append(LinearLR(optimizer, start_factor=0.01, total_iters=warmup_steps))
    if decay_steps:
        schedules.append(CosineAnnealingLR(optimizer, T_max=decay_steps - warmup_steps, eta_min=0.1 * peak))
    schedules.append(ConstantLR(optimizer, factor=0.1 if decay_steps else 1.0, total_iters=sys.maxsize))
    return SequentialLR(optimizer, schedules, milestones=[steps for steps in (warmup_steps, decay_steps) if steps])


def validation_loss(loss: Callable[[Any, Any], Tensor]) -> Metric:
    """The training's own loss, averaged over the validation split."""
    return Loss(
        loss,
        output_transform=lambda output: (output["pred"], output["label"]),
        batch_size=lambda label: len(label["image"] if isinstance(label, Mapping) else label),
    )


def hu_error() -> Metric:
    """Mean absolute error of the reconstruction in HU (inside the window), over the validation split."""
    return validation_loss(lambda pred, label: (to_hu(pred["reconstruction"]) - to_hu(label["image"])).abs().mean())


# ---- several processes ---------------------------------------------------------------------------------------------


def start_process_group() -> None:
    """Joins the processes that ``torchrun`` started: NCCL on GPUs, gloo on CPUs."""
    if not torch.distributed.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if cuda else "gloo")


def stop_process_group() -> None:
    """Leaves the process group once every rank is done."""
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def distribute(network: nn.Module) -> nn.Module:
    """``network`` in DistributedDataParallel where a process group runs, else as it is."""
    if not torch.distributed.is_initialized():
        return network
    device = next(network.parameters()).device
    # soft prompts take no part in steps whose contexts are cached
    return nn.parallel.DistributedDataParallel(
        network, device_ids=[device] if device.type == "cuda" else None, find_unused_parameters=True
    )
