"""What tests of training share."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from torch import Tensor

from scripts.networks import StableDiffusionAutoencoder
from scripts.training import LatentPrepareBatch
from tests.bundle.helpers import CONFIGS

DRAWN: dict[tuple[Any, str], Callable[..., Tensor]] = {
    (StableDiffusionAutoencoder, "sampling"): lambda self, mean, std: mean,
    (LatentPrepareBatch, "get_noise"): lambda self, images: torch.sin(100.0 * images),
    (LatentPrepareBatch, "get_timesteps"): lambda self, images: (997.0 * images[:, 0, 0, 0].abs() % 1000).long(),
}
"""Functions of a sample in place of the random numbers that training draws for it, by class and name."""


def settle() -> None:
    """Puts :data:`DRAWN` in place."""
    for (owner, name), function in DRAWN.items():
        setattr(owner, name, function)


def torchrun(name: str, folder: Path, processes: int, *overlays: str, **settings: Any) -> str:
    """Runs a stage in several processes, with tiny settings and overlays given; what they print."""
    files = [str(CONFIGS / f"{each}.yaml") for each in (name, "small", "multi_gpu", *overlays)]
    entry = "training" if name.startswith("train") else "inference"
    launch = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    command = ["--nproc_per_node", str(processes), "-m", "monai.bundle", "run", entry, "--config_file", str(files)]
    options = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [*launch, *command, *options], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


def forked(count: int, work: Callable[[], None]) -> None:
    """Calls a function in as many ranks: with torchrun's variables, and without its ten seconds of imports a rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def rank(number: int) -> None:
        places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count, "CUDA_VISIBLE_DEVICES": ""}
        own = {"RANK": number, "LOCAL_RANK": number, "LOCAL_WORLD_SIZE": count}
        os.environ.update({name: str(value) for name, value in {**places, **own}.items()})
        idist.sync(temporary=True)  # Ignite looks again for a process group whenever it is asked
        work()

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=rank, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count


def load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def differences(first: Any, second: Any, where: str = "") -> list[str]:
    """Where two nested states differ, in any bit."""
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [f"{where}: {first.keys() ^ second.keys()}"]
        return [found for key in first for found in differences(first[key], second[key], f"{where}/{key}")]
    if isinstance(first, (list, tuple)):
        if len(first) != len(second):
            return [f"{where}: {len(first)} and {len(second)}"]
        pairs = enumerate(zip(first, second, strict=True))
        return [found for index, (a, b) in pairs for found in differences(a, b, f"{where}/{index}")]
    same = torch.equal(first, second) if isinstance(first, Tensor) else first == second
    return [] if same else [where]
