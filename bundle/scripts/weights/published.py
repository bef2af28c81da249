"""Opening weights of other projects: safetensors, pickled checkpoints, diffusers' folders. No code in them is run.

Tensors are memory-mapped where the format allows it, so only those that are used are read.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from scripts.files import read_mapping
from scripts.weights.checkpoints import CheckpointError, load_tensors

FOLDERS = {"autoencoder": "vae", "unet": "unet", "transformer": "transformer"}
"""Subfolder of each network in a diffusers pipeline."""

_FOLDER_FILES = tuple(
    f"diffusion_pytorch_model.{ending}" for ending in ("safetensors", "safetensors.index.json", "bin", "bin.index.json")
)

_OTHER_FILES = (r"\.safetensors$", r"\.safetensors\.index\.(\w+\.)?json$", r"\.bin$", r"\.bin\.index\.(\w+\.)?json$")
"""Variants such as ``.fp16``, and other names: the file, or the index of several, preferred in this order."""

_SHARD = r"-\d{5}-of-(\d{5})\."

_BOOKKEEPING = {"pytorch_lightning", "lightning", "lightning_fabric", "numpy"}
"""Packages whose objects published checkpoints hold beside the weights; they are replaced by :class:`_Inert`."""


def open_weights(path: str | Path, part: str) -> dict[str, Tensor]:
    """The tensors of a weights file by their names, on the CPU.

    Args:
        path: a safetensors file, a pickled checkpoint (``.ckpt``, ``.pt``, ``.pth``, ``.bin``), the index of weights in
            several files (``*.index.json``), a diffusers pipeline's folder or the folder of one of its networks.
        part: ``autoencoder``, ``unet`` or ``transformer``; of a pipeline, its folder is opened.

    Raises:
        CheckpointError: the file is absent, damaged, one of several, or would run code when opened.
    """
    file = weights_file(path, part)
    if file.suffix != ".json":
        return _tensors(file)
    places = _index(file)
    shards = {name: _tensors(file.with_name(name)) for name in sorted(set(places.values()))}
    if lost := [f"{name} is not in {shard}" for name, shard in places.items() if name not in shards[shard]]:
        raise CheckpointError(f"{file}: {lost[0]}, where it says so ({len(lost)} such tensors). Copy the folder again.")
    return {name: shards[shard][name] for name, shard in places.items()}


def weights_file(path: str | Path, part: str) -> Path:
    """The weights file at or in ``path``, or the index of several; arguments as of :func:`open_weights`.

    Of a folder it is diffusers' file of whole precision; where that is not there, the only other one.
    """
    path = Path(path)
    if path.is_dir():
        path = _file_in(path / FOLDERS[part] if (path / FOLDERS[part]).is_dir() else path)
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such file. Expected a .safetensors or .ckpt file, or diffusers' folder with "
            f"{_FOLDER_FILES[0]}."
        )
    if (shard := re.search(_SHARD, path.name)) and int(shard[1]) > 1:
        raise CheckpointError(
            f"{path}: is one of {int(shard[1])} files that hold the weights together. Give their index (*.index.json), "
            "or the folder that has it and all of them."
        )
    return path


def neighbouring_config(path: str | Path, part: str) -> dict[str, Any]:
    """The content of diffusers' ``config.json`` beside the weights; empty where there is none."""
    file = weights_file(path, part).with_name("config.json")
    return read_mapping(file, CheckpointError) if file.is_file() else {}


def _file_in(folder: Path) -> Path:
    """The weights file in the folder of one network; the name that it should have where there is none."""
    names = sorted(each.name for each in folder.iterdir())
    shards = [name for name in names if re.search(_SHARD, name)]
    kinds = [[name for name in _FOLDER_FILES if name in names][:1]]
    kinds += [[name for name in names if re.search(kind, name) and name not in shards] for kind in _OTHER_FILES]
    found = next((kind for kind in kinds if kind), [*shards, _FOLDER_FILES[0]][:1])
    if len(found) > 1:
        raise CheckpointError(
            f"{folder}: has {', '.join(found)}, and no {_FOLDER_FILES[0]}. Give the file that is meant."
        )
    return folder / found[0]


def _index(path: Path) -> dict[str, str]:
    """The file of each tensor, by the index of weights in several files, which all lie beside it."""
    places = read_mapping(path, CheckpointError).get("weight_map")
    if (
        not isinstance(places, dict)
        or not places
        or any(not name or Path(str(name)).name != name for name in places.values())
    ):
        raise CheckpointError(f"{path}: not a readable index. Expected weight_map, from tensors to files beside it.")
    names = set(places.values())
    if missing := sorted(name for name in names if not path.with_name(name).is_file()):
        raise CheckpointError(
            f"{path}: {', '.join(missing)} is not beside it, of {len(names)} files that hold the "
            "weights together. Copy the folder again, whole."
        )
    return places


def _tensors(file: Path) -> dict[str, Tensor]:
    return load_tensors(file) if file.suffix == ".safetensors" else _pickled(file)


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
