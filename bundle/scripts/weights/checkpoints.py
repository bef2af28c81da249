"""Weights on disk: one safetensors file per network, which a later stage can rebuild the network from.

The file's metadata hold the network's class and arguments, so no later configuration repeats them. Files hold no code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from scripts import networks
from scripts.errors import UserError
from scripts.files import write_tensors

FORMAT_VERSION = "1"
"""Of the metadata; a file with another one is refused."""

RENAMED = {"NoduleClassifier": "ViTClassifier"}
"""Former names of classes, in files of versions before 0.4."""


class CheckpointError(UserError):
    """A weights file that is absent, damaged or of another network; the message names it and says what to do."""


def save_network(
    network: nn.Module, path: str | os.PathLike, extra: Mapping[str, Any] | None = None, dtype: str = "float32"
) -> Path:
    """Writes ``network`` to ``path`` atomically: any class of :mod:`scripts.networks`, or of another fixed table.

    Args:
        extra: JSON-serialisable facts that are stored with the weights, such as the validation loss.
        dtype: of the stored weights; ``float16`` halves the file. The network is always rebuilt in float32.

    Example:
        >>> import tempfile
        >>> network = networks.ResNetClassifier(channels=(4, 4, 8, 8))
        >>> path = save_network(network, Path(tempfile.mkdtemp()) / "classifier.safetensors", extra={"epoch": 3})
        >>> read_metadata(path)["extra"], type(load_network(path)).__name__
        ({'epoch': 3}, 'ResNetClassifier')
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


def read_metadata(path: str | os.PathLike, expected: str | None = None, known: ModuleType = networks) -> dict[str, Any]:
    """Class, arguments and extra facts of a weights file: ``{"network", "config", "extra"}``.

    Args:
        expected: name of the class, or of a base class, that the file must hold.
        known: the package whose public names are the classes that a file may name.

    Raises:
        CheckpointError: names the file, what it holds and what was expected.
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
    network_class = getattr(known, name, None) if name in known.__all__ else None
    if not (isinstance(network_class, type) and issubclass(network_class, nn.Module)):
        raise CheckpointError(f"{path}: holds a {name}, which this version does not know. Update it.")
    if expected is not None and not issubclass(network_class, getattr(known, expected)):
        raise CheckpointError(f"{path}: holds a {name}, expected a {expected}.")
    return {
        "network": name,
        "config": json.loads(metadata["config"]),
        "extra": json.loads(metadata["extra"]),
    }


def load_network(
    path: str | os.PathLike, expected: str | None = None, known: ModuleType = networks, **overrides: Any
) -> nn.Module:
    """Rebuilds the network of ``path`` on the CPU, in evaluation mode.

    Args:
        expected, known: as of :func:`read_metadata`.
        overrides: arguments that replace the stored ones; they must not change the shapes of the weights.

    Raises:
        CheckpointError: names the file, what it holds and what was expected.
    """
    metadata = read_metadata(path, expected, known)
    network = getattr(known, metadata["network"])(**{**metadata["config"], **overrides})
    try:
        network.load_state_dict(load_tensors(path))
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its weights do not fit {metadata['network']} {network.config}: {error}"
        ) from error
    return network.eval()


def initial_classifier(kind: str, arguments: Mapping[str, Any], pretrained: str | Path | None = None) -> nn.Module:
    """A new classifier, or one that starts from weights of this bundle.

    Args:
        kind: a class of :mod:`scripts.networks`, ``ViTClassifier`` or ``ResNetClassifier``.
        arguments: of that class.
        pretrained: a classifier's weights file.

    Raises:
        CheckpointError: the file holds a classifier of another kind or shape.
    """
    network = getattr(networks, kind)(**arguments)
    if pretrained is None:
        return network
    started: Any = load_network(pretrained, kind)
    if started.config != network.config:
        raise CheckpointError(
            f"{pretrained}: holds a {kind} {started.config}, but classifier_shape and image_size ask for "
            f"{network.config}. Give another file, or ask for the same."
        )
    return started.train()


def trained_image_size(path: str | os.PathLike, image_size: int | None = None) -> int:
    """The side in pixels of the crops that the classifier of ``path`` was trained on.

    Args:
        image_size: an option; None takes the weights' own.

    Raises:
        CheckpointError: the option contradicts the weights.
    """
    trained = read_metadata(path, "NoduleClassifier")["config"]["image_size"]
    if image_size not in (None, trained):
        raise CheckpointError(
            f"{path}: trained on crops of {trained} px, but --image_size is {image_size}. Leave it out, since the "
            "weights bring it, or train with it."
        )
    return trained


def required_pretrained(stage: str) -> None:
    """Stands for a path that has to be given: raises a CheckpointError that says which, for a stage that has one."""
    file = {"autoencoder": "autoencoder", "unconditional": "unet_unconditional"}.get(stage)
    if file is None:
        return
    raise CheckpointError(
        f"paper.yaml: the {stage} stage starts from Stable Diffusion 1.5. Give --pretrained sd15/{file}.safetensors, "
        "which import_weights.yaml makes (docs/training.md), or --pretrained False to start from scratch."
    )


def load_tensors(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, on the CPU."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Any]:
    """The open file; what cannot be read raises a :class:`CheckpointError`."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}). Copy or train it again.") from error
