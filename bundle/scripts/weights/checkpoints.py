"""Weights on disk: one safetensors file a network, holding all that a later stage needs to rebuild it.

The file's metadata names the network's class and arguments, so a shape is written once, where the network was first
built. Files open on any device, and nothing in them is code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from scripts import networks
from scripts.errors import UserError
from scripts.files import write_tensors

FORMAT_VERSION = "1"

RENAMED = {"NoduleClassifier": "ViTClassifier"}
"""Classes that files of versions before 0.4 name otherwise."""


class CheckpointError(UserError):
    """A weights file that is absent, damaged, or not what was expected; the message says which and what to do."""


def save_network(
    network: nn.Module, path: str | os.PathLike, extra: Mapping[str, Any] | None = None, dtype: str = "float32"
) -> Path:
    """Writes ``network`` (any class of :mod:`scripts.networks`) to ``path``, whole or not at all.

    Args:
        extra: JSON-serialisable facts that travel with the weights, such as the data set's name or validation scores.
        dtype: of the stored weights; ``float16`` halves the file, and the network is rebuilt in float32 all the same.
    """
    path = Path(path)
    metadata = {
        "format": "pt",
        "namd_format": FORMAT_VERSION,
        "network": type(network).__name__,
        "config": json.dumps(network.config),
        "extra": json.dumps(dict(extra or {})),
    }
    tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in network.state_dict().items()}
    write_tensors(path, tensors, metadata)
    return path


def read_metadata(path: str | os.PathLike, expected: str | None = None) -> dict[str, Any]:
    """Class, arguments and extra facts of a weights file: ``{"network", "config", "extra"}``.

    Args:
        expected: the class that the file must hold, or one that it derives from.

    Raises:
        CheckpointError: naming the file, what it holds and what was expected.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file. Train the stage that makes it, or give its path.")
    with _opened(path) as file:
        metadata = file.metadata() or {}
    if metadata.get("namd_format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format {metadata.get('namd_format')!r}, expected {FORMAT_VERSION!r}. "
            "Weights of other projects are converted with import_weights.yaml."
        )
    name = RENAMED.get(metadata["network"], metadata["network"])
    network_class = getattr(networks, name, None)
    if not (isinstance(network_class, type) and issubclass(network_class, nn.Module)):
        raise CheckpointError(f"{path}: holds a {name}, which this version does not know. Update it.")
    if expected is not None and not issubclass(network_class, getattr(networks, expected)):
        raise CheckpointError(f"{path}: holds a {name}, expected a {expected}.")
    return {
        "network": name,
        "config": json.loads(metadata["config"]),
        "extra": json.loads(metadata["extra"]),
    }


def load_network(path: str | os.PathLike, expected: str | None = None, **overrides: Any) -> nn.Module:
    """Rebuilds the network of ``path`` on the CPU, in evaluation mode.

    Args:
        expected: the class that the file must hold, or one that it derives from.
        overrides: arguments that replace the stored ones, only where they leave the weights' shapes as they are.

    Raises:
        CheckpointError: naming the file, what it holds and what was expected.
    """
    metadata = read_metadata(path, expected)
    network = getattr(networks, metadata["network"])(**{**metadata["config"], **overrides})
    try:
        network.load_state_dict(load_tensors(path))
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its weights do not fit {metadata['network']} {network.config}: {error}"
        ) from error
    return network.eval()


def load_tensors(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, on the CPU."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}). Copy or train it again.") from error
