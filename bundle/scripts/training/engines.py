"""Parts of a training stage's engines: sampler, learning rate, processes."""

from __future__ import annotations

import math
import os
import sys
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from torch.utils.data import DistributedSampler

from scripts.errors import UserError


def epoch_sampler(dataset: Any, seed: int) -> DistributedSampler:
    """A sampler that shuffles by seed and epoch, which MONAI's trainer sets, and divides samples among processes.

    Their batches are together those of one process. Samples that cannot be shared equally are left out of an epoch.
    """
    ranks = idist.get_world_size()
    # repeated samples would make an epoch longer than that of one process
    whole = len(dataset) >= ranks
    return DistributedSampler(dataset, ranks, idist.get_rank(), shuffle=True, seed=seed, drop_last=whole)


def warmup_cosine(
    optimizer: Optimizer, peak: float, warmup_steps: int, decay_steps: int, end: float = 0.1
) -> LRScheduler:
    """A learning-rate schedule: linear from peak/100 over ``warmup_steps``, then cosine to peak/10 at ``decay_steps``.

    Args:
        peak: the optimiser's learning rate.
        decay_steps: the step, counted from the first, where the decay ends; the rate then stays. 0 keeps the peak.
        end: share of the peak that the decay ends at.

    Raises:
        UserError: the decay would end before the warm-up does.
    """
    if 0 < decay_steps <= warmup_steps:
        raise UserError(
            f"decay_steps is {decay_steps}, but warmup_steps is {warmup_steps}: the rate would fall before it has "
            "risen. Give more --decay_steps, or 0 for none, or fewer --warmup_steps."
        )
    schedules: list[LRScheduler] = []
    if warmup_steps:
        schedules.append(LinearLR(optimizer, start_factor=0.01, total_iters=warmup_steps))
    if decay_steps:
        schedules.append(CosineAnnealingLR(optimizer, T_max=decay_steps - warmup_steps, eta_min=end * peak))
    schedules.append(ConstantLR(optimizer, factor=end if decay_steps else 1.0, total_iters=sys.maxsize))
    return SequentialLR(optimizer, schedules, milestones=[steps for steps in (warmup_steps, decay_steps) if steps])


def start_process_group() -> None:
    """Joins the process group of ``torchrun``: NCCL on GPUs, gloo on CPUs.

    Under SLURM, Ignite would take the local rank from SLURM's variables, which are those of the task that started
    ``torchrun``: every process of a node would have the first GPU. So the job is hidden from this process.
    """
    os.environ.pop("SLURM_JOB_ID", None)
    if not torch.distributed.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if cuda else "gloo")


def stop_process_group() -> None:
    """Waits for every rank, then leaves the process group."""
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    idist.sync()  # Ignite would take this process for a rank still


def distribute(network: nn.Module) -> nn.Module:
    """``network`` in ``DistributedDataParallel`` if there is a process group, else as it is."""
    if not torch.distributed.is_initialized():
        return network
    device = next(network.parameters()).device
    # steps with cached contexts do not use the soft prompts
    return nn.parallel.DistributedDataParallel(
        network, device_ids=[device] if device.type == "cuda" else None, find_unused_parameters=True
    )


PRECISIONS = ("float32", "tf32", "bfloat16")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")


class Bfloat16(nn.Module):
    """A network whose forward pass computes in bfloat16 where torch's autocast does; weights and outputs are float32.

    bfloat16 has float32's range, so that losses need no scaling.

    Args:
        network: keeps its parameters; this class adds none.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's tensor, or dictionary of tensors, in float32."""
        with torch.autocast(next(self.network.parameters()).device.type, torch.bfloat16):
            output = self.network(*args, **kwargs)
        return {name: each.float() for name, each in output.items()} if isinstance(output, dict) else output.float()


def accelerate(
    network: nn.Module,
    precision: str = "float32",
    channels_last: bool = False,
    compile_mode: str | None = None,
    gradient_checkpointing: bool = False,
) -> nn.Module:
    """``network`` as a trainer runs it. It keeps its parameters, and their names in checkpoints.

    Args:
        network: is itself changed by ``channels_last``, ``compile_mode`` and ``gradient_checkpointing``.
        precision: ``float32``, as torch computes it by default; ``tf32``, in which GPUs from Ampere on compute matrix
            products too, throughout the process; ``bfloat16``, in which forward passes compute (:class:`Bfloat16`).
        channels_last: stores convolutions' weights with their channels last, which tensor cores need not reorder.
        compile_mode: of ``torch.compile``: ``default``, ``reduce-overhead``, which on a GPU replays CUDA graphs, or
            ``max-autotune``; None does not compile.
        gradient_checkpointing: calls the network's ``checkpoint_gradients``, which saves memory and takes time.

    Raises:
        UserError: another precision or mode, or a network that has no ``checkpoint_gradients``.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision is {precision!r}, expected {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}.")
    if compile_mode not in (None, *COMPILE_MODES):
        raise UserError(f"compile_mode is {compile_mode!r}, expected null, {', '.join(COMPILE_MODES)}.")
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    if channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if gradient_checkpointing:
        if not hasattr(network, "checkpoint_gradients"):
            raise UserError(
                f"gradient_checkpointing: {type(network).__name__} keeps all its activations. Leave it out."
            )
        network.checkpoint_gradients()  # type: ignore[operator]
    if compile_mode is not None:
        network.compile(mode=compile_mode)
    return Bfloat16(network) if precision == "bfloat16" else network


def stepped(engine: Engine, _: int | None = None) -> bool:
    """Whether the optimiser steps in this iteration; with ``accumulation_steps`` it does not in every one.

    It is the rule of MONAI's ``SupervisedTrainer``; as a filter of Ignite's events it takes a second argument.
    """
    every, length = getattr(engine, "accumulation_steps", 1), engine.state.epoch_length or 1
    position = (engine.state.iteration - 1) % length + 1
    return position % every == 0 or position == length


def refuse_accumulation(trainer: str, accumulation_steps: int) -> None:
    """Raises a :class:`UserError` if a trainer, named here, that steps on every batch is asked to sum gradients."""
    if accumulation_steps > 1:
        raise UserError(
            f"accumulation_steps is {accumulation_steps}, but {trainer} steps on every batch. Leave it at 1, and give "
            "a larger --batch_size instead."
        )


def steps_taken(engine: Engine) -> int:
    """How many steps the optimiser has taken, counted from the first epoch; resumed runs count on."""
    every, length = getattr(engine, "accumulation_steps", 1), engine.state.epoch_length or 1
    epochs, rest = divmod(engine.state.iteration, length)
    return epochs * math.ceil(length / every) + rest // every
