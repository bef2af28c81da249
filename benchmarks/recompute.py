"""How much memory do activations of the full-size U-Net take, kept and computed again (``gradient_checkpointing``)?

    python benchmarks/recompute.py [--batch-size 16]

A forward and a backward pass of random weights, without an optimiser, each way in a process of its own, its anonymous
memory at its peak. What is the same both ways, libraries, weights and gradients, is told apart: a pass of one latent.
Linux only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from processes import GB, run, start


@dataclass(frozen=True)
class Task:
    """What one process measures."""

    batch_size: int
    again: bool
    limit: float = 16.0


def measure(task: Task) -> dict[str, Any]:
    """``seconds`` of both passes."""
    import torch

    from scripts.networks.unet import StableDiffusionUNet

    torch.manual_seed(0)
    unet = StableDiffusionUNet(4)
    if task.again:
        unet.checkpoint_gradients()
    size = task.batch_size
    inputs = torch.randn(size, 4, 8, 8), torch.linspace(1, 981, size), torch.randn(size, 2, 2560)
    start = time.perf_counter()
    unet(*inputs).square().mean().backward()
    return {"seconds": time.perf_counter() - start}


def main(batch_size: Annotated[int, typer.Option(min=2, help="Latents in a pass.")] = 16) -> None:
    """Prints seconds and memory of each way."""
    base = run(Task(1, True), __file__)["anonymous"]
    print(f"One latent, activations computed again: {base / GB:.2f} GB\n")
    print(f"| batch {batch_size} | seconds | GB more |\n|---|---:|---:|")
    for again in (False, True):
        found = run(Task(batch_size, again), __file__)
        name = "computed again" if again else "kept"
        print(f"| {name} | {found['seconds']:.1f} | {(found['anonymous'] - base) / GB:.2f} |")


if __name__ == "__main__":
    start(Task, measure, main)
