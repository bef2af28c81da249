"""Compared methods that learn to generate follow-ups: their base class, and how their weights are opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from scripts import comparators
from scripts.comparators.contract import Condition
from scripts.diffusion.noise import Draw
from scripts.weights.checkpoints import load_network, read_metadata

WEIGHTS = "generator.safetensors"
"""File in a folder of weights that holds the whole of a compared method."""


class Generator(nn.Module):
    """An :class:`~scripts.comparators.contract.ImageMethod` with weights, in one module and one file.

    A subclass is one of this package's public names; by that name, and no other way, files are opened.

    Attributes:
        title: what the method is called in results. One that was rebuilt from an abstract says "(reconstructed)".
        reads, stochastic: see :class:`~scripts.comparators.contract.Comparator`.
        network_calls: evaluations of the method's networks for one sample, two for each guided step.
        config: the arguments of the class, JSON-serialisable, from which the file rebuilds it.
    """

    title: str
    reads: frozenset[str]
    stochastic: bool
    network_calls: int = 1
    config: dict[str, Any]

    def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """One follow-up for each case, see :meth:`scripts.comparators.contract.ImageMethod.sample`."""
        raise NotImplementedError


def load_generator(models_dir: str | Path) -> Generator:
    """The method in a folder of weights, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: there is no :data:`WEIGHTS`, it is damaged, or holds a class that is no compared method.
    """
    return cast(Generator, load_network(Path(models_dir) / WEIGHTS, "Generator", comparators))


def generator_metadata(models_dir: str | Path) -> dict[str, Any]:
    """``network``, ``config`` and ``extra`` of the method in a folder of weights, see :func:`load_generator`."""
    return read_metadata(Path(models_dir) / WEIGHTS, "Generator", comparators)
