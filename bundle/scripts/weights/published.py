"""Opening weights of other projects: safetensors, pickled checkpoints, diffusers' folders. No code in them is run.

Tensors are memory-mapped where the format allows it, so only those that are used are read.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from scripts.weights.checkpoints import CheckpointError, load_tensors

FOLDERS = {"autoencoder": "vae", "unet": "unet"}
"""Subfolder of each network in a diffusers pipeline."""

_FOLDER_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")

_BOOKKEEPING = {"pytorch_lightning", "lightning", "lightning_fabric", "numpy"}
"""Packages whose objects published checkpoints hold beside the weights; they are replaced by :class:`_Inert`."""


def open_weights(path: str | Path, part: str) -> dict[str, Tensor]:
    """The tensors of a weights file by their names, on the CPU.

    Args:
        path: a safetensors file, a pickled checkpoint (``.ckpt``, ``.pt``, ``.pth``, ``.bin``), a diffusers pipeline's
            folder or the folder of one of its networks.
        part: ``autoencoder`` or ``unet``; of a pipeline, its folder is opened.

    Raises:
        CheckpointError: the file is absent, damaged, or would run code when opened.
    """
    file = weights_file(path, part)
    return load_tensors(file) if file.suffix == ".safetensors" else _pickled(file)


def weights_file(path: str | Path, part: str) -> Path:
    """The weights file at or in ``path``; arguments as of :func:`open_weights`."""
    path = Path(path)
    if path.is_dir():
        folder = path / FOLDERS[part] if (path / FOLDERS[part]).is_dir() else path
        files = [folder / name for name in _FOLDER_FILES] + sorted(folder.glob("*.safetensors"))
        path = next((file for file in files if file.is_file()), files[0])
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such file. Expected a .safetensors or .ckpt file, or diffusers' folder with "
            f"{_FOLDER_FILES[0]}."
        )
    return path


def neighbouring_config(path: str | Path, part: str) -> dict[str, Any]:
    """The content of diffusers' ``config.json`` beside the weights; empty where there is none."""
    file = weights_file(path, part).with_name("config.json")
    return json.loads(file.read_text()) if file.is_file() else {}


class _Inert:
    """A placeholder for objects of a checkpoint that are not tensors."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def _pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickled checkpoint, opened with ``weights_only=True``."""
    try:
        if not zipfile.is_zipfile(path):  # before PyTorch 1.6; cannot be mapped
            return _only_mapping(torch.load(path, map_location="cpu", weights_only=True), path)
        others = get_unsafe_globals_in_checkpoint(path)
        if strangers := sorted(name for name in others if name.split(".")[0] not in _BOOKKEEPING):
            raise CheckpointError(
                f"{path}: refused, since opening it would run {', '.join(strangers)}. Use a .safetensors file, or save "
                "its state dict alone with torch.save."
            )
        with safe_globals([(_Inert, name) for name in others]):  # type: ignore[list-item]
            return _only_mapping(torch.load(path, map_location="cpu", mmap=True, weights_only=True), path)
    except CheckpointError:
        raise
    except (RuntimeError, ValueError, EOFError, UnpicklingError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({reason}). Was it copied whole? Expected a file of torch.save or "
            ".safetensors."
        ) from error


def _only_mapping(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint's content, which is itself one or has one as an entry."""
    if isinstance(content, Mapping):
        entries = {"": content, **{key: value for key, value in content.items() if isinstance(value, Mapping)}}
        found: dict[str, dict[str, Tensor]] = {}
        for key, entry in entries.items():
            if tensors := {name: value for name, value in entry.items() if torch.is_tensor(value)}:
                found[key] = tensors
        for key in ("", "state_dict", *(found if len(found) == 1 else ())):
            if key in found:
                return found[key]
        if found:
            raise CheckpointError(
                f"{path}: holds several state dicts ({', '.join(sorted(found))}). Save the one that is meant alone."
            )
    raise CheckpointError(f"{path}: holds no tensors by name. Expected a state dict.")
