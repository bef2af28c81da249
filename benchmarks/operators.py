"""Where does the time go? Sampling and a training step by operator, beside their floor.

    python benchmarks/operators.py [sampling] [conditional] [autoencoder]

The floor is what the arithmetic would take at the speed of this machine's large matrix product: FLOPs (torch's
FlopCounterMode) over that speed. Networks are small.yaml's with random weights; sampling is one case of 20 runs at
guidance 6, training is one batch with random latents or crops.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import data_prep  # noqa: F401 (puts the bundle on the path)

ROWS = 12
SMALL_UNET: dict[str, Any] = {"channels": (32, 64, 96), "num_res_blocks": 1, "norm_num_groups": 8, "context_dim": 576}
SMALL_AUTOENCODER: dict[str, Any] = {"channels": (16, 32, 64, 128), "num_res_blocks": 1, "norm_num_groups": 4}


class Part(StrEnum):
    sampling = "sampling"
    conditional = "conditional"
    autoencoder = "autoencoder"


def sampling() -> Callable[[], Any]:
    """One case of 20 runs with DDIM-50 at guidance 6."""
    from scripts.conditioning.null import NullConditioner
    from scripts.diffusion.denoiser import Denoiser
    from scripts.diffusion.sampler import ProgressionInferer, ProgressionModel
    from scripts.networks.autoencoder import StableDiffusionAutoencoder
    from scripts.networks.unet import StableDiffusionUNet

    denoiser = Denoiser(StableDiffusionUNet(8, **SMALL_UNET), NullConditioner(torch.zeros(1, 1, 576), 2))  # type: ignore[arg-type]
    model = ProgressionModel(StableDiffusionAutoencoder(**SMALL_AUTOENCODER), denoiser).eval()
    crop, context = torch.rand(1, 1, 64, 64) * 2 - 1, torch.randn(1, 2, 576)
    return lambda: ProgressionInferer(guidance_scale=6.0)(crop, model, context)


def conditional() -> Callable[[], Any]:
    """A step of 32 latents: forward, backward, clipping, AdamW, average of the weights."""
    from scripts.conditioning.null import NullConditioner
    from scripts.diffusion.denoiser import ConditionalDiffusionInferer, Denoiser
    from scripts.networks.unet import StableDiffusionUNet
    from scripts.training.batches import LatentPrepareBatch

    network = Denoiser(StableDiffusionUNet(8, **SMALL_UNET), NullConditioner(torch.zeros(1, 1, 576), 2), 0.15)  # type: ignore[arg-type]
    batch = {name: torch.randn(32, 4, 8, 8) for name in ("baseline", "follow_up")} | {"report": torch.randn(32, 2, 576)}
    prepare = LatentPrepareBatch(concat_key="baseline", condition_key="report", prediction_type="v_prediction")
    return step_of(network, batch, prepare, ConditionalDiffusionInferer(), torch.nn.MSELoss(), 5e-4)


def autoencoder() -> Callable[[], Any]:
    """A step of 8 crops."""
    from monai.inferers import SimpleInferer

    from scripts.losses import AutoencoderLoss
    from scripts.networks.autoencoder import AlignedAutoencoder, StableDiffusionAutoencoder
    from scripts.training.batches import prepare_crop_batch

    network = AlignedAutoencoder(StableDiffusionAutoencoder(**SMALL_AUTOENCODER))
    batch = {"image": torch.rand(8, 1, 64, 64), "attributes": torch.randn(8, 9), "malignant": torch.ones(8)}
    loss = AutoencoderLoss("alex", 2, perceptual_weight=0.1, alignment_weight=0.05, prediction_weight=0.05)
    return step_of(network, batch, prepare_crop_batch, SimpleInferer(), loss, 1e-3)


def step_of(network: Any, batch: Any, prepare: Any, inferer: Any, loss: Any, rate: float) -> Callable[[], Any]:
    """A step of MONAI's trainer with the handlers that act at each."""
    from monai.engines import SupervisedTrainer

    from scripts.training.handlers import ExponentialAverage, GradientClip

    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[batch],  # type: ignore[arg-type]
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), rate, fused=True),
        loss_function=loss,
        prepare_batch=prepare,
        inferer=inferer,
        train_handlers=[GradientClip(network, 1.0), ExponentialAverage(network, 0.995)],
        decollate=False,
        optim_set_to_none=True,
    )

    def step() -> None:
        trainer.state.epoch = trainer.state.iteration = 0
        trainer.run()

    return step


def speed() -> float:
    """FLOPs a second of a large matrix product, the best of ten."""
    size = 2048
    left, right = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def table_of(part: Part, flops_a_second: float) -> Table:
    """Operators by the time that they themselves take."""
    work = {Part.sampling: sampling, Part.conditional: conditional, Part.autoencoder: autoencoder}[part]()
    for _ in range(3):
        work()
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    with FlopCounterMode(display=False) as counter:
        work()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        work()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    floor = counter.get_total_flops() / flops_a_second
    title = f"{part.value}: {seconds:.3f} s; floor {floor:.3f} s ({floor / seconds:.0%})"
    table = Table("operator", "share", "calls", title=title)
    for event in events[:ROWS]:
        table.add_row(event.key, f"{event.self_cpu_time_total / total:.1%}", str(event.count))
    return table


def main(parts: Annotated[list[Part] | None, typer.Argument(help="left out: all")] = None) -> None:
    """Prints a table for each part."""
    fastest = speed()
    console = Console(width=120)
    console.print(f"{fastest / 1e9:.0f} GFLOP/s, {os.environ.get('OMP_NUM_THREADS', 'all')} threads")
    for part in parts or list(Part):
        console.print(table_of(part, fastest))


if __name__ == "__main__":
    typer.run(main)
